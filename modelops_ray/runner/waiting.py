"""The simulations of a chunk that wait for a child, and how many of the next ones one child may be given together.

Owns their order, and which of them are run alone, because it has to be found out which one did harm. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from modelops_ray.sandbox.protocol import Work
from modelops_ray.study.chunk import Simulation

MAX_WORK_CHARACTERS = 16 * 2**20


class Waiting:
    """Simulations in line, by position.

    `suspects` may have sent what is no answer, or were running when the server ended; `at_its_end` are the latter.
    """

    def __init__(self) -> None:
        self.suspects: set[int] = set()
        self.at_its_end: set[int] = set()
        self._line: deque[Simulation] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._line)

    def add(self, simulations: Iterable[Simulation]) -> None:
        """Put simulations at the end of the line."""
        self._line.extend(simulations)

    def put_back(self, simulations: Sequence[Simulation]) -> None:
        """Put simulations at the head of the line, unless it is closed."""
        if not self._is_closed:
            self._line.extendleft(reversed(simulations))

    def close(self) -> None:
        """Empty the line, and leave what is put back to later chunks."""
        self._is_closed = True
        self._line.clear()

    def sets(self, n: int) -> list[int]:
        """The parameter sets of the next `n`."""
        return [simulation.set_index for simulation in islice(self._line, n)]

    def together(self, n: int) -> int:
        """How many of the next `n` one child may be given: a suspect runs alone, so that it is known which it was."""
        n = affordable(islice(self._line, n))
        for at, simulation in enumerate(islice(self._line, n) if self.suspects else ()):
            if simulation.position in self.suspects:
                return max(1, at)
        return n

    @property
    def next_is_suspect(self) -> bool:
        """Whether the next one is run in a child that has run nothing."""
        return self._line[0].position in self.suspects

    def take(self, n: int) -> list[Simulation]:
        """Take the next `n` out of the line."""
        return [self._line.popleft() for _ in range(n)]


def affordable(simulations: Iterable[Simulation]) -> int:
    """How many of these a child may be given at once for the size of their parameters; the first one always."""
    sets: set[int] = set()
    n = n_characters = 0
    for simulation in simulations:
        if simulation.set_index not in sets:
            sets.add(simulation.set_index)
            n_characters += sum(len(value) for value in simulation.params.values() if isinstance(value, str))
        if n and n_characters > MAX_WORK_CHARACTERS:
            break
        n += 1
    return n


def work_of(
    simulations: Iterable[Simulation], scenario: str, outputs: Sequence[str] | None, *, measure: bool, marks: bool
) -> Work:
    """What a child is given to run these; parameters that several share travel once."""
    sets: dict[int, int] = {}
    params: list[dict[str, Any]] = []
    runs = []
    for simulation in simulations:
        if simulation.set_index not in sets:
            sets[simulation.set_index] = len(params)
            params.append(dict(simulation.params))
        runs.append((sets[simulation.set_index], simulation.seed))
    return Work(scenario, outputs, measure, marks, params, runs)
