"""Repeats of one engine at one point, brought together to a row; pure. Owns what a row says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.records import Record
from benchmarks.stats import Spread, spread

WORST_FIRST = ("failed", "stuck", "incomplete", "complete")


@dataclass(frozen=True)
class Row:
    """What all runs of an engine at one point of a scenario came to.

    The outcome is the worst, kills are the most of any run, rates are of complete runs only; `middle` is the run in the
    middle of those with this outcome.
    """

    scenario: str
    point: float | None
    engine: str
    outcome: str
    done: int
    simulations: int
    rate: Spread | None
    efficiency: Spread | None
    kernel_kills: int
    engine_kills: int
    repeats: int
    middle: Record

    def cells(self) -> list[str]:
        """What a table shows."""
        return [
            "" if self.point is None else f"{self.point:g}",
            self.engine,
            self.outcome,
            f"{self.done}/{self.simulations}",
            "-" if self.rate is None else number(self.rate.median),
            "-" if self.efficiency is None else f"{self.efficiency.median:.2f}",
            str(self.kernel_kills + self.engine_kills),
            self.remark(),
        ]

    def remark(self) -> str:
        """Say how far repeats differ."""
        if self.efficiency is None or self.repeats == 1:
            return ""
        low, high = self.efficiency.low, self.efficiency.high
        return f"{low:.2f}-{high:.2f}" + (" unstable" if self.efficiency.is_unstable else "")


def rows(records: Iterable[Record]) -> list[Row]:
    """Bring records together, in order of scenario, point and engine as they came."""
    groups: dict[tuple[str, float | None, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.scenario, record.point, record.engine), []).append(record)
    return [_row(group) for group in groups.values()]


def _row(group: Sequence[Record]) -> Row:
    outcome = min((record.outcome for record in group), key=WORST_FIRST.index)
    # What came of a few simulations out of many says nothing about a rate.
    complete = [record for record in group if record.outcome == "complete"]
    rates = [record.per_second for record in complete if record.per_second]
    efficiencies = [record.efficiency for record in complete if record.efficiency]
    first = group[0]
    worst = [record for record in group if record.outcome == outcome]
    middle = sorted(worst, key=lambda record: (record.done, record.per_second or 0.0))[len(worst) // 2]
    return Row(
        first.scenario,
        first.point,
        first.engine,
        outcome,
        middle.done,
        first.simulations,
        spread(rates) if rates else None,
        spread(efficiencies) if efficiencies else None,
        max(record.kernel_kills for record in group),
        max(record.engine_kills for record in group),
        len(group),
        middle,
    )


def number(value: float) -> str:
    """Write a rate with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
