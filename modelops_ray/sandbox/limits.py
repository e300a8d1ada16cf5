"""Which of the children on a node have to end for the memory they use; pure.

Owns the decisions. Does not kill; what children use is `family`'s business.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

PRESSURE = 0.88
"""Share of a node's memory above which a child is killed."""
CRAWLING_STALL = 0.4
"""Share of the time in which all processes wait for pages, above which a node crawls."""
CRAWLING_FAULTS_PER_S = 1000.0
CRAWLING_FILL = 0.7
CRAWLING_S = 3.0
KILLED = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
"""Killed by signal 9, as the kernel tells it and as shells do."""


class Limit(NamedTuple):
    """What a child may use: one that is hard holds always, a soft one only while its node is short of memory.

    More than `cap_bytes` none may use, soft or not; None for any.
    """

    limit_bytes: int
    is_hard: bool
    cap_bytes: int | None = None

    @property
    def hard_bytes(self) -> int | None:
        """A child that uses more is killed although there is memory left; None for never."""
        return self.limit_bytes if self.is_hard else self.cap_bytes


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
    """Return the readings of children that are killed at once."""
    limited = ((reading, reading.limit.hard_bytes) for reading in readings)
    return [reading for reading, hard_bytes in limited if hard_bytes is not None and reading.used_bytes > hard_bytes]


def to_relieve(
    readings: Iterable[Reading], node_used_bytes: int, node_limit_bytes: int, *, crawls: bool = False
) -> Reading | None:
    """The one to kill where the node is short of memory: the furthest above its limit.

    None if no child is above; where the node `crawls`, the nearest to its limit then, or no child would get on.
    """
    if not crawls and node_used_bytes <= PRESSURE * node_limit_bytes:
        return None
    worst = max(readings, key=lambda reading: reading.excess_bytes, default=None)
    return worst if worst is not None and (crawls or worst.excess_bytes > 0) else None


class Strain(NamedTuple):
    """Counters of the kernel that tell endless reclaim; `stalled_s` is None where it does not keep that one."""

    now_s: float
    stalled_s: float | None
    major_faults: int
    fill: float


@dataclass
class Crawl:
    """Tells when a node has done little but wait for memory for some seconds."""

    last: Strain | None = None
    since_s: float | None = None

    def update(self, now: Strain) -> bool:
        """Take in what the counters say now, and say whether the node crawls."""
        last, self.last = self.last, now
        if last is None or not _is_strained(last, now):
            self.since_s = None
            return False
        if self.since_s is None:
            self.since_s = last.now_s
        return now.now_s - self.since_s >= CRAWLING_S

    def relieved(self) -> None:
        """A child was killed: begin to count anew how long the node crawls."""
        self.since_s = None


def _is_strained(last: Strain, now: Strain) -> bool:
    seconds = now.now_s - last.now_s
    if now.fill < CRAWLING_FILL or seconds <= 0:
        return False
    if (now.stalled_s or 0.0) - (last.stalled_s or 0.0) > CRAWLING_STALL * seconds:
        return True
    # The machine's stall says nothing of one cgroup of several; its own page faults do.
    return now.major_faults - last.major_faults > CRAWLING_FAULTS_PER_S * seconds
