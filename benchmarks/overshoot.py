"""How far a simulation gets beyond its hard limit before it is held, by the way it goes about it.

Every case runs alone in a memory cgroup of its own, with `--max-memory` far below what the model takes; the highest use
of the cgroup less that of a simulation that takes nothing, and less the limit, is the overshoot.
`python -m benchmarks.overshoot`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import modelops_ray as mr
from benchmarks.cgroups import MemoryCgroup, memory_cgroup
from benchmarks.records import keep

MIB = 2**20
LIMIT_MIB = 400
TAKEN_MIB = 3000
STEP_MIB = 8


def nothing(_seed: int) -> None:
    """Take no memory worth a word."""


def at_once(_seed: int) -> None:
    """Touch everything as fast as memory can be had."""
    np.ones(TAKEN_MIB * MIB // 8)


def slowly(_seed: int) -> None:
    """Leak 160 MiB a second."""
    held = []
    for _ in range(TAKEN_MIB // STEP_MIB):
        held.append(np.ones(STEP_MIB * MIB // 8))
        time.sleep(0.05)


def in_grandchildren(_seed: int) -> None:
    """Have ten processes take it, and wait for them."""
    for _ in range(10):
        if os.fork() == 0:
            held = np.ones(TAKEN_MIB // 10 * MIB // 8)
            time.sleep(60 + held[0])
    time.sleep(60)


def in_a_daemon(_seed: int) -> None:
    """Fork a process of a session of its own that takes it, and go on for a while as if nothing had happened."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            slowly(0)
        os._exit(0)
    time.sleep(20)


def deaf(seed: int) -> None:
    """Ignore every signal that can be ignored, and leak."""
    import signal

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    slowly(seed)


CASES = {one.__name__: one for one in (nothing, at_once, slowly, in_grandchildren, in_a_daemon, deaf)}


def take(params: Mapping[str, Any], seed: int) -> dict[str, int]:
    """Go about it as the parameter says."""
    CASES[params["how"]](seed)
    return {"seed": seed}


def run(how: str, folder: str) -> None:
    """Run one such simulation, and print how it ended."""
    os.environ["XDG_CACHE_HOME"] = folder
    study = mr.Study.grid({"how": [how]}, replicates=1)
    limits: dict[str, Any] = {"max_memory": f"{LIMIT_MIB}Mi", "limit_memory": "8Gi", "limit_cpus": 1}
    done = mr.run(study, model="benchmarks.overshoot:take", out=f"{folder}/run", progress=False, attempts=1, **limits)
    (row,) = done.simulations().to_pylist()
    print(json.dumps({key: row[key] for key in ("status", "cause", "peak_bytes", "seconds")}))


def measure(how: str) -> dict[str, Any]:
    """Run one case in a cgroup of its own and look at what its processes have made, every few milliseconds."""
    with memory_cgroup() as group, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        watch = _Watch(group)
        watch.start()
        ended = subprocess.run(
            [*group.entering, sys.executable, "-m", "benchmarks.overshoot", how, folder],
            capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": folder},
        )  # fmt: skip
        watch.is_over = True
        watch.join()
        assert ended.returncode == 0, ended.stderr
        row = json.loads(ended.stdout.splitlines()[-1])
    return {"how": how, "used_bytes": watch.most_bytes, **row}


class _Watch(threading.Thread):
    """Remembers the most anonymous memory that a cgroup ever had."""

    def __init__(self, group: MemoryCgroup) -> None:
        super().__init__(daemon=True)
        self._stat = group.path / "memory.stat"
        self.most_bytes = 0
        self.is_over = False

    def run(self) -> None:
        """Look until it is over."""
        while not self.is_over:
            self.most_bytes = max(self.most_bytes, self._used_bytes())
            time.sleep(0.002)

    def _used_bytes(self) -> int:
        pairs = (line.split() for line in self._stat.read_text().splitlines())
        return sum(int(value) for key, value in pairs if key in ("rss", "anon"))


def main(rounds: int = 3) -> None:
    """Run all cases, interleaved."""
    rows = [measure(how) for _ in range(rounds) for how in CASES]
    least = max(row["used_bytes"] for row in rows if row["how"] == "nothing")
    over: dict[str, list[float]] = {}
    for row in rows:
        over.setdefault(row["how"], []).append(round((row["used_bytes"] - least) / MIB - LIMIT_MIB, 1))
    del over["nothing"]
    keep("overshoot", {"limit_mib": LIMIT_MIB, "taken_mib": TAKEN_MIB, "overshoot_mib": over, "rows": rows})


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in CASES:
        run(sys.argv[1], sys.argv[2])
    else:
        main(*map(int, sys.argv[1:]))
