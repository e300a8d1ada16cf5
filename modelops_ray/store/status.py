"""How far a run is, and how the states of its shards add up to one.

Owns the values only; they are read by `reader`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is. `heartbeat_age_s` is None before the first heartbeat, `ending` None unless it ended properly.

    `counters` are what the session said of itself last; all other numbers come from the commits.
    Of a run in shards, `shards` are the states of those that have begun, by `I/N`, and `missing` are the others.
    """

    total: int
    completed: int
    failed: int
    causes: Mapping[str, int]
    running: bool
    heartbeat_age_s: float | None
    heartbeat: datetime | None
    host: str | None
    pid: int | None
    ending: str | None
    counters: Mapping[str, JsonValue]
    shards: Mapping[str, Status] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether every simulation has a row."""
        return self.completed + self.failed == self.total


def together(shards: Mapping[str, Status], missing: Iterable[str], total: int) -> Status:
    """Add up the states of shards; host and pid are of the latest heartbeat, `ending` is what all have."""
    states, missing = list(shards.values()), tuple(missing)
    last = min(states, key=lambda one: (not one.running, one.heartbeat_age_s is None, one.heartbeat_age_s))
    endings = {state.ending for state in states}
    causes: Counter[str] = Counter()
    for state in states:
        causes.update(state.causes)
    return replace(
        last,
        total=total,
        completed=sum(state.completed for state in states),
        failed=sum(state.failed for state in states),
        causes=dict(sorted(causes.items())),
        running=any(state.running for state in states),
        ending=endings.pop() if len(endings) == 1 and not missing else None,
        counters=_counters([state.counters for state in states]),
        shards=shards,
        missing=missing,
    )


_LARGEST = {"elapsed_seconds", "wall_seconds", "peak_bytes_max", "request_bytes_max", "driver_peak_rss_bytes"}
_SMALLEST = {"seconds_to_first_commit"}


def _counters(every: Iterable[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
    """Add up amounts, and take the largest or smallest of extremes; texts are left out."""
    found: dict[str, list[float]] = {}
    for counters in every:
        for name, value in counters.items():
            if isinstance(value, int | float):
                found.setdefault(name, []).append(value)
    ways: Mapping[str, Callable[[list[float]], float]] = dict.fromkeys(_LARGEST, max) | dict.fromkeys(_SMALLEST, min)
    return {name: round(ways.get(name, sum)(values), 3) for name, values in found.items()}
