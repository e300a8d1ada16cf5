"""The simulations of one study, in study order, as a source of a run.

Owns which of them are still to run. What a simulation is stands in `study`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from modelops_ray.core.ranges import Ranges
from modelops_ray.session.ports import Segments, TheEnd
from modelops_ray.study.chunk import Simulation
from modelops_ray.study.simulations import Simulations

_SEGMENTS_AT_ONCE = 2048


class StudySource:
    """Hands out what is not done yet; it knows its end, and never says `NotYet`."""

    def __init__(self, simulations: Simulations, done: Ranges, only: Ranges | None = None) -> None:
        """Leave out the positions that are `done`, and with `only` all others but these."""
        self._simulations = simulations
        self._segments = simulations.segments(done if only is None else done | only.complement(len(simulations)))

    def next(self) -> Segments | TheEnd:
        """Return the next segments."""
        segments = tuple(islice(self._segments, _SEGMENTS_AT_ONCE))
        return Segments(segments) if segments else TheEnd()

    def take(self, positions: Sequence[int]) -> tuple[Simulation, ...]:
        """Return the simulations at these positions."""
        return self._simulations.take(positions)
