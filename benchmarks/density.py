"""Memory per simulation in flight, with Starsim imported: ours, and one process per simulation.

Simulations build and run a small epidemic, then hold it until everyone is there; the machine is told it has 64 CPUs.
Every engine runs in a memory cgroup of its own. PSS counts what is shared by many processes once, so its sum is what
they take together; the peak of the cgroup also has the pages of files that the kernel could take back.
`python -m benchmarks.density`
"""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import modelops_ray as mr
from benchmarks.cgroups import MemoryCgroup, memory_cgroup
from benchmarks.record import keep

CPUS = 64
IN_FLIGHT = (4, 8, 16, 32, 64)
REPLICATES = 6
PATIENCE_S = 900.0
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


def run_ours(n: int, folder: str) -> None:
    """Run a study with `n` simulations in flight on a Ray that was told it has 64 CPUs."""
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    sets = {"set": list(range(n)), "folder": [f"{folder}/holding"], "together": [n], "hold_s": [6.0]}
    study = mr.Study.grid(sets, replicates=REPLICATES)
    found = mr.run(
        study, model="benchmarks.holding:hold", progress=True, out=f"{folder}/run", limit_cpus=CPUS, cpus=CPUS / n
    )
    assert found.summary["completed"] == n * REPLICATES, found.summary


def run_processes(n: int, folder: str) -> None:
    """Run as many processes of plain Python, each with the model imported and one simulation."""
    tasks = [({"folder": f"{folder}/holding", "together": n, "hold_s": 20.0}, i) for i in range(n)]
    from benchmarks.holding import hold

    with multiprocessing.get_context("spawn").Pool(n) as pool:
        pool.starmap(import_model, [()] * n, chunksize=1)
        pool.starmap(hold, tasks, chunksize=1)


def import_model() -> None:
    """Be kept from taking a second simulation before the other processes have started."""
    import benchmarks.holding  # noqa: F401

    time.sleep(1)


ENGINES: dict[str, Callable[[int, str], None]] = {"modelops-ray": run_ours, "process": run_processes}


def measure(engine: str, n: int) -> dict[str, Any]:
    """Run one engine in a cgroup of its own, and look at its memory whenever all simulations hold theirs."""
    with memory_cgroup() as group, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        holding = Path(folder) / "holding"
        holding.mkdir()
        command = [*group.entering, sys.executable, "-m", "benchmarks.density", engine, str(n), folder]
        began_s = time.monotonic()
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": folder})
            looks = []
            while process.poll() is None:
                assert time.monotonic() - began_s < PATIENCE_S, f"{engine} {n} does not end"
                if len(list(holding.iterdir())) >= n:
                    looks.append(look(group))
                time.sleep(0.5)
        said = Path(folder, "log").read_text()[-3000:]
        assert process.returncode == 0, said
        assert looks, said
        # The first round measures: what counts is how it goes on.
        last = looks[len(looks) // 2 :]
        return {
            "engine": engine,
            "in_flight": n,
            "pss_bytes": median(one["pss_bytes"] for one in last),
            "processes": median(one["processes"] for one in last),
            "cgroup_peak_bytes": group.peak_bytes,
            "looks": len(looks),
            "seconds": round(time.monotonic() - began_s, 1),
        }


def look(group: MemoryCgroup) -> dict[str, int]:
    """Sum what all processes of a cgroup have."""
    shares = []
    for pid in group.processes():
        with suppress(OSError):
            shares.append(int(_PSS.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes())[0]) * 1024)
    return {"pss_bytes": sum(shares), "processes": len(shares)}


def line(rows: list[dict[str, Any]], engine: str, kind: str) -> dict[str, float]:
    """Fit fixed bytes and bytes per further simulation."""
    own = [row for row in rows if row["engine"] == engine]
    slope, fixed = np.polyfit([row["in_flight"] for row in own], [row[kind] for row in own], 1)
    return {"fixed_bytes": round(fixed), "per_simulation_bytes": round(slope)}


def main(sizes: tuple[int, ...] = IN_FLIGHT) -> None:
    """Measure all engines at all sizes, interleaved."""
    rows = []
    for n in sizes:
        for engine in ENGINES:
            rows.append(measure(engine, n))
            print(rows[-1], file=sys.stderr, flush=True)
    lines = {
        f"{engine} {kind}": line(rows, engine, f"{kind}_bytes") for engine in ENGINES for kind in ("pss", "cgroup_peak")
    }
    keep("density", {"cpus_told": CPUS, "rows": rows, **lines})


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ENGINES:
        ENGINES[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
    else:
        main(tuple(map(int, sys.argv[1:])) or IN_FLIGHT)
