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
from benchmarks.scenarios import Case, Layout, at_once

BASE = "pool"


def order(engines: Sequence[str], repeat: int, *, against_pool: bool = True) -> list[str]:
    """The pool, the others starting with another one every time, and the pool again."""
    others = [name for name in engines if name != BASE]
    at = repeat % max(1, len(others))
    turned = [*others[at:], *others[:at]]
    if not against_pool:
        return turned
    return [BASE, *turned, BASE] if others else [BASE]


def run_round(
    case: Case,
    names: Sequence[str],
    repeat: int,
    tell: Callable[[Record], None],
    keep: Callable[[list[Record]], None],
) -> None:
    """Run one case with every engine, in this order, and keep what was measured, however it ends."""
    run_id = secrets.token_hex(4)
    records: list[Record] = []
    try:
        for name in names:
            records.append(measure(ENGINES[name], case, run_id, repeat))
            tell(records[-1])
    finally:
        keep(with_efficiency(records, case.need_bytes))


def with_efficiency(records: Sequence[Record], need_bytes: int = 0) -> list[Record]:
    """Compare every engine with the pools of its round, where a simulation needs `need_bytes`."""
    pools = [
        record for record in records if record.engine == BASE and record.per_second and record.outcome == "complete"
    ]
    if not pools:
        return list(records)
    base = mean(record.per_second or 0.0 for record in pools)
    return [_compared(record, base * _larger(record, pools[0], need_bytes)) for record in records]


def _compared(record: Record, per_second: float) -> Record:
    if not record.per_second:
        return record
    return record.model_copy(update={"efficiency": round(record.per_second / per_second, 4)})


def _larger(record: Record, pool: Record, need_bytes: int) -> float:
    """How many times as many simulations the pods of an engine hold at once as those of the pool."""
    return _held(record, need_bytes) / _held(pool, need_bytes)


def _held(record: Record, need_bytes: int) -> int:
    layout = Layout(record.pods, record.pod_bytes, record.slots)
    return record.pods * record.slots if record.pod_bytes is None else at_once(layout, need_bytes)
