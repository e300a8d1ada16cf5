"""The pending simulations, in which order they are taken, and how they are cut into chunks.

Order: repeats first; then one replicate of every parameter set (several, where they are short), to learn the cost of
the set; then the rest of the sets, the costliest first, so that large or long simulations are not left for the end.
Does not know windows, requests or chunks in flight.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import NamedTuple

from modelops_ray.core.events import Segment

_SETS_LOOKED_AT = 32
"""Of simulations that are repeated together, the parameter sets of this many decide how much they get."""


class Overrun(NamedTuple):
    """What was not enough, and what to ask for while no other simulation is known to have needed more than that."""

    overran_bytes: int
    wish_bytes: int


class Need(NamedTuple):
    """What simulations that run again are known to need, each: `least_bytes` at least, and what their last one was."""

    least_bytes: int = 0
    overrun: Overrun | None = None


class Group(NamedTuple):
    """Simulations taken together: positions, the parameter set of each, and what each may use and needs.

    `limit_bytes` is the limit they were given; when they run again, a new one follows from `need`.
    """

    positions: tuple[int, ...]
    sets: tuple[int, ...]
    limit_bytes: int
    need: Need = Need()

    def split(self) -> tuple[Group, Group]:
        """Cut in two halves; needs at least two positions."""
        half = len(self.positions) // 2
        return (
            self._replace(positions=self.positions[:half], sets=self.sets[:half]),
            self._replace(positions=self.positions[half:], sets=self.sets[half:]),
        )

    def only(self, positions: Collection[int]) -> Group:
        """Keep these positions; `in` on them should be fast."""
        if len(positions) == len(self.positions):
            return self
        kept = [(p, s) for p, s in zip(self.positions, self.sets, strict=True) if p in positions]
        return self._replace(positions=tuple(p for p, _ in kept), sets=tuple(s for _, s in kept))


class Kind(Enum):
    """Why simulations are pending: to be repeated, or of a set not begun, begun without a result, or with one."""

    REPEAT = "repeat"
    FRESH = "fresh"
    BEGUN = "begun"
    KNOWN = "known"


class Candidate(NamedTuple):
    """Something that could be taken next: some of its parameter sets, what it needs, and seconds where known."""

    kind: Kind
    size_class: int
    need: Need
    sets: tuple[int, ...]
    seconds: float | None = None


@dataclass(slots=True)
class _Set:
    """Pending segments of one parameter set and, once a result is known, what one of its simulations takes."""

    segments: deque[Segment]
    seconds: float = 0.0


@dataclass(slots=True)
class Pending:
    """The pending simulations. Every position is in at most one place."""

    n: int = 0
    _sets: dict[int, _Set] = field(default_factory=dict)
    _fresh: deque[int] = field(default_factory=deque)
    _begun: dict[int, None] = field(default_factory=dict)
    _known: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    _repeats: dict[int, deque[Group]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.n

    @property
    def n_sets(self) -> int:
        """Parameter sets with pending simulations (repeats aside)."""
        return len(self._sets)

    def holds(self, set_index: int) -> bool:
        """Whether simulations of this parameter set are pending (repeats aside)."""
        return set_index in self._sets

    def positions(self) -> Iterator[int]:
        """Yield every pending position, in no particular order."""
        for entry in self._sets.values():
            for segment in entry.segments:
                yield from range(segment.start, segment.stop)
        for groups in self._repeats.values():
            for group in groups:
                yield from group.positions

    def add(self, segments: Iterable[Segment]) -> None:
        """Take in new simulations, in study order."""
        for segment in segments:
            self.n += segment.stop - segment.start
            if segment.set_index in self._sets:
                self._sets[segment.set_index].segments.append(segment)
                continue
            self._sets[segment.set_index] = _Set(deque([segment]))
            self._fresh.append(segment.set_index)

    def put_back(self, group: Group) -> None:
        """Have simulations repeated, before those that have not run; those that need most first."""
        if group.positions:
            self.n += len(group.positions)
            least_bytes, overrun = group.need
            size_class = _size_class(max(least_bytes, overrun.wish_bytes) if overrun else least_bytes)
            self._repeats.setdefault(size_class, deque()).append(group)

    def is_unranked(self, set_index: int) -> bool:
        """Whether this set has begun, has more pending simulations, and none of it has completed."""
        return set_index in self._begun

    def rank(self, set_index: int, request_bytes: int, seconds: float) -> None:
        """A simulation of such a set completed: the rest of it is ordered by request, then by run time."""
        del self._begun[set_index]
        self._sets[set_index].seconds = seconds
        heapq.heappush(self._known.setdefault(_size_class(request_bytes), []), (-seconds, set_index))

    def repeats(self) -> Iterator[Candidate]:
        """Simulations to be repeated, largest first."""
        for size_class in sorted(self._repeats, reverse=True):
            group = self._repeats[size_class][0]
            yield Candidate(Kind.REPEAT, size_class, group.need, tuple(dict.fromkeys(group.sets[:_SETS_LOOKED_AT])))

    def ranked(self) -> Iterator[Candidate]:
        """The costliest set of each size, largest size first."""
        for size_class in sorted(self._known, reverse=True):
            seconds, set_index = self._known[size_class][0]
            yield Candidate(Kind.KNOWN, size_class, Need(), (set_index,), -seconds)

    def unranked(self) -> Candidate | None:
        """A set without a result: one not begun, else one that has begun."""
        if self._fresh:
            return Candidate(Kind.FRESH, 0, Need(), (self._fresh[0],))
        if self._begun:
            return Candidate(Kind.BEGUN, 0, Need(), (next(iter(self._begun)),))
        return None

    def n_of(self, choice: Candidate, most: int, n_first: int) -> int:
        """How many simulations of a choice just made `take` would remove, counted up to `most`."""
        if choice.kind is Kind.REPEAT:
            return min(most, len(self._repeats[choice.size_class][0].positions))
        n = 0
        for set_index in self._sets_of(choice):
            segments = self._sets[set_index].segments
            if choice.kind is Kind.FRESH:
                n += min(n_first, segments[0].stop - segments[0].start)
            else:
                n += sum(segment.stop - segment.start for segment in islice(segments, most))
            if n >= most:
                return most
        return n

    def _sets_of(self, choice: Candidate) -> Iterable[int]:
        match choice.kind:
            case Kind.FRESH:
                return self._fresh
            case Kind.BEGUN:
                return self._begun
            case _:
                return (set_index for _, set_index in self._known[choice.size_class])

    def take(self, choice: Candidate, n: int, n_first: int = 1) -> Group:
        """Remove up to `n` simulations of a choice just made; of sets not begun, `n_first` each."""
        if choice.kind is Kind.REPEAT:
            group = self._take_repeat(choice.size_class, n)
        else:
            taken = self._take_of(choice, n, n_first)
            group = Group(tuple(p for p, _ in taken), tuple(s for _, s in taken), 0)
        self.n -= len(group.positions)
        return group

    def _take_of(self, choice: Candidate, n: int, n_first: int) -> list[tuple[int, int]]:
        match choice.kind:
            case Kind.FRESH:
                return self._take_fresh(n, n_first)
            case Kind.BEGUN:
                return self._take_begun(n)
            case _:
                return self._take_known(choice.size_class, n)

    def spread(self, n_parts: int) -> None:
        """Rotate the sets not begun, so that the next ones taken come from all over the study."""
        self._fresh.rotate(-max(1, len(self._fresh) // max(1, n_parts)))

    def _take_repeat(self, size_class: int, n: int) -> Group:
        groups = self._repeats[size_class]
        group = groups.popleft()
        if len(group.positions) > n:
            groups.appendleft(group._replace(positions=group.positions[n:], sets=group.sets[n:]))
        if not groups:
            del self._repeats[size_class]
        return group._replace(positions=group.positions[:n], sets=group.sets[:n])

    def _take_fresh(self, n: int, n_first: int) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        while self._fresh and len(taken) < n:
            set_index = self._fresh.popleft()
            taken += self._pop(set_index, min(n_first, n - len(taken)))
            if set_index in self._sets:
                self._begun[set_index] = None
        return taken

    def _take_begun(self, n: int) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        while self._begun and len(taken) < n:
            set_index = next(iter(self._begun))
            taken += self._pop(set_index, n - len(taken))
            if set_index not in self._sets:
                del self._begun[set_index]
        return taken

    def _take_known(self, size_class: int, n: int) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        heap = self._known[size_class]
        while heap and len(taken) < n:
            set_index = heap[0][1]
            taken += self._pop(set_index, n - len(taken))
            if set_index not in self._sets:
                heapq.heappop(heap)
        if not heap:
            del self._known[size_class]
        return taken

    def _pop(self, set_index: int, n: int) -> list[tuple[int, int]]:
        segments = self._sets[set_index].segments
        segment = segments.popleft()
        stop = min(segment.stop, segment.start + n)
        if stop < segment.stop:
            segments.appendleft(Segment(set_index, stop, segment.stop))
        if not segments:
            del self._sets[set_index]
        return [(position, set_index) for position in range(segment.start, stop)]


def _size_class(size_bytes: int) -> int:
    """Sizes that count as alike when the costliest comes first: four classes per doubling."""
    return int(4 * math.log2(max(1, size_bytes)))


def chunk_size(
    seconds: float,
    bytes_each: float,
    n_left_per_slot: float,
    *,
    target_s: float,
    least_s: float,
    target_bytes: int,
    most: int,
) -> int:
    """How many simulations to give to one task.

    About `target_s` of work and `target_bytes` of outputs; at the end of a study a quarter of a slot's fair share, so
    that the last tasks end together (guided self-scheduling, Polychronopoulos and Kuck 1987), but at least `least_s` of
    work, below which tasks cost more than ending together saves.
    """
    by_time = target_s / seconds if seconds > 0 else most
    by_bytes = target_bytes / bytes_each if bytes_each > 0 else most
    fair = math.ceil(n_left_per_slot / 4)
    worth_a_task = least_s / seconds if seconds > 0 else 1
    return max(1, min(most, int(by_time), int(by_bytes), max(fair, int(worth_a_task))))
