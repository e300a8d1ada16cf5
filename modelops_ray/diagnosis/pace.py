"""What bounded a session, from what it said of itself when it ended; and the one option that moves it.

Owns the choice of what to name. The file it is read from may say anything: what is no number of seconds is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelops_ray.core.bounds import Bound
from modelops_ray.session.summary import BOUNDS

_MOST = 2.0**60


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each thing bound a session, the longest first, and how wide it was; sizes in bytes.

    `cpus_each` is what one simulation asked for. What is not known is 0.
    """

    seconds: Mapping[Bound, float]
    n_running_max: int
    n_nodes: int
    cpus: float
    memory_bytes: int
    largest_node_bytes: int
    request_bytes_max: int
    peak_bytes_max: int
    cpus_each: float

    @property
    def main(self) -> Bound:
        """What bound it for the longest time."""
        return next(iter(self.seconds))

    @property
    def share(self) -> float:
        """For which part of the time that was."""
        return self.seconds[self.main] / sum(self.seconds.values())

    @property
    def asks_too_much(self) -> bool:
        """Whether requests were far above what simulations used."""
        return bool(self.peak_bytes_max) and self.request_bytes_max > 2 * self.peak_bytes_max


def pace_of(counters: Mapping[str, Any], config: Mapping[str, Any]) -> Pace | None:
    """Read what bound the last session; None where it did not say, as one that was killed, or had nothing to do."""
    told = counters.get(BOUNDS)
    if not isinstance(told, Mapping) or not isinstance(told.get("seconds"), Mapping):
        return None
    seconds = {bound: _amount(told["seconds"], str(bound)) for bound in Bound}
    by_length = {bound: s for bound, s in sorted(seconds.items(), key=lambda item: -item[1]) if s > 0}
    if not by_length:
        return None
    return Pace(
        by_length,
        int(_amount(told, "running_max")),
        int(_amount(told, "nodes")),
        _amount(told, "cpus"),
        int(_amount(told, "memory_bytes")),
        int(_amount(told, "largest_node_bytes")),
        int(_amount(counters, "request_bytes_max")),
        int(_amount(counters, "peak_bytes_max")),
        _amount(config, "cpus"),
    )


def _amount(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < _MOST else 0.0
