"""`ray-plain`: Ray as its first tutorial uses it: everything submitted at once, no `memory=`, Ray's own retries."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

from benchmarks.calling import call, value_of
from benchmarks.engines.base import Engine
from benchmarks.engines.raylets import is_ray_worker, join, raylets
from benchmarks.job import Job

LOOK_AT = 1000


def work(job: Job) -> None:
    """Submit everything and take results as they come."""
    import grpc  # type: ignore[import-untyped]
    import ray
    from ray._private.internal_api import get_memory_info_reply
    from ray._private.state import state

    if job.address:
        join(job.address, job.layout)
    else:
        ray.init(num_cpus=job.layout.slots, include_dashboard=False, log_to_driver=False, configure_logging=False)
    job.ready()
    remote = ray.remote(call)
    positions = {remote.remote(job.case.model, task.params, task.seed): i for i, task in enumerate(job.tasks)}
    later, waiting = deque(positions), list[Any]()
    while later or waiting:
        # Not at all of them: each look would take as long as there are many.
        waiting += [later.popleft() for _ in range(min(len(later), LOOK_AT - len(waiting)))]
        ready, waiting = ray.wait(waiting, num_returns=min(len(waiting), 100), timeout=0.1)
        for ref in ready:
            position = positions.pop(ref)
            try:
                job.finish(position, value_of(ray.get(ref)))
            except ray.exceptions.RayError as error:
                job.lose(f"{type(error).__name__}: {error}")
    with suppress(AssertionError, grpc.RpcError):  # no raylet is alive, or one that seems so
        stores = get_memory_info_reply(state, timeout_seconds=5).store_stats
        job.facts["spilled_bytes"] = int(stores.spilled_bytes_total)


ENGINES = (Engine("ray-plain", "everything submitted at once, no memory=", raylets, work, is_worker=is_ray_worker),)
