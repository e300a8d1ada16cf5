"""A million simulations on a thousand simulated nodes: how fast decisions are made, and how good they are.

The real decision core against a simulated cluster, in virtual time and in one process; nothing is run.
`uv run python -m benchmarks.core_scale [SIMULATIONS NODES]` prints the figures and adds them to `records/figures`.
"""

from __future__ import annotations

import gc
import random
import sys
import time
import tracemalloc
from typing import Any

from benchmarks.records import keep
from modelops_ray.core.policy import Policy
from modelops_ray.core.state import RunState
from tests.support.simulated_cluster import Cluster, Result, Workload

MIB = 2**20
NODE = (8.0, 16 * 2**30)
REPLICATES = 30
LARGE_SHARE = 0.1
MEAN_S = 10.0


def workload(n: int, sigma: float = 0.3) -> Workload:
    """Run times lognormal by parameter set, 20 % around that by replicate; a tenth of the sets needs 5 x the memory."""
    rng = random.Random(1)
    seconds: list[float] = []
    peaks: list[int] = []
    for _ in range(-(-n // REPLICATES)):
        set_s = MEAN_S * rng.lognormvariate(0, sigma)
        set_bytes = 200 * MIB * (5 if rng.random() < LARGE_SHARE else 1)
        for _ in range(REPLICATES):
            seconds.append(set_s * rng.uniform(0.8, 1.2))
            peaks.append(int(set_bytes * rng.uniform(0.9, 1.05)))
    return Workload(seconds[:n], peaks[:n], REPLICATES)


def simulate(work: Workload, n_nodes: int) -> tuple[RunState, Result]:
    """Run a study to its end."""
    state = RunState(Policy())
    return state, Cluster(state, work, [NODE] * n_nodes).run()


def speed(n: int, n_nodes: int) -> dict[str, Any]:
    """Time one study; `makespan_ratio` is against the shortest time there could be."""
    work = workload(n)
    # Neither side makes cycles, and the collector would walk the simulated world again and again: a fifth of the time.
    gc.disable()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    state, result = simulate(work, n_nodes)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    gc.enable()
    bound_s = max(sum(work.seconds) / (n_nodes * int(NODE[0])), *work.seconds)
    return {
        "simulations": n,
        "nodes": n_nodes,
        "committed": state.counters.committed,
        "oom_retries": state.counters.oom_retries,
        "wall_seconds": round(wall_s, 2),
        "cpu_seconds": round(cpu_s, 2),
        "events_per_cpu_second": round(result.n_events / cpu_s),
        "makespan_ratio": round(result.makespan_s / bound_s, 4),
    }


def state_bytes(n: int, n_nodes: int) -> int:
    """Bytes that the core holds half way through a study."""
    work = workload(n)
    cluster = Cluster(RunState(Policy()), work, [NODE] * n_nodes)
    seen: list[int] = []
    core_only = tracemalloc.Filter(inclusive=True, filename_pattern="*/modelops_ray/core/*")

    def look() -> None:
        traces = tracemalloc.take_snapshot().filter_traces([core_only]).traces
        seen.append(sum(trace.size for trace in traces))

    cluster.at(0.5 * sum(work.seconds) / (n_nodes * NODE[0]), look)
    tracemalloc.start()
    cluster.run()
    tracemalloc.stop()
    return seen[0]


def main(n: int = 1_000_000, n_nodes: int = 1_000) -> None:
    """Measure, print and keep."""
    figures = speed(n, n_nodes)
    small, large = n // 40, n // 5
    grown_bytes = state_bytes(large, n_nodes // 10) - state_bytes(small, n_nodes // 10)
    keep("core_scale", figures | {"state_bytes_per_simulation": round(grown_bytes / (large - small), 2)})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
