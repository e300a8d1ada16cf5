"""What will go wrong in one study, drawn from a seed: which faults, after how long, for how long.

Everything is decided here but which of several processes of a kind is hit: that depends on which there are then.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What goes wrong."""

    KILL_DRIVER = "kill driver"
    KILL_CHILD = "kill child"
    KILL_SERVER = "kill fork server"
    KILL_WORKER = "kill worker"
    KILL_RAYLET = "kill raylet"
    KILL_GCS = "kill GCS"
    STOP_DRIVER = "stop driver"
    STOP_CHILD = "stop child"
    STOP_SERVER = "stop fork server"
    STOP_WORKER = "stop worker"
    STOP_RAYLET = "stop raylet"
    STOP_GCS = "stop GCS"
    INTERRUPT = "interrupt driver"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `after_s` is counted from the recovery of the one before it, or from that one itself if `at_once`."""

    kind: Kind
    after_s: float
    lasts_s: float
    at_once: bool
    chance: float

    def __str__(self) -> str:
        """Say it in a line."""
        since = "the fault before" if self.at_once else "the last recovery"
        lasting = "" if self.kind.startswith("kill") else f", for {self.lasts_s:.1f} s"
        return f"{self.kind}, {self.after_s:.1f} s after {since}{lasting}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """One study and its faults. A parameter set in ten raises an exception if `has_failures`."""

    seed: int
    n_sets: int
    n_replicates: int
    has_failures: bool
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        """Tell it, a line per fault."""
        head = f"seed {self.seed}: {self.n_sets} sets of {self.n_replicates}" + ", some raise" * self.has_failures
        return "\n".join([head, *(f"  {fault}" for fault in self.faults)])


def draw(seed: int, kinds: Collection[Kind] = tuple(Kind)) -> Schedule:
    """Draw a study with three to six faults, of these kinds."""
    chance = random.Random(seed)
    faults = tuple(
        Fault(
            kind=chance.choice(sorted(kinds)),
            after_s=chance.uniform(0.0, 2.5),
            lasts_s=chance.choice((0.3, 1.0, 3.0, 5.0)),
            at_once=chance.random() < 0.2,
            chance=chance.random(),
        )
        for _ in range(chance.randint(3, 6))
    )
    return Schedule(seed, chance.choice((60, 90, 100)), 2, chance.random() < 0.3, faults)
