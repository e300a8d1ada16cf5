"""How many simulations one child runs; pure.

A child starts from the state of a freshly imported model, which is what keeps simulations from each other. So one runs
one simulation, unless that is short against what a child costs; and never more than a few parameter sets, because
models with state in C are known to go wrong after some. What a child costs is its fork and its end, and what its first
simulation takes longer than later ones: a model imports, compiles and first writes to pages on its first run.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

SHARED_COSTS = 20
"""A simulation that takes this many times what a child costs has one of its own, whose cost is then a twentieth."""
LIFE_COSTS = 100
"""A child that several shorter ones share is replaced once it has run for this many times what it cost."""
TRIED_S = 5.0
"""Of simulations shorter than this, a few children are given a second one, to see what the first took longer."""
N_TRIED = 4
"""From this many children it is decided whether sharing pays; one alone may be chance."""
N_REMEMBERED = 16
MAX_SETS = 3
BATCH_S = 0.1
MAX_BATCH = 500
_WEIGHT = 0.2


@dataclass(slots=True)
class Served:
    """What one child has run so far; `sets` are the parameter sets, `first_s` is what its first simulation took."""

    n: int = 0
    seconds: float = 0.0
    sets: frozenset[int] = frozenset()
    first_s: float = 0.0

    def and_then(self, seconds: Sequence[float], sets: AbstractSet[int]) -> Served:
        """Add simulations of these parameter sets that took so long each, in order."""
        first_s = self.first_s if self.n else seconds[0]
        return Served(self.n + len(seconds), self.seconds + sum(seconds), self.sets | sets, first_s)


@dataclass(slots=True)
class Sharing:
    """What forks and simulations were measured to take, and the rule that follows.

    `per_child` is fixed where it is given. `goes_on` is for children that are expensive to start: they are given back
    instead of replaced. `simulation_s` is one that is not a child's first, as far as is known.
    """

    per_child: int | None = None
    goes_on: bool = False
    fork_s: float = 0.01
    simulation_s: float | None = None
    _longer_s: deque[float] = field(default_factory=lambda: deque(maxlen=N_REMEMBERED))

    def forked(self, seconds: float) -> None:
        """Learn what a fork took, from asking for it to its first answer less simulations; its end takes as much."""
        self.fork_s += _WEIGHT * (2 * seconds - self.fork_s)

    def simulated(self, served: Served, seconds: Sequence[float]) -> None:
        """Learn what simulations of a child took, in order, after it had `served`; not empty."""
        later = seconds if served.n else seconds[1:]
        if not served.n:
            self._learn_first(seconds[0])
        if later:
            mean_s = statistics.fmean(later)
            if served.n <= 1:
                self._learn_pair(served.first_s if served.n else seconds[0], mean_s)
            self._average(mean_s)

    def _learn_first(self, seconds: float) -> None:
        """Count it less what firsts take longer; while that is not known, only where it is less than what is known."""
        steady_s = max(0.0, seconds - self.warming_s)
        if self.simulation_s is None or self._is_tried or steady_s < self.simulation_s:
            self._average(steady_s)

    def _learn_pair(self, first_s: float, later_s: float) -> None:
        if not self._longer_s:
            self.simulation_s = later_s
        self._longer_s.append(first_s - later_s)

    def _average(self, seconds: float) -> None:
        self.simulation_s = (
            seconds if self.simulation_s is None else (1 - _WEIGHT) * self.simulation_s + _WEIGHT * seconds
        )

    @property
    def _is_tried(self) -> bool:
        return len(self._longer_s) >= N_TRIED

    @property
    def warming_s(self) -> float:
        """What the first simulation of a child takes longer, of which three in four pairs are sure; 0 while unknown.

        Where simulations of a set differ, the first of two is longer as often as not, and this stays at nothing.
        """
        return max(0.0, statistics.quantiles(self._longer_s, n=4)[0]) if self._is_tried else 0.0

    @property
    def life_s(self) -> float | None:
        """How long a child is to run simulations; 0 where that is no reason for longer chunks, None while unknown."""
        if self.goes_on:
            return 0.0
        if self.per_child is not None:
            return self.per_child * (self.simulation_s or 0.0)
        if self._is_shared:
            return LIFE_COSTS * self._cost_s
        return None if self._is_trying else 0.0

    @property
    def _cost_s(self) -> float:
        return self.fork_s + self.warming_s

    @property
    def _is_shared(self) -> bool:
        return self.simulation_s is not None and self.simulation_s < SHARED_COSTS * self._cost_s

    @property
    def _is_trying(self) -> bool:
        return not self._is_tried and (self.simulation_s is None or self.simulation_s < TRIED_S)

    def batch(self, served: Served, waiting: Sequence[int], n_children: int) -> int:
        """How many simulations a child that has run `served` is to be given next; 0 to replace it.

        `waiting` has the parameter set of each waiting simulation, in order, and is not empty; `n_children` share them.
        """
        if self.per_child is not None:
            room = self.per_child - served.n
        elif self.goes_on:
            room = MAX_BATCH
        else:
            room = self._room(served)
        if served.n == 0:
            room = max(1, room)
        if room < 1:
            return 0
        n = max(1, min(room, self._per_message(), -(-len(waiting) // n_children)))
        return n if self.per_child is not None or self.goes_on else _within_sets(served.sets, waiting[:n])

    def _room(self, served: Served) -> int:
        """How many more fit into the life of a child."""
        if not self._is_shared:
            return (2 if self._is_trying else 1) - served.n
        left_s = LIFE_COSTS * self._cost_s - served.seconds
        if left_s <= 0:
            return 0
        # Rounded up: a child is replaced once it has run for as long, not when the next would make it longer.
        return math.ceil(left_s / max(self.simulation_s or 0.0, 1e-6))

    def _per_message(self) -> int:
        if self.simulation_s is None:
            return 1
        return max(1, min(MAX_BATCH, int(BATCH_S / max(self.simulation_s, 1e-6))))


def _within_sets(sets: frozenset[int], waiting: Sequence[int]) -> int:
    seen = set(sets)
    for n, one in enumerate(waiting):
        seen.add(one)
        if len(seen) > MAX_SETS:
            return n
    return len(waiting)
