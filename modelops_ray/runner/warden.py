"""The watch of a node: what the children of a fork server use, and which of them have to end for it.

Owns living children as processes, and enforcement: hard limits at once; then, where the node is short of memory, one
child at a time. What is too much is decided by `watch`, which is pure. Does not know what a child runs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ..machine import MemoryBounds, kernel_kills, memory_strain
from ..pidfd import send_signal
from .board import Board
from .measure import resident_parts
from .watch import Crawl, Limit, Process, Reading, Strain, Use, descendants, families, over_hard_limit, to_relieve

SCAN_EVERY_S = 0.25
STRAIN_EVERY_S = 0.5
ENDING_S = 5.0
UNLIMITED = Limit(2**62, is_hard=False)
_MIB = 2**20


@dataclass(eq=False)
class Child:
    """A living child; `peak_bytes` is the most that was seen of it and its own above `base_bytes`."""

    pid: int
    pidfd: int
    board: Board
    limit: Limit
    folder: str
    base_bytes: int
    started_ticks: int
    kills_before: int | None
    kept_fds: tuple[int, ...] = ()
    n_served: int = 0
    others: dict[int, Use] = field(default_factory=dict)
    peak_bytes: int = 0
    reason: str = ""
    _stage: tuple[int, float] = (0, 0.0)

    def reading(self) -> Reading:
        """Look at it; the peak is that of the simulation it is in."""
        stage = self.board.state
        if stage != self._stage:
            self._stage, self.peak_bytes = stage, 0
        own_bytes = resident_parts(self.pid).made_bytes - self.base_bytes
        used_bytes = max(0, own_bytes) + sum(other.bytes() for other in self.others.values())
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        return Reading(self.pid, used_bytes, self.limit)

    def kill(self, reason: str) -> None:
        """End it and everything it started."""
        self.reason = self.reason or reason
        with suppress(ProcessLookupError):
            send_signal(self.pidfd, signal.SIGKILL)
        self.kill_others()

    def kill_others(self) -> None:
        """End everything it started; it has not been waited for, so the number of its group is nobody else's."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in self.others:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


class Warden:
    """Holds children to their limits; `kernel_kills` is what the kernel had counted at the last scan."""

    def __init__(self, node_bytes: int) -> None:
        """Begin to watch; all of them together may use `node_bytes`, 0 for what the node has."""
        self._node_bytes = node_bytes
        self._memory = MemoryBounds()
        self._crawl = Crawl()
        self._scanned_s = self._strained_s = time.monotonic()
        # What the model's import started is part of the model.
        self._spared = {one.pid for one in descendants(os.getpid()) if one.parent == os.getpid()}
        self.kernel_kills = kernel_kills()

    def most_data_bytes(self) -> int:
        """More than this no child could ever have: asking for it fails in the child, before a page is touched."""
        bounds = [bound.limit_bytes for bound in self._memory.read()]
        return min([*bounds, self._node_bytes or bounds[0]]) + resident_parts().made_bytes + 2**30

    def scan(self, everybody: Mapping[int, Child]) -> int | None:
        """Find what children started, and end what outlived them; say how many those were, None if it is not time."""
        if time.monotonic() - self._scanned_s <= SCAN_EVERY_S:
            return None
        self.kernel_kills = kernel_kills()
        known = {pid: one.pid for one in everybody.values() for pid in one.others}
        table = descendants(os.getpid(), known)
        for pid, others in families(everybody, table, known).items():
            one = everybody[pid]
            one.others = {other: one.others.get(other) or Use(other) for other in others}
        kept = {*self._spared, *(other for one in everybody.values() for other in one.others)}
        ours = [one for one in table if one.parent == os.getpid() and one.pid not in everybody]
        orphans = [one for one in ours if one.pid not in kept or one.state == "Z"]
        for orphan in orphans:
            _lay_to_rest(orphan)
        self._scanned_s = time.monotonic()
        return len(orphans)

    def hold(self, everybody: Mapping[int, Child], own_bytes: int, spare_one: Callable[[], bool]) -> None:
        """Kill who is over a hard limit; short of memory, let one go that nobody uses, else kill the worst.

        Args:
            everybody: All children by process number.
            own_bytes: What the server and the supervisors use.
            spare_one: Ends a child that nobody uses, and says whether there was one.
        """
        readings = [one.reading() for one in everybody.values()]
        for reading in over_hard_limit(readings):
            hard_bytes = reading.limit.hard_bytes or 0
            everybody[reading.pid].kill(f"it used {_mib(reading.used_bytes)}, over its limit of {_mib(hard_bytes)}")
        if any(one.reason for one in everybody.values()):
            return  # their pages first
        bounds = self._bounds(own_bytes + sum(reading.used_bytes for reading in readings))
        crawls = self._crawls(max(used_bytes / limit_bytes for limit_bytes, used_bytes in bounds))
        for limit_bytes, used_bytes in bounds:
            worst = to_relieve(readings, used_bytes, limit_bytes, crawls=crawls)
            if worst is None:
                continue
            if not spare_one():
                self._crawl.relieved()
                everybody[worst.pid].kill(_why(worst, crawls=crawls))
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
        return self._crawl.look(Strain(now_s, stalled_s, major_faults, fill))


def end_all() -> None:
    """Kill every child of this process, and whatever comes to it when they end."""
    deadline_s = time.monotonic() + ENDING_S
    while time.monotonic() < deadline_s:
        left = [one for one in descendants(os.getpid()) if one.parent == os.getpid()]
        if not left:
            return
        for one in left:
            _lay_to_rest(one)
        time.sleep(0.005)


def _lay_to_rest(one: Process) -> None:
    """Wait for one that has ended; kill one that has not."""
    if one.state == "Z":
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
