"""The watch of a node: who belongs to the children of a fork server, and which of them have to end for what they use.

Owns living children as processes, and enforcement: hard limits at once; then, where the node is short of memory, one
child at a time. What is too much is decided by `limits`, which is pure; what a child and its own use, by `family` and
`segments`. Does not know what a child runs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .board import Board
from .family import Family, ServerMemory
from .limits import PRESSURE, Crawl, Limit, Reading, Strain, over_hard_limit, to_relieve
from .machine import MemoryBounds, kernel_kills, memory_strain
from .measure import resident_parts
from .pidfd import send_signal
from .processes import Process, descendants, families, is_process, newest_pid, process
from .segments import Folder, Segments, held_by
from .stacks import ask_for_stack

SCAN_EVERY_S = 0.25
STRAIN_EVERY_S = 0.5
ENDING_S = 5.0
UNLIMITED = Limit(2**62, is_hard=False)
MOST_NEWCOMERS = 300
"""At most this many processes are looked up one by one; more are left to the next scan."""
SHARED_STEP_BYTES = 2 * 2**20
TOKEN = "MODELOPS_RAY_CHILD"  # noqa: S105 (no secret: the name of a variable)
"""The variable that tells which child started a program, wherever that program went."""
_MIB = 2**20


@dataclass(eq=False)
class Child:
    """A living child; `peak_bytes` is the most that was seen of it and its own in the simulation it is in.

    `token` and the inode of its board tell what it started from what others did.
    """

    pid: int
    pidfd: int
    board: Board
    limit: Limit
    folder: str
    workplace: str
    family: Family
    segments: Segments
    token: str
    board_inode: int
    started_ticks: int
    kills_before: int | None
    kept_fds: tuple[int, ...] = ()
    n_served: int = 0
    unmapped_bytes: int = 0
    peak_bytes: int = 0
    reason: str = ""
    _stage: tuple[int, float] = (0, 0.0)
    _left_bytes: int = 0
    _used_bytes: int = 0

    def reading(self, *, exactly: bool = False) -> Reading:
        """Look at it; the peak is that of the simulation it is in."""
        stage = self.board.state
        hard_bytes = self.limit.hard_bytes
        if hard_bytes is not None:
            hard_bytes -= self.unmapped_bytes
        is_new = stage != self._stage
        if is_new:
            self._stage, self.peak_bytes, self.family.high_bytes = stage, 0, 0
        used_bytes = self.family.used_bytes(hard_bytes, exactly=exactly) + self.unmapped_bytes
        if is_new:
            # What those before it in this process have left is not what it adds, but what it has started by now is.
            self._left_bytes = min(self._used_bytes, used_bytes - self.family.others_bytes(stage[1]))
        self._used_bytes = used_bytes
        self.peak_bytes = max(self.peak_bytes, used_bytes, self.family.high_bytes)
        if self.family.others or self.unmapped_bytes:
            self.board.tell_seen(max(0, self.peak_bytes - self._left_bytes), stage[1])
        return Reading(self.pid, used_bytes, self.limit)

    def arm(self, limit: Limit, base_bytes: int | None = None) -> None:
        """Hold it to a limit above these bytes; above what it has now, where none are given."""
        self.limit, self.peak_bytes, self._used_bytes = limit, 0, 0
        self.family.rebase(base_bytes)

    def kill(self, reason: str, *, is_to_tell: bool = False) -> None:
        """End it and everything it started; one that `is_to_tell` writes its stack before that."""
        if is_to_tell and not self.reason:
            ask_for_stack(self.pid, self.pidfd)
        self.reason = self.reason or reason
        with suppress(ProcessLookupError):
            send_signal(self.pidfd, signal.SIGKILL)
        self.kill_others()

    def close_kept(self) -> None:
        """Let go of the descriptors that a supervisor was sent copies of."""
        for fd in self.kept_fds:
            os.close(fd)
        self.kept_fds = ()

    def kill_others(self) -> None:
        """End everything it started; it has not been waited for, so no other group can have its number."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid, other in self.family.others.items():
            if (found := process(pid)) is not None and found.started_ticks == other.started_ticks:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


class Enforcer:
    """Holds children to their limits; `kernel_kills` is what the kernel had counted at the last scan."""

    def __init__(self, node_bytes: int) -> None:
        """Begin to watch; all of them together may use `node_bytes`, 0 for what the node has."""
        self._node_bytes = node_bytes
        self._memory = MemoryBounds()
        self._crawl = Crawl()
        self._scanned_s = self._strained_s = time.monotonic()
        # What the model's import started is part of the model.
        of_model = [one for one in descendants(os.getpid()) if one.parent == os.getpid()]
        self._of_model = {one.pid for one in of_model}
        self.kernel_kills = kernel_kills()
        self.server = ServerMemory()
        self._n_model_forks = sum(one.stack == self.server.stack for one in of_model)
        self.shared_files = Folder()
        self._inherited = held_by(os.getpid())
        self._shared_bytes, self._next_segments_s = -SHARED_STEP_BYTES, 0.0
        self._newest = newest_pid()

    def most_data_bytes(self) -> int:
        """More than this no child could ever have: asking for it fails in the child, before a page is touched."""
        bounds = [bound.limit_bytes for bound in self._memory.read()]
        return min([*bounds, self._node_bytes or bounds[0]]) + resident_parts().made_bytes + 2**30

    def scan(self, children: Mapping[int, Child]) -> int | None:
        """Find what children started, and end what outlived them; say how many those were, None if it is not time."""
        newcomers = self._newcomers()
        if time.monotonic() - self._scanned_s <= SCAN_EVERY_S:
            if newcomers:
                self._adopt(children, newcomers)
            return None
        self.kernel_kills = kernel_kills()
        table = descendants(os.getpid(), [pid for one in children.values() for pid in one.family.others])
        alive = {(one.pid, one.started_ticks) for one in table}
        for one in children.values():
            one.family.keep(alive)
        self._adopt(children, table)
        kept = {*self._of_model, *(pid for one in children.values() for pid in one.family.others)}
        ours = [one for one in table if one.parent == os.getpid() and one.pid not in children]
        orphans = [one for one in ours if one.pid not in kept or one.has_ended]
        for orphan in orphans:
            _end(orphan)
        self.server.n_forks = self._n_model_forks + sum(one.family.n_forks for one in children.values())
        self.server.n_groups = sum(bool(one.family.others) for one in children.values())
        self._scanned_s = time.monotonic()
        return len(orphans)

    def _newcomers(self) -> list[Process]:
        """Return what processes there are of those that were numbered since the last time; none where that is not told.

        A process may be over before the next scan, and what it used with it.
        """
        newest, last = newest_pid(), self._newest
        self._newest = newest
        if newest is None or last is None or not last < newest <= last + MOST_NEWCOMERS:
            return []
        return [found for pid in range(last + 1, newest + 1) if (found := process(pid)) is not None]

    def _adopt(self, children: Mapping[int, Child], table: Sequence[Process]) -> None:
        """Have every process counted with the child that it belongs to."""
        known = {pid: one.pid for one in children.values() for pid in one.family.others}
        by_pid = {one.pid: one for one in table}
        for one in table:
            is_stray = one.parent == os.getpid() and one.pid not in children and one.pid not in self._of_model
            if is_stray and one.pid not in known and (head := _head_of_stray(one.pid, children)) is not None:
                known[one.pid] = head
        for head, others in families(children, table, known).items():
            for pid in others:
                if pid in children[head].family.others or is_process(pid):
                    children[head].family.take_in(by_pid[pid])
                    children[head].segments.pids.add(pid)

    def _measure_segments(self, children: Mapping[int, Child]) -> None:
        """Find what is in shared memory that no process has mapped, where there is more or less of any than before."""
        shared_bytes = self._memory.shared_bytes
        if abs(shared_bytes - self._shared_bytes) < SHARED_STEP_BYTES or time.monotonic() < self._next_segments_s:
            return
        began_s = time.thread_time()
        self._shared_bytes = shared_bytes
        now = self.shared_files.names()
        for one in children.values():
            pids = (one.pid, *one.family.others)
            one.unmapped_bytes = one.segments.unmapped_bytes(pids, now, self._inherited)
        # Others on this machine may change it all the time: not more than a tenth of the time goes to looking.
        self._next_segments_s = time.monotonic() + 10 * (time.thread_time() - began_s)

    def hold(self, children: Mapping[int, Child], own_bytes: int, end_idle_child: Callable[[], bool]) -> None:
        """Kill who is over a hard limit; short of memory, end a child that no supervisor uses, else kill the worst.

        `children` are all, by process number; `own_bytes` is what the server and the supervisors use; `end_idle_child`
        ends a child that no supervisor uses, and says whether there was one.
        """
        self._measure_segments(children)
        readings = [one.reading() for one in children.values()]
        for reading in over_hard_limit(readings):
            hard_bytes = reading.limit.hard_bytes or 0
            children[reading.pid].kill(
                f"it used {_mib(reading.used_bytes)}, over its limit of {_mib(hard_bytes)}", is_to_tell=True
            )
        if any(one.reason for one in children.values()):
            return  # their pages first
        bounds = self._bounds(own_bytes + sum(reading.used_bytes for reading in readings))
        crawls = self._crawls(max(used_bytes / limit_bytes for limit_bytes, used_bytes in bounds))
        if any(used_bytes > PRESSURE * limit_bytes for limit_bytes, used_bytes in bounds):
            # What was copied of the server's pages is seen by exact looks only.
            readings = [one.reading(exactly=True) for one in children.values()]
        for limit_bytes, used_bytes in bounds:
            worst = to_relieve(readings, used_bytes, limit_bytes, crawls=crawls)
            if worst is None:
                continue
            if not end_idle_child():
                self._crawl.relieved()
                children[worst.pid].kill(_why(worst, crawls=crawls), is_to_tell=True)
            return

    def _bounds(self, ours_bytes: int) -> list[tuple[int, int]]:
        """What bounds this node's memory, and how much of each is used."""
        bounds = [(bound.limit_bytes, bound.used_bytes) for bound in self._memory.read()]
        return [*bounds, (self._node_bytes, ours_bytes)] if self._node_bytes else bounds

    def _crawls(self, fill: float) -> bool:
        now_s = time.monotonic()
        if now_s - self._strained_s <= STRAIN_EVERY_S:
            return False
        self._strained_s = now_s
        stalled_s, major_faults = memory_strain()
        return self._crawl.update(Strain(now_s, stalled_s, major_faults, fill))


def end_all() -> None:
    """Kill every child of this process, and the orphans of theirs that the kernel makes its children."""
    deadline_s = time.monotonic() + ENDING_S
    while time.monotonic() < deadline_s:
        left = [one for one in descendants(os.getpid()) if one.parent == os.getpid()]
        if not left:
            return
        for one in left:
            _end(one)
        time.sleep(0.005)


def _head_of_stray(pid: int, children: Mapping[int, Child]) -> int | None:
    """Find out which child started a process that left its group and whose parents have ended.

    A program has the environment of its starter; a fork has mapped the board of the child it was forked from.
    """
    environ, maps = _read(f"/proc/{pid}/environ"), _read(f"/proc/{pid}/maps")
    inodes = {int(line.split(None, 5)[4]) for line in maps.splitlines() if b"/board" in line}
    for one in children.values():
        if one.board_inode in inodes or f"{TOKEN}={one.token}\0".encode() in environ:
            return one.pid
    return None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _end(one: Process) -> None:
    """Wait for one that has ended; kill one that has not."""
    if one.has_ended:
        with suppress(ChildProcessError):
            os.waitpid(one.pid, os.WNOHANG)
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, signal.SIGKILL)


def _why(worst: Reading, *, crawls: bool) -> str:
    where = "crawled for want of memory" if crawls else "was short of memory"
    return f"it used {_mib(worst.used_bytes)} of {_mib(worst.limit.limit_bytes)} asked for when the node {where}"


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / _MIB:,.0f} MiB"
