"""Who of the children on a node has to go, and what each of them uses.

Owns the decision, which is pure, and reading `/proc`. Does not kill.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PRESSURE = 0.88
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


class Limit(NamedTuple):
    """What a child may use; a hard limit holds always, a soft one only while its node is short of memory."""

    limit_bytes: int
    is_hard: bool


@dataclass(frozen=True)
class Reading:
    """What a child and everything it started use now, above what it was born with."""

    pid: int
    used_bytes: int
    limit: Limit

    @property
    def excess_bytes(self) -> int:
        """How far it is over its limit; negative within."""
        return self.used_bytes - self.limit.limit_bytes


def over_hard_limit(readings: Iterable[Reading]) -> list[Reading]:
    """Those that are killed at once."""
    return [reading for reading in readings if reading.limit.is_hard and reading.excess_bytes > 0]


def to_relieve(readings: Iterable[Reading], node_used_bytes: int, node_limit_bytes: int) -> Reading | None:
    """The one to kill where the node is short of memory: the furthest above its limit; None if nobody is above."""
    if node_used_bytes <= PRESSURE * node_limit_bytes:
        return None
    worst = max(readings, key=lambda reading: reading.excess_bytes, default=None)
    return worst if worst is not None and worst.excess_bytes > 0 else None


def resident_bytes(pid: int, proc: Path = _PROC) -> int:
    """Resident memory of a process; 0 once it has gone."""
    try:
        return int((proc / str(pid) / "statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def members(groups: Collection[int], proc: Path = _PROC) -> Mapping[int, list[int]]:
    """The processes of some process groups, without their leaders."""
    found: dict[int, list[int]] = {group: [] for group in groups}
    for entry in os.scandir(proc):
        if entry.name.isdecimal() and int(entry.name) not in found:
            group = _group_of(Path(entry.path))
            if group in found:
                found[group].append(int(entry.name))
    return found


def _group_of(process: Path) -> int:
    try:
        # The name before it may hold spaces and brackets.
        return int((process / "stat").read_bytes().rpartition(b")")[2].split()[2])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
