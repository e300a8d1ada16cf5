"""What a child of the fork server costs: asked for, given one empty simulation, answered, gone and waited for.

One after the other, with Starsim imported, and with nothing but NumPy and pyarrow.
`python -m benchmarks.forking [CHILDREN]`
"""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.records import keep
from modelops_ray.model.resolve import resolve_model
from modelops_ray.runner.forkserver_client import Connection
from modelops_ray.runner.server_start import Wanted, connect
from modelops_ray.runner.waiting import work_of
from modelops_ray.sandbox import wire
from modelops_ray.sandbox.limits import Limit
from modelops_ray.sandbox.protocol import work_bytes
from modelops_ray.study.chunk import Simulation

MODELS = {"starsim": "benchmarks.idle_starsim:simulate", "numpy": "benchmarks.models:noop"}
WORK = work_bytes(work_of([Simulation(0, 0, {"x": 1.0}, "0" * 64, 0, 1)], "baseline", None, marks=False, measure=False))
SECOND_S = 1.0


def one_child(connection: Connection) -> tuple[float, float]:
    """Have one child; return the seconds until it answered, and until it was gone."""
    began_s = time.perf_counter()
    lent = connection.child(Limit(2**30, is_hard=False), worker_bytes=0)
    lent.channel.sendall(WORK)
    answer = wire.receive(lent.channel)
    answered_s = time.perf_counter()
    assert answer is not None
    lent.channel.close()
    while connection.end_of(lent.pid) is None:
        select.select([connection], [], [])
        connection.hear()
    return answered_s - began_s, time.perf_counter() - began_s


def measure(name: str, n: int) -> dict[str, Any]:
    """Have `n` children of one model, after ten that do not count."""
    model = resolve_model(MODELS[name], Path.cwd())
    connection = connect(Wanted(model, 1.0, "fork"))
    times = [one_child(connection) for _ in range(n + 10)][10:]
    connection.close()
    answered, gone = ([1000 * row[i] for row in times] for i in (0, 1))
    return {
        "model": name,
        "server_private_mib": round(connection.private_bytes / 2**20, 1),
        "answered_ms": round(median(answered), 2),
        "gone_ms": round(median(gone), 2),
        "gone_ms_p95": round(quantiles(gone, n=20)[-1], 2),
        "share_of_a_second": round(median(gone) / 1000 / (SECOND_S + median(gone) / 1000), 4),
    }


if __name__ == "__main__":
    children = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    keep("forking", {"children": children, "rows": [measure(name, children) for name in MODELS]})
