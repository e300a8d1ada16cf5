"""The process table of this machine: one process, all that one has started, and which child each of them belongs to.

Owns reading `/proc/<pid>/stat` and the kernel's lists of children. What processes use is read by `measure`. Runs in the
model's interpreter; standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_STAT_BYTES = 4096
_NOT_SHOWN = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Of a process that has ended, or that is another user's where those are hidden."""


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

    @property
    def has_ended(self) -> bool:
        """Whether it is in the table only until its parent has waited for it."""
        return self.state in {"Z", "X"}


def process(pid: int, proc: Path = _PROC) -> Process | None:
    """Look one process up; None once it has ended, and where it is hidden, as others' are in some places."""
    try:
        return existing(pid, proc)
    except PermissionError:
        return None


def existing(pid: int, proc: Path = _PROC) -> Process | None:
    """Look one process up; None once it has ended, PermissionError where it is hidden."""
    try:
        fields = _stat(pid, proc)
        stack = int(fields[25]) if len(fields) > 25 else 0
        return Process(pid, int(fields[1]), int(fields[2]), fields[0].decode(), int(fields[19]), stack)
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None


def page_faults(pid: int, proc: Path = _PROC) -> int:
    """Return how often a process touched a page for the first time, or copied one; 0 once it has ended."""
    try:
        return int(_stat(pid, proc)[7])
    except (*_NOT_SHOWN, IndexError):
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

    By the kernel's lists of children, one for every thread of the family, and not of other processes; the whole process
    table where the kernel keeps none. What outlives its parent must be handed on to `ancestor`, or is lost; the numbers
    `known` are looked up by themselves, since what is being handed on is in no list.
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
    with suppress(*_NOT_SHOWN):
        for thread in os.listdir(f"{proc}/{pid}/task"):  # noqa: PTH208 (of every child, often)
            path = f"{proc}/{pid}/task/{thread}/children"
            with suppress(*_NOT_SHOWN), open(path, "rb", buffering=0) as file:  # noqa: PTH123 (as often)
                found += map(int, file.readall().split())
    return found


def newest_pid(proc: Path = _PROC) -> int | None:
    """Return the number that was given to a process or thread last; None where that is not told."""
    try:
        with open(f"{proc}/loadavg", "rb", buffering=0) as file:  # noqa: PTH123 (often)
            return int(file.read(_STAT_BYTES).split()[4])
    except (OSError, IndexError, ValueError):
        return None


def families(heads: Collection[int], table: Iterable[Process], known: Mapping[int, int]) -> dict[int, list[int]]:
    """Return by head the processes of its group, its descendants, and those that an earlier look counted with it.

    `heads` are process numbers of children, which lead their groups; `table` has all processes that may be among them;
    `known` has the head by process number, from an earlier look.
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


def is_process(pid: int) -> bool:
    """Whether a number is that of a process, and not of a thread of one."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123 (of every one that is started)
            return b"\nTgid:\t%d\n" % pid in file.read(_STAT_BYTES)
    except OSError:
        return False
