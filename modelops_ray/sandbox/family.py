"""How many bytes of memory a child and everything it started use: a family, with the child as its head.

Owns reading it, and how often it is worth reading exactly. Who belongs to a family is `processes`' business, what
follows from its use `enforcement`'s.

What counts is anonymous and shared memory, not the pages of files, which the kernel takes back. Of each process that
is the pages that no other process has (private), and its part of those that others have too: a page's size over the
number of processes that have it. Where these are all of one family, their parts add up to the page, once. But a fork
also has all pages of the fork server until it writes to them: those are the server's, and so is every part of them.
The parts of the server's pages in all forks together are known exactly: all of these pages less the server's own part.
Each fork has an equal share of that, as far as it still has pages in common with others. So

    used = sum over members of (private + part) - (server's pages - server's part) x forks of the family / all forks

and for a child alone, whose common pages can only be the server's, simply its private memory. A fork also copies some
pages of the server's by counting references; up to `COPIED_BYTES` of copies are a cost of the child and not counted.

Without a fork server (`--isolation none`) the head is no fork: all that it made is its own, also what its forks have in
common with it, and a fork uses its private pages and its part of what it shares beyond what it began with.

Such an exact look takes milliseconds for each process. Between two of them, a process is taken to use what the last one
found and what it has made since, which takes microseconds to read. Shared memory that a member of several has mapped
since may be there already, and counts from the next exact look on, which follows at once where all together would be
beyond the limit with it. A child alone that is within its limit is never looked at exactly, unless it may have copied
enough of the server's pages to be beyond.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from .measure import PAGE_BYTES, Pages, Rollup, resident_parts, rollup
from .processes import Process, page_faults, process
from .unseen import COPIED_BYTES

LOOK_SHARE = 0.05
"""Exact looks at all families together take at most this share of the time."""
HASTY_SHARE = 0.25
"""Exact looks at a family that may have copied itself beyond its limit, or grew meanwhile, take at most this share."""
SETTLED_BYTES = 2**20
"""A member that made no more than this during an exact look was found as it is."""
YOUNG_S = 0.5
"""Seconds after its fork within which a process becomes another program, if at all."""


@dataclass
class ServerMemory:
    """The fork server: its memory, the number of its forks that live, and of families with more than a head."""

    pid: int = field(default_factory=os.getpid)
    n_forks: int = 1
    n_groups: int = 1
    stack: int = field(init=False)
    _common_bytes: int = 0
    _looked_s: float = 0.0

    def __post_init__(self) -> None:
        """Read where its stack is: its forks, and no other program, have theirs there."""
        found = process(self.pid)
        self.stack = 0 if found is None else found.stack

    def common_bytes(self) -> int:
        """Return the bytes of its pages that count as its forks' parts, of all forks together."""
        now_s = time.monotonic()
        if now_s - self._looked_s > YOUNG_S:
            self._looked_s = now_s
            found = rollup(self.pid)
            self._common_bytes = 0 if found is None else found.shared_bytes - found.part_bytes
        return self._common_bytes


@dataclass
class Member:
    """One process: it uses `made_bytes` less `base_bytes`, which exact looks set anew.

    Of that `shmem_bytes` are shared memory, and `seen_shmem_bytes` were at the last exact look. What it uses may be
    negative for one that shares with others what it had at birth: only their sum has a meaning then.
    """

    pid: int
    stack: int
    base_bytes: int
    started_ticks: int = 0
    inherited_bytes: int = 0
    faults: int = 0
    pages: Pages = field(init=False)
    made_bytes: int = 0
    shmem_bytes: int = 0
    seen_shmem_bytes: int = 0
    since_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Prepare to read its pages."""
        self.pages = Pages(self.pid)

    @property
    def used_bytes(self) -> int:
        """Bytes that it uses, as of the last reading; 0 once it has ended."""
        return self.made_bytes - self.base_bytes if self.made_bytes else 0

    @property
    def mapped_bytes(self) -> int:
        """Shared memory that it has mapped since the last exact look: it may be there once, for several."""
        return max(0, self.shmem_bytes - self.seen_shmem_bytes) if self.made_bytes else 0

    def read(self) -> None:
        """Read what it has made by now."""
        self.made_bytes, self.shmem_bytes = self.pages.made_bytes(), self.pages.shmem_bytes

    def be(self, used_bytes: int) -> None:
        """Have `used_bytes` be what an exact look found."""
        self.base_bytes = self.made_bytes - used_bytes

    def recognise(self, found: Process) -> None:
        """See whether this process has become another program: all that it has made since is its own."""
        if found.stack != self.stack:
            self.stack, self.base_bytes = found.stack, 0


class _Seen(NamedTuple):
    """What an exact look found of one member, what it had made then, and its page faults before the look."""

    member: Member
    rollup: Rollup
    made_bytes: int
    shmem_bytes: int
    faults: int


class Family:
    """A child, the head, and what it started, the others; `base_bytes` is what the head had made at birth."""

    def __init__(self, pid: int, born: Process | None, base_bytes: int, server: ServerMemory) -> None:
        """Begin with a child alone; `born` is what was read of it at birth, None if it has ended."""
        self._server = server
        self.head = Member(pid, 0 if born is None else born.stack, base_bytes)
        self._birth_bytes = base_bytes
        self.others: dict[int, Member] = {}
        self.high_bytes = 0
        self._looked_s = self._look_took_s = 0.0
        self._is_settled = True

    @property
    def is_fork(self) -> bool:
        """Whether the head is a fork of the server, and no other program."""
        return self.head.stack == self._server.stack != 0

    @property
    def n_forks(self) -> int:
        """How many of its members have pages in common with the server."""
        return sum(one.stack == self._server.stack for one in self._members)

    @property
    def _members(self) -> list[Member]:
        return [self.head, *self.others.values()]

    def rebase(self, base_bytes: int | None) -> None:
        """Count what it makes beyond `base_bytes`, or beyond what it has now: what it made before is no simulation's.

        By the time this is read the child may have begun a simulation, so its supervisor says what it had before.
        """
        self.head.read()
        self._birth_bytes = self.head.base_bytes = self.head.made_bytes if base_bytes is None else base_bytes
        found = process(self.head.pid)
        self.head.stack = self.head.stack if found is None else found.stack

    def keep(self, alive: Collection[tuple[int, int]]) -> None:
        """Let go of others than these, by number and start: the number of one that has ended may be a stranger's."""
        self.others = {pid: one for pid, one in self.others.items() if (pid, one.started_ticks) in alive}

    def take_in(self, found: Process) -> None:
        """Count a process as a member: another program uses all that it has made, a fork what it has made since.

        A fork begins with all that its parent has made; where that has ended, with as much as any member like it has.
        """
        one = self.others.get(found.pid)
        if one is not None:
            one.recognise(found)
            return
        alike = [other for other in self._members if other.stack == found.stack]
        parents = [other for other in alike if other.pid == found.parent]
        inherited_bytes = [other.pages.made_bytes() for other in parents or alike]
        one = self.others[found.pid] = Member(found.pid, found.stack, 0, found.started_ticks)
        one.read()
        if inherited_bytes:
            one.inherited_bytes = max(inherited_bytes)
            one.be(max(0, one.made_bytes - one.inherited_bytes))
        # No more than it is taken to use: what it began with is its parent's.
        one.seen_shmem_bytes = max(0, one.shmem_bytes - one.used_bytes)

    def used_bytes(self, hard_bytes: int | None = None, *, exactly: bool = False) -> int:
        """Return the bytes that all use now; exactly if they may exceed `hard_bytes`, or where `exactly` is affordable.

        `high_bytes` is then at least that: the most that is known to have been used.
        """
        used_bytes = self.roughly_bytes()
        mapped_bytes = sum(one.mapped_bytes for one in self._members) if self.others else 0
        if self._is_worth_a_look(used_bytes + mapped_bytes, hard_bytes, exactly=exactly):
            self._update_exactly()
            used_bytes = sum(one.used_bytes for one in self._members)
        used_bytes = max(0, used_bytes)
        self.high_bytes = max(self.high_bytes, used_bytes)
        return used_bytes

    def others_bytes(self, since_s: float) -> int:
        """Return the bytes that others use which were taken in at this time or later."""
        return sum(one.used_bytes for one in self.others.values() if one.since_s >= since_s)

    def roughly_bytes(self) -> int:
        """Return the bytes all use: of the last exact look, and made since it but for memory that may be shared."""
        self.head.read()
        for one in self.others.values():
            self._read_other(one)
        if not self.others:
            self.head.seen_shmem_bytes = self.head.shmem_bytes
            return self.head.used_bytes
        return sum(one.used_bytes - one.mapped_bytes for one in self._members)

    def _read_other(self, one: Member) -> None:
        if time.monotonic() - one.since_s < YOUNG_S and (found := process(one.pid)) is not None:
            one.recognise(found)
        if one.stack == self.head.stack:
            one.read()
            return
        # The kernel remembers another program's peak; what it reaches after the last reading is not seen.
        parts = resident_parts(one.pid)
        one.made_bytes, one.shmem_bytes = parts.made_bytes, parts.shmem_bytes
        if one.base_bytes == 0:
            self.high_bytes = max(self.high_bytes, parts.high_bytes - parts.file_bytes)

    def _is_worth_a_look(self, used_bytes: int, hard_bytes: int | None, *, exactly: bool) -> bool:
        if not self.others and not self.is_fork:
            return False
        if hard_bytes is not None and used_bytes > hard_bytes:
            return True
        share = LOOK_SHARE / max(1, self._server.n_groups) if self._is_settled else HASTY_SHARE
        if (self.others or exactly) and self._may_look(share):
            return True
        if hard_bytes is None or not (self.others or self.head.made_bytes > hard_bytes):
            return False
        return self._may_look(HASTY_SHARE) and used_bytes + self._copied_at_most_bytes() > hard_bytes

    def _may_look(self, share: float) -> bool:
        """Whether exact looks at this family, with one now, take no more than a share of the time."""
        return (time.monotonic() - self._looked_s) * share >= self._look_took_s

    def _copied_at_most_bytes(self) -> int:
        """What may have been copied since the last exact look: every copy is a page fault."""
        return sum(max(0, page_faults(one.pid) - one.faults) for one in self._members) * PAGE_BYTES

    def _update_exactly(self) -> None:
        """Read exactly what all members use, and count on from there."""
        began_s = time.thread_time()
        # Members are read one after the other. What one comes to share meanwhile counts twice where it is read after
        # the one that had it, and what one that ends had in common with others where it is read before those. So they
        # are read in one order and in the other, and the smaller reading counts.
        ways = (1, -1) if self.others and self._server.pid else (1,)
        seen = min((_see_all(self._members[::way]) for way in ways), key=_total_bytes)
        servers_bytes = self._servers_bytes(seen)
        # What was made meanwhile is not in what is counted on from, and would be missed by a peak.
        self._is_settled = all(abs(each.made_bytes - each.member.made_bytes) <= SETTLED_BYTES for each in seen)
        for one, found, made_bytes, shmem_bytes, faults in seen:
            one.made_bytes, one.faults = made_bytes, faults
            one.shmem_bytes = one.seen_shmem_bytes = shmem_bytes
            one.be(self._used_bytes(one, found, servers_bytes.get(one.pid, 0)))
        self._looked_s, self._look_took_s = time.monotonic(), time.thread_time() - began_s

    def _used_bytes(self, one: Member, found: Rollup, servers_bytes: int) -> int:
        """Bytes that one uses; `servers_bytes` of its part of common pages are the server's."""
        if not self._server.pid:
            return self._used_without_server_bytes(one, found)
        shares_only_with_server = one is self.head and all(other.stack != one.stack for other in self.others.values())
        used_bytes = found.private_bytes + (0 if shares_only_with_server else found.part_bytes - servers_bytes)
        if one is not self.head:
            return used_bytes
        if not self.is_fork:
            return used_bytes - self._birth_bytes
        copied_bytes = max(0, found.private_bytes - max(0, one.made_bytes - self._birth_bytes))
        return used_bytes - min(COPIED_BYTES, copied_bytes)

    def _used_without_server_bytes(self, one: Member, found: Rollup) -> int:
        """Bytes that one uses where the head is no fork, and so owns all pages that its forks began with."""
        if one is self.head:
            return one.made_bytes - self._birth_bytes
        if one.stack != self.head.stack:
            return found.private_bytes + found.part_bytes
        return found.private_bytes + min(found.part_bytes, max(0, found.shared_bytes - one.inherited_bytes))

    def _servers_bytes(self, seen: list[_Seen]) -> dict[int, int]:
        """Bytes of the server's pages in each fork's part of common ones, by process number."""
        common = {
            one.pid: min(found.shared_bytes, self._birth_bytes)
            for one, found, *_ in seen
            if one.stack == self._server.stack != 0
        }
        if len(common) < 2:
            return {}
        # Of forks in other families it is only known that each began with all pages of the server.
        others_bytes = max(0, self._server.n_forks - len(common)) * self._birth_bytes
        total_bytes = max(1, sum(common.values()) + others_bytes)
        return {pid: self._server.common_bytes() * n_bytes // total_bytes for pid, n_bytes in common.items()}


def _see_all(members: list[Member]) -> list[_Seen]:
    """Read members, one after the other; those that have ended are left out."""
    return [found for one in members if (found := _see(one)) is not None]


def _see(one: Member) -> _Seen | None:
    """Read one exactly; None once it has ended.

    What it has made is read last, and its faults first: what it makes in between is not in what is counted on from, or
    it would be counted again, and may have been copied, so that an exact look follows where that matters.
    """
    faults = page_faults(one.pid)
    found = rollup(one.pid)
    made_bytes = one.pages.made_bytes() or one.made_bytes
    return None if found is None else _Seen(one, found, made_bytes, one.pages.shmem_bytes, faults)


def _total_bytes(seen: list[_Seen]) -> int:
    return sum(found.private_bytes + found.part_bytes for _, found, *_ in seen)
