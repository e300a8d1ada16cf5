"""A driver of its own process: starts an embedded Ray, runs what the arguments name, prints the end as one line.

Called as `python -m support.ray_driver ACTION`; ACTION is `kill`, `eat` or `hang`.
"""

from __future__ import annotations

import json
import sys

from support.toy_chunks import chunk, run_chunk

from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect

CHUNKS = {"kill": {"kill": True}, "eat": {"eat_mib": 6000}, "hang": {"sleep_s": 600}}


def main(action: str) -> None:
    """Run one chunk that fails in the way named, next to one that does nothing."""
    with connect(None, environ={}, limit_memory_bytes=2 * 2**30, limit_cpus=2) as cluster:
        backend = RayBackend(run_chunk, cluster)
        backend.submit(chunk(1, **CHUNKS[action]))
        if action == "hang":
            print("ready", flush=True)  # noqa: T201
        [event] = iter(backend.wait(120.0))
        backend.close()
    ended = {"cause": event.cause, "kernel_killed": event.kernel_killed, "used_bytes": event.used_bytes}
    print(json.dumps(ended))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
