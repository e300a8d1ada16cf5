"""Sets of positions as sorted, disjoint, half-open ranges: what is done, in a commit file and in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """An immutable set of non-negative integers, kept as maximal half-open ranges."""

    __slots__ = ("_starts", "_stops", "_total")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        """Unite half-open ranges in any order, overlapping or not."""
        starts: list[int] = []
        stops: list[int] = []
        for start, stop in sorted(pairs):
            if not 0 <= start <= stop:
                raise ValueError(f"not a range of positions: [{start}, {stop})")
            if start == stop:
                continue
            if stops and start <= stops[-1]:
                stops[-1] = max(stops[-1], stop)
            else:
                starts.append(start)
                stops.append(stop)
        self._starts, self._stops = starts, stops
        self._total = sum(stops) - sum(starts)

    @classmethod
    def of(cls, positions: Iterable[int]) -> Ranges:
        """Collect single positions."""
        return cls(runs(sorted(positions)))

    def __len__(self) -> int:
        return self._total

    def __contains__(self, position: int) -> bool:
        at = bisect_right(self._starts, position) - 1
        return at >= 0 and position < self._stops[at]

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.pairs():
            yield from range(start, stop)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self.pairs()) == list(other.pairs())

    def __hash__(self) -> int:
        return hash((tuple(self._starts), tuple(self._stops)))

    def __repr__(self) -> str:
        return f"Ranges({list(self.pairs())})"

    def __or__(self, other: Ranges) -> Ranges:
        return Ranges([*self.pairs(), *other.pairs()])

    def __and__(self, other: Ranges) -> Ranges:
        return Ranges(
            pair for start, stop in self.pairs() for pair in Ranges(other.gaps(start, stop)).gaps(start, stop)
        )

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) in order."""
        return zip(self._starts, self._stops, strict=True)

    def complement(self, stop: int) -> Ranges:
        """What of [0, stop) is not in the set."""
        return Ranges(self.gaps(0, stop))

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the half-open ranges of [start, stop) that are not in the set, in order."""
        at = max(0, bisect_right(self._starts, start) - 1)
        while start < stop and at < len(self._starts):
            if self._starts[at] > start:
                yield start, min(stop, self._starts[at])
            start = max(start, self._stops[at])
            at += 1
        if start < stop:
            yield start, stop


def runs(positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield maximal half-open runs of consecutive integers, in the order given: [3, 4, 9] is (3, 5) (9, 10)."""
    start = stop = -1
    for position in positions:
        if position != stop:
            if stop > start:
                yield start, stop
            start = position
        stop = position + 1
    if stop > start:
        yield start, stop
