"""Simulations per second, recorded to Parquet, against a warmed `multiprocessing` pool that keeps nothing.

Rounds are interleaved (pool, ours, pool, ours ...), so that drift hits both; the pool against itself is the noise.
Start-up is apart on both sides: the pool has imported the model, and ours counts from its first result.
`python -m benchmarks.throughput [noop|busy|growth] ...`; every round is a run directory of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modelops_ray as mr
from benchmarks.models import busy, noop
from benchmarks.record import keep
from modelops_ray.core.forecast import Forecast
from modelops_ray.driver import Snapshot

WORKERS = 2


@dataclass
class Stopwatch:
    """Watches a session: what was done when."""

    notes: list[str] = field(default_factory=list)
    first: tuple[float, int] | None = None
    last: tuple[float, int] = (0.0, 0)
    most_outstanding: int = 0
    own_bytes: int = 0

    def note(self, text: str) -> None:
        """Keep a sentence."""
        self.notes.append(text)

    def planned(self, expected: Forecast) -> None:
        """Ignore the forecast."""

    def update(self, snapshot: Snapshot) -> None:
        """Keep the first moment with a result, and the last."""
        self.most_outstanding = max(self.most_outstanding, snapshot.outstanding)
        self.own_bytes = max(self.own_bytes, _own_bytes())
        if snapshot.completed and self.first is None:
            self.first = time.perf_counter(), snapshot.completed
        self.last = time.perf_counter(), snapshot.committed

    def steady_per_second(self) -> float:
        """Results per second from the first result until everything is committed."""
        assert self.first is not None, "no result"
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])


def _own_bytes() -> int:
    """Resident memory of this process that it does not share with Ray's object store."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile"))


def ours(study: mr.Study, model: Any, **options: Any) -> tuple[float, dict[str, Any], Stopwatch]:
    """Run a study on an embedded Ray; return results per second, the summary and what was watched."""
    from modelops_ray.api import configure, run_session

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        outcome = run_session(study, model, configure(out=Path(folder) / "run", **options), watch)
        n = outcome.summary["simulations"]
        assert outcome.summary["completed"] == n, outcome
        return watch.steady_per_second(), outcome.summary, watch


def _call(task: tuple[Any, dict[str, float], int]) -> dict[str, float]:
    model, params, seed = task
    result: dict[str, float] = model(params, seed)
    return result


def pool(study: mr.Study, model: Any, chunk: int) -> float:
    """Run the same simulations on a pool that has imported the model; return results per second."""
    from modelops_ray.study.simulations import Simulations

    tasks = [(model, dict(s.params), s.seed) for s in Simulations(study)]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as workers:
        workers.map(_call, tasks[: WORKERS * 4], chunksize=1)
        began_s = time.perf_counter()
        done = sum(1 for _ in workers.imap_unordered(_call, tasks, chunksize=chunk))
        assert done == len(tasks)
        return done / (time.perf_counter() - began_s)


def measure_noop(rounds: int = 3, n: int = 100_000) -> None:
    """No-op simulations per second, recorded."""
    study = mr.Study.grid({"x": [float(i) for i in range(n // 30)]}, replicates=30)
    rates = [ours(study, noop)[0] for _ in range(rounds)]
    keep("noop", {"simulations": n // 30 * 30, "per_second": rates, "median": statistics.median(rates)})


def measure_busy(rounds: int = 5, seconds: float = 30.0) -> None:
    """Simulations of 100 and of 10 ms: ours over a pool's, a pool over itself, and a pool beside a Ray that idles."""
    for ms in (100.0, 10.0):
        sets = round(WORKERS * seconds * 1000 / ms / 30)
        study = mr.Study.grid({"ms": [ms], "x": list(range(sets))}, replicates=30)
        rows = [_round(study) for _ in range(rounds)]
        base = [(row["pool"] + row["pool_again"]) / 2 for row in rows]
        keep(
            "busy",
            {
                "ms": ms,
                "simulations": sets * 30,
                "rounds": rows,
                "ratio": statistics.median(row["ours"] / pool for row, pool in zip(rows, base, strict=True)),
                "pool_to_pool": [row["pool_again"] / row["pool"] for row in rows],
                "beside_idle_ray": statistics.median(
                    row["beside_idle_ray"] / pool for row, pool in zip(rows, base, strict=True)
                ),
            },
        )


def _round(study: mr.Study) -> dict[str, float]:
    import ray

    before = pool(study, busy, 1)
    rate, _summary, _watch = ours(study, busy)
    again = pool(study, busy, 1)
    ray.init(num_cpus=WORKERS, include_dashboard=False, configure_logging=False)
    beside = pool(study, busy, 1)
    ray.shutdown()
    return {"pool": before, "ours": rate, "pool_again": again, "beside_idle_ray": beside}


def measure_growth(sizes: tuple[int, int] = (12_000, 200_000), rounds: int = 3) -> None:
    """Driver memory per further simulation, and the chunks that were outstanding at most.

    Twice: memory of its own, and the peak of the whole process, with the pages of Ray's object store that it mapped:
    those are the store's, bounded by its size, and few before the first large commit.
    """
    rows = [_in_own_process(n) for _ in range(rounds) for n in sizes]
    grown = {
        f"{name}_per_simulation": round(_grown(rows, name) / (sizes[1] - sizes[0]), 1)
        for name in ("own_bytes", "driver_peak_rss_bytes")
    }
    keep("driver_growth", {"rows": rows, **grown})


def _grown(rows: list[dict[str, Any]], name: str) -> float:
    small, large = (statistics.median(row[name] for row in rows[i::2]) for i in (0, 1))
    return large - small


def _in_own_process(n: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.throughput", "grow", str(n)], capture_output=True, text=True, check=True
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def grow(n: int) -> None:
    """Run so many no-op simulations and print what the driver took."""
    rate, summary, watch = ours(mr.Study.grid({"x": list(map(float, range(n // 400)))}, replicates=400), noop)
    figures = {
        "simulations": n,
        "per_second": rate,
        "outstanding": watch.most_outstanding,
        "own_bytes": watch.own_bytes,
    }
    print(json.dumps(figures | {"driver_peak_rss_bytes": summary["driver_peak_rss_bytes"]}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["grow"]:
        sys.exit(grow(int(sys.argv[2])))
    scenarios = {"noop": measure_noop, "busy": measure_busy, "growth": measure_growth}
    for name in sys.argv[1:] or scenarios:
        scenarios[name]()
