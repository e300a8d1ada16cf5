"""Who of the children on a node has to go, and which processes belong to each of them.

Owns the decisions, which are pure, and reading the process table. Does not kill; what processes use is `family`'s.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
_PROC = Path("/proc")
_STAT_BYTES = 4096


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

    def look(self, now: Strain) -> bool:
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


class Process(NamedTuple):
    """One line of the process table.

    `stack` is where its program's stack begins: forks have that of the process they were forked from, and another
    program has its own.
    """

    pid: int
    parent: int
    group: int
    state: str
    started_ticks: int
    stack: int = 0


def process(pid: int, proc: Path = _PROC) -> Process | None:
    """Look one process up; None once it has ended, and where it is hidden, as others' are in some places."""
    try:
        fields = _stat(pid, proc)
        stack = int(fields[25]) if len(fields) > 25 else 0
        return Process(pid, int(fields[1]), int(fields[2]), fields[0].decode(), int(fields[19]), stack)
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
        return None


def page_faults(pid: int, proc: Path = _PROC) -> int:
    """Return how often a process touched a page for the first time, or copied one; 0 once it has ended."""
    try:
        return int(_stat(pid, proc)[7])
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
        return 0


def _stat(pid: int, proc: Path) -> list[bytes]:
    with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 (of every process, often)
        # The name before it may hold spaces and brackets.
        return file.read(_STAT_BYTES).rpartition(b")")[2].split()


def processes(proc: Path = _PROC) -> list[Process]:
    """Return the process table."""
    pids = (int(entry.name) for entry in os.scandir(proc) if entry.name.isdecimal())
    return [found for pid in pids if (found := process(pid, proc)) is not None]


def descendants(ancestor: int, known: Iterable[int] = (), proc: Path = _PROC) -> list[Process]:
    """Return a process and everything that it, and what it started, has started and that still lives.

    By the kernel's lists of children, one for every thread of the family, and not of other processes; the whole
    process table where the kernel keeps none.

    Args:
        ancestor: Its number; what outlives its parent must be handed on to it, or is lost.
        known: Numbers seen before, which are looked up by themselves: what is being handed on is in no list.
        proc: Where `/proc` is.
    """
    if not Path(f"{proc}/{ancestor}/task/{ancestor}/children").exists():
        return processes(proc)
    found: dict[int, Process] = {}
    todo = [ancestor, *known]
    while todo:
        pid = todo.pop()
        if pid not in found and (one := process(pid, proc)) is not None:
            found[pid] = one
            todo += _children(pid, proc)
    return list(found.values())


def _children(pid: int, proc: Path) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for thread in os.listdir(f"{proc}/{pid}/task"):  # noqa: PTH208 (of every child, often)
            found += _children_of_thread(f"{proc}/{pid}/task/{thread}/children")
    return found


def _children_of_thread(path: str) -> list[int]:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (of every child, often)
            return [int(pid) for pid in file.readall().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def newest_pid(proc: Path = _PROC) -> int | None:
    """Return the number that was given to a process or thread last; None where that is not told."""
    try:
        with open(f"{proc}/loadavg", "rb", buffering=0) as file:  # noqa: PTH123 (often)
            return int(file.read(_STAT_BYTES).split()[4])
    except (OSError, IndexError, ValueError):
        return None


def families(heads: Collection[int], table: Iterable[Process], known: Mapping[int, int]) -> dict[int, list[int]]:
    """Return by head the processes of its group, its descendants, and those that an earlier look counted with it.

    Args:
        heads: Process numbers of children; each leads its process group.
        table: All processes that may be among them.
        known: Head by process number, from an earlier look.
    """
    found: dict[int, list[int]] = {head: [] for head in heads}
    by_pid = {one.pid: one for one in table}
    for one in by_pid.values():
        head = _head_of(one, by_pid, found, known)
        if head is not None and head != one.pid:
            found[head].append(one.pid)
    return found


def _head_of(
    one: Process, by_pid: Mapping[int, Process], heads: Collection[int], known: Mapping[int, int]
) -> int | None:
    at: Process | None = one
    while at is not None:
        for head in (at.pid, at.group, known.get(at.pid, -1), at.parent, known.get(at.parent, -1)):
            if head in heads:
                return head
        at = by_pid.get(at.parent)
    return None
