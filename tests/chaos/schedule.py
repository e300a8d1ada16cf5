"""What will go wrong in one study, drawn from a seed: which faults, after how long, for how long.

Everything is decided here but which of several processes of a kind is hit: that depends on which there are then.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

BLOB_BYTES = 20_000_000
"""What each simulation returns where the object store is to be full: five of them fill one of 100 MB."""


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
    FULL_RUN_DISK = "full disk: run directory"
    FULL_TMP_DISK = "full disk: temporary folder and spill"
    FULL_STORE = "full object store"
    SLOW_DISK = "slow disk"
    CLOCK_BACK = "clock back: heartbeat an hour old"
    CLOCK_AHEAD = "clock ahead: heartbeat in an hour"
    RPC_FAILURES = "Ray's calls fail"
    RPC_DELAYS = "Ray's calls are late"


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
    """One study and its faults.

    A parameter set in ten raises an exception if `has_failures`; each simulation returns `blob_bytes` besides its rows.
    It runs on a cluster of two nodes and a head if `on_cluster`, else on a Ray that its driver starts.
    """

    seed: int
    n_sets: int
    n_replicates: int
    has_failures: bool
    faults: tuple[Fault, ...]
    blob_bytes: int = 0
    on_cluster: bool = False

    @property
    def kinds(self) -> set[Kind]:
        """Those that occur in it."""
        return {fault.kind for fault in self.faults}

    def __str__(self) -> str:
        """Tell it, a line per fault."""
        head = f"seed {self.seed}: {self.n_sets} sets of {self.n_replicates}" + ", some raise" * self.has_failures
        head += ", on a cluster" * self.on_cluster
        return "\n".join([head, *(f"  {fault}" for fault in self.faults)])


def draw(seed: int, kinds: Collection[Kind] = tuple(Kind), *, on_cluster: bool = False) -> Schedule:
    """Draw a study with four to eight faults, of these kinds."""
    chance = random.Random(seed)
    faults = tuple(
        Fault(
            kind=chance.choice(sorted(kinds)),
            after_s=chance.uniform(0.0, 2.5),
            lasts_s=chance.choice((0.3, 1.0, 3.0, 5.0)),
            at_once=chance.random() < 0.4,
            chance=chance.random(),
        )
        for _ in range(chance.randint(4, 8))
    )
    is_large = any(fault.kind is Kind.FULL_STORE for fault in faults)
    return Schedule(
        seed,
        n_sets=chance.choice((60, 90, 100)) // (2 if is_large else 1),
        n_replicates=2,
        has_failures=chance.random() < 0.3,
        faults=faults,
        blob_bytes=BLOB_BYTES if is_large else 0,
        on_cluster=on_cluster,
    )
