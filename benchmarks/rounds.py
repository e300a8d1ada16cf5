"""Rounds: which engine runs when, and what each gets out of the machine against the pool of the same round.

Owns the order (interleaved, the pool first and last, so that it is compared with itself before anything is compared
with it) and `efficiency`. Measures through `measure`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from statistics import mean

from benchmarks.engines import ENGINES
from benchmarks.measure import measure
from benchmarks.records import Record
from benchmarks.scenarios import Case

BASE = "pool"


def order(engines: Sequence[str], repeat: int, *, against_pool: bool = True) -> list[str]:
    """The pool, the others starting with another one every time, and the pool again."""
    others = [name for name in engines if name != BASE]
    at = repeat % max(1, len(others))
    turned = [*others[at:], *others[:at]]
    if not against_pool:
        return turned
    return [BASE, *turned, BASE] if others else [BASE]


def run_round(case: Case, names: Sequence[str], repeat: int, tell: Callable[[Record], None]) -> list[Record]:
    """Run one case with every engine, in this order."""
    run_id = secrets.token_hex(4)
    records = []
    for name in names:
        records.append(measure(ENGINES[name], case, run_id, repeat))
        tell(records[-1])
    return with_efficiency(records)


def with_efficiency(records: Sequence[Record]) -> list[Record]:
    """Compare every engine with the pools of its round."""
    pools = [record for record in records if record.engine == BASE and record.per_second]
    if not pools:
        return list(records)
    base = mean(record.per_second or 0.0 for record in pools)
    return [
        record.model_copy(update={"efficiency": _efficiency(record, base, pools[0])}) if record.per_second else record
        for record in records
    ]


def _efficiency(record: Record, base: float, pool: Record) -> float:
    """Compare a rate with the pool's: on pods twice as large twice as much is to be expected."""
    larger = (record.pod_bytes or 1) * record.pods / ((pool.pod_bytes or 1) * pool.pods)
    return round((record.per_second or 0.0) / base / larger, 4)
