"""How many simulations one child runs; pure.

A child starts from the state of a freshly imported model, which is what keeps simulations from each other. So one runs
one simulation, unless that is short against what a fork costs; and never more than a few parameter sets, because models
with state in C are known to go wrong after some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SHARED_FORKS = 20
"""A simulation that takes as many forks has a child of its own: the fork is then a twentieth of it."""
LIFE_FORKS = 50
"""A child that several shorter ones share is replaced once it has run for as many: forks cost a fiftieth of that."""
MAX_SETS = 3
BATCH_S = 0.1
MAX_BATCH = 500
_WEIGHT = 0.2


@dataclass(slots=True)
class Served:
    """What one child has run so far; `sets` are the parameter sets."""

    n: int = 0
    seconds: float = 0.0
    sets: frozenset[int] = frozenset()


@dataclass(slots=True)
class Sharing:
    """What forks and simulations were measured to take, and the rule that follows.

    `per_child` is fixed where it is given. `goes_on` is for children that are expensive to start: they are given back
    instead of replaced.
    """

    per_child: int | None = None
    goes_on: bool = False
    fork_s: float = 0.01
    simulation_s: float | None = None

    def forked(self, seconds: float) -> None:
        """Learn what a fork took, from asking for it to its first answer less simulations; its end takes as much."""
        self.fork_s += _WEIGHT * (2 * seconds - self.fork_s)

    def simulated(self, seconds: float, *, is_first: bool) -> None:
        """Learn what a simulation took; the first of a child may compile, so it only counts where it is less."""
        if self.simulation_s is None:
            self.simulation_s = seconds
        elif not is_first or seconds < self.simulation_s:
            self.simulation_s += _WEIGHT * (seconds - self.simulation_s)

    def batch(self, served: Served, waiting: Sequence[int], n_children: int) -> int:
        """How many of the waiting simulations a child is to be given next; 0 to replace it.

        Args:
            served: What it has run.
            waiting: The parameter set of each waiting simulation, in order; not empty.
            n_children: How many share what is waiting.
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
        if self.simulation_s is None or self.simulation_s >= SHARED_FORKS * self.fork_s:
            return 1 - served.n
        left_s = LIFE_FORKS * self.fork_s - served.seconds
        if left_s <= 0:
            return 0
        # Rounded up: a child is replaced once it has run for as long, not when the next would make it longer.
        return math.ceil(left_s / max(self.simulation_s, 1e-6))

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
