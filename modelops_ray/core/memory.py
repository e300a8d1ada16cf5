"""How much memory to ask for: what was measured, the first allocation, the raise after an overrun, request sizes.

A *limit* is what one simulation may add; a *request* is what its task declares: that of `overhead` and the limit,
rounded up to one of the few sizes in use. Does not know chunks, tasks or nodes; the largest node is a number here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from modelops_ray.core.backlog import Need
from modelops_ray.core.overhead import Overhead
from modelops_ray.core.policy import MIB

_BIN = math.log(1.05)
_GRID = math.log(2.0) / 4
_SMALLEST_PEAK_BYTES = MIB
FREE_TRIES = 3
"""With at least this many attempts left, a raise does not aim at the largest request."""
EVERYTHING = 2**50
"""More bytes than any node has; capped at the largest node when it is requested."""
LEAST_MARGIN = 1.03
"""Lowest limit that is given, as a multiple of the highest peak of its like."""


@lru_cache(maxsize=4096)
def bin_of(size_bytes: float, step: float = _BIN) -> int:
    """Index of the geometric bin whose upper edge is the first at or above a size; 0 for 1 MiB and less."""
    # Edges are whole bytes, so one is up to a millionth above where its logarithm says.
    index = math.ceil(math.log(max(size_bytes, _SMALLEST_PEAK_BYTES) / _SMALLEST_PEAK_BYTES) / step - 1e-4)
    return index if size_bytes <= edge_of(index, step) else index + 1


def edge_of(index: int, step: float = _BIN) -> int:
    """Upper edge of a bin, in bytes."""
    return math.ceil(_SMALLEST_PEAK_BYTES * math.exp(index * step))


def with_margin(peak_bytes: int, n_samples: int = 4) -> int:
    """What to allow a simulation of whose like `n_samples` peaked at `peak_bytes` at most.

    16 MiB more and 10 % (after four samples; 25 % after one): an overrun costs a whole run, a margin only memory.
    """
    return int(peak_bytes * (1.05 + 0.2 / n_samples)) + 16 * MIB


def first_allocation(counts: Mapping[int, int]) -> int:
    """Choose the first limit that wastes least memory, given measured peaks and the price of a second attempt.

    A simulation that overruns its first limit has used it up for nothing and then gets what the largest one needed.
    The limit with the least expected memory, summed over tries, wins; after Tovar et al., "A Job Sizing Strategy for
    High-Throughput Scientific Workflows" (IEEE TPDS 2018).

    Args:
        counts: How many peaks fell into each bin of `bin_of`; not empty.
    """
    peaks = sorted((edge_of(index), count) for index, count in counts.items())
    total, below = sum(counts.values()), 0
    last = with_margin(peaks[-1][0])
    costs: list[tuple[int, int]] = []
    for edge, count in peaks:
        below += count
        limit = with_margin(edge)
        costs.append((total * limit + (total - below) * max(last, limit * 3 // 2), limit))
    return min(costs)[1]


def raised(limit_bytes: int, used_bytes: int, tries_left: int, top_bytes: int) -> int:
    """The limit after an overrun: at least half as much again and what was used; the last attempt gets `top_bytes`.

    With two attempts left it goes half the way (geometrically) to `top_bytes`, so that the last of a budget of attempts
    always has all there is.
    """
    wanted = max(limit_bytes * 3 // 2, with_margin(used_bytes))
    if tries_left < FREE_TRIES:
        wanted = max(wanted, int(limit_bytes * (top_bytes / limit_bytes) ** (1 / max(1, tries_left))))
    return top_bytes if tries_left <= 1 else min(wanted, top_bytes)


def partition(weights: Iterable[tuple[int, int]], n_sizes: int) -> tuple[int, ...]:
    """Choose at most `n_sizes` request sizes so that rounding up to them wastes least.

    Args:
        weights: (wanted bytes, how often), in any order.
        n_sizes: At least 1.

    Exact, by dynamic programming over the sorted distinct wishes: O(n_sizes * len(weights)**2).
    """
    wishes = sorted(weights)
    if not wishes:
        return ()
    cost = [_waste(wishes, 0, end) for end in range(len(wishes))]
    cuts: list[list[int | None]] = []
    for _ in range(n_sizes - 1):
        cost, cut = _one_more_size(wishes, cost)
        cuts.append(cut)
    sizes = [wishes[end := len(wishes) - 1][0]]
    for cut in reversed(cuts):
        # None where one size fewer was as good.
        if (earlier := cut[end]) is not None:
            end = earlier
            sizes.append(wishes[end][0])
    return tuple(sorted(set(sizes)))


def _waste(wishes: list[tuple[int, int]], first: int, last: int) -> int:
    size = wishes[last][0]
    return sum(count * (size - wish) for wish, count in wishes[first : last + 1])


def _one_more_size(wishes: list[tuple[int, int]], cost: list[int]) -> tuple[list[int], list[int | None]]:
    better = list(cost)
    cut: list[int | None] = [None] * len(wishes)
    for end in range(len(wishes)):
        waste = 0
        for first in range(end, 0, -1):
            waste += wishes[first][1] * (wishes[end][0] - wishes[first][0])
            if cost[first - 1] + waste < better[end]:
                better[end] = cost[first - 1] + waste
                cut[end] = first - 1
    return better, cut


@dataclass(slots=True)
class RequestSizes:
    """The few values of `request_bytes` in use at a time; every distinct one is a scheduling class of Ray.

    A wish is served by a planned size or one in use that is at most a quarter larger; else by a new one from a
    geometric grid, as long as fewer than `n_sizes` are in use; else by the next larger one in use, or the largest.
    """

    n_sizes: int
    in_use: dict[int, int] = field(default_factory=dict)
    _planned: tuple[int, ...] = ()
    _sorted_in_use: list[int] = field(default_factory=list)
    _sorted_all: list[int] = field(default_factory=list)

    @property
    def are_several(self) -> bool:
        """Whether chunks of different sizes may compete, now or later."""
        return len(self._sorted_all) != 1

    def smallest_with(self, size_bytes: int) -> int:
        """The smallest of this size and those of outstanding requests."""
        return min([size_bytes, *self._sorted_in_use[:1]])

    def plan(self, sizes: Iterable[int]) -> None:
        """Prefer these sizes from now on."""
        self._planned = tuple(sizes)
        self._sort()

    def size_for(self, wanted_bytes: int, top_bytes: int) -> int:
        """Round a wish up to a size; never above `top_bytes`."""
        if wanted_bytes >= top_bytes:
            return top_bytes
        has_room = self._has_room(top_bytes)
        known = self._sorted_all if has_room else self._sorted_in_use
        at = bisect_left(known, wanted_bytes)
        best = min(known[at], top_bytes) if at < len(known) else top_bytes
        if not has_room or best * 4 <= wanted_bytes * 5:
            return best
        return min(edge_of(bin_of(wanted_bytes, _GRID), _GRID), top_bytes)

    def may_use(self, size_bytes: int, top_bytes: int) -> bool:
        """Whether this very size can be asked for now."""
        return size_bytes in self.in_use or self._has_room(top_bytes)

    def _has_room(self, top_bytes: int) -> bool:
        # One place is kept for the largest request: the last resort must never wait for another size to drain.
        return len(self.in_use) - (top_bytes in self.in_use) < self.n_sizes - 1

    def acquire(self, size_bytes: int) -> None:
        """Count a chunk of this size as outstanding."""
        n_outstanding = self.in_use.get(size_bytes, 0)
        self.in_use[size_bytes] = n_outstanding + 1
        if not n_outstanding:
            self._sort()

    def release(self, size_bytes: int) -> None:
        """Count it as over."""
        self.in_use[size_bytes] -= 1
        if not self.in_use[size_bytes]:
            del self.in_use[size_bytes]
            self._sort()

    def _sort(self) -> None:
        self._sorted_in_use = sorted(self.in_use)
        self._sorted_all = sorted({*self.in_use, *self._planned})


def _nearly(limit_bytes: int, peak_bytes: int) -> int:
    """A limit with nearly no margin above a peak; the limit itself where the peak was too short to be seen."""
    return min(limit_bytes, int(LEAST_MARGIN * peak_bytes)) if peak_bytes else limit_bytes


class _First(NamedTuple):
    """The first limit of a simulation of which only the model is known, and the highest peak it is meant to hold."""

    limit_bytes: int
    peak_bytes: int


@dataclass(slots=True)
class MemoryModel:
    """What was measured so far and what follows from it.

    Knows the model as a whole (a histogram of peaks) and parameter sets one by one, as long as `forget` is not called
    for them: replicates need about the same.
    """

    given_bytes: int | None
    sizes: RequestSizes
    overhead: Overhead
    counts: dict[int, int] = field(default_factory=dict)
    n_samples: int = 0
    peak_bytes_max: int = 0
    slots_per_node: int = 1
    _sets: dict[int, tuple[int, int]] = field(default_factory=dict)
    _highest: dict[int, int] = field(default_factory=dict)
    _first: _First | None = None
    _overrun_bytes: int | None = None
    _planned_at: int = 0
    _above: dict[int, int | None] = field(default_factory=dict)

    def observe(self, peak_bytes: int, top_bytes: int) -> None:
        """Learn the peak of a simulation, completed or not."""
        index = bin_of(peak_bytes)
        if index not in self.counts:
            self._above.clear()
        self.counts[index] = self.counts.get(index, 0) + 1
        self._highest[index] = max(peak_bytes, self._highest.get(index, 0))
        self.n_samples += 1
        self.peak_bytes_max = max(self.peak_bytes_max, peak_bytes)
        if self.n_samples >= 2 * self._planned_at:
            self._replan(top_bytes)

    def observe_set(self, set_index: int, peak_bytes: int) -> None:
        """Learn the peak for one parameter set, of which more is to come."""
        n_samples, most_bytes = self._sets.get(set_index, (0, 0))
        self._sets[set_index] = (n_samples + 1, max(peak_bytes, most_bytes))

    def observe_overrun(self, least_bytes: int) -> None:
        """Learn what was not enough for one simulation; used until the first peaks are known."""
        self._overrun_bytes = max(self._overrun_bytes or 0, least_bytes)

    def seed(self, counts: Mapping[int, int], top_bytes: int) -> None:
        """Start from the profile of an earlier run: peaks by bin."""
        self.counts = dict(counts)
        self.n_samples = sum(counts.values())
        if counts:
            self._replan(top_bytes)

    def forget(self, set_index: int) -> None:
        """Drop the peaks of one parameter set."""
        self._sets.pop(set_index, None)

    def limit_for(self, set_index: int, plenty_bytes: int) -> int:
        """The limit for the next simulation of a set, from its own peaks or else as for any other set."""
        known = self._sets.get(set_index)
        if known is not None:
            n_samples, peak_bytes = known
            return max(with_margin(peak_bytes, n_samples), self.given_bytes or 0)
        return self.typical_limit(plenty_bytes)

    def typical_limit(self, plenty_bytes: int) -> int:
        """The limit for a simulation of a set not measured yet; before the first peak, plenty and above any overrun."""
        if self.given_bytes is not None:
            return self.given_bytes
        if self._first is not None:
            return self._first.limit_bytes
        overran = self._overrun_bytes
        return plenty_bytes if overran is None else max(plenty_bytes, with_margin(overran, 1))

    def limit_again(self, need: Need, set_indices: Iterable[int], plenty_bytes: int) -> int:
        """The limit for simulations of these sets that run again: from their own need and from what others used.

        After an overrun it is the first allocation for simulations that used more than that, once any was measured.
        """
        if need.overrun is None:
            return max(need.least_bytes, *[self.limit_for(index, plenty_bytes) for index in set_indices])
        known = (self._sets.get(index, (1, 0)) for index in set_indices)
        of_sets = max(with_margin(peak, n) for n, peak in known)
        learned = self._limit_above(need.overrun.overran_bytes)
        return max(need.least_bytes, of_sets, need.overrun.wish_bytes if learned is None else learned)

    def _limit_above(self, overran_bytes: int) -> int | None:
        """The first allocation for those that need more than this; None while none was measured."""
        index = bin_of(overran_bytes)
        if index not in self._above:
            counts = {i: n for i, n in self.counts.items() if i > index}
            self._above[index] = first_allocation(counts) if counts else None
        return self._above[index]

    def least_for(self, set_index: int, limit_bytes: int) -> int:
        """What `limit_for` would be nearly without a margin; the limit itself where nothing was measured."""
        known = self._sets.get(set_index)
        return self.typical_least(limit_bytes) if known is None else _nearly(limit_bytes, known[1])

    def typical_least(self, limit_bytes: int) -> int:
        """What `typical_limit` would be nearly without a margin; the limit itself where nothing was measured."""
        return limit_bytes if self._first is None else _nearly(limit_bytes, self._first.peak_bytes)

    def request_for(
        self, limit_bytes: int, top_bytes: int, width: int = 1, *, least_limit_bytes: int | None = None
    ) -> int:
        """The request that covers the worker and `width` simulations at a time.

        A learned limit is soft: where a smaller margin, down to `least_limit_bytes`, lets one more task fit on a node,
        the request has the smaller margin.
        """
        size = self.sizes.size_for(self.overhead.task_bytes(limit_bytes, width), top_bytes)
        if least_limit_bytes is None:
            return size
        least = self.overhead.task_bytes(least_limit_bytes, width)
        node_bytes, most = self.overhead.node_for(size), self.slots_per_node // width
        if self.given_bytes is not None or least > min(size, top_bytes) or node_bytes is None:
            return size
        n_fit = min(most, node_bytes // least)
        if n_fit <= node_bytes // size or not self.sizes.may_use(fitting := node_bytes // n_fit, top_bytes):
            return size
        # On a smaller node, what is shared takes a larger part.
        return fitting if self.overhead.limit_bytes(fitting, width) >= least_limit_bytes else size

    @property
    def base_bytes(self) -> int:
        """The part of the request of a task of one simulation at a time that is not its limit."""
        return self.overhead.task_bytes(0)

    def width_for(self, limit_bytes: int) -> int:
        """How many simulations of this limit share a task."""
        return self.overhead.width(limit_bytes, self.slots_per_node)

    def _replan(self, top_bytes: int) -> None:
        self._planned_at = max(4, self.n_samples)
        self._above.clear()
        limit_bytes = first_allocation(self.counts)
        chosen = [index for index in self.counts if with_margin(edge_of(index)) <= limit_bytes]
        self._first = _First(limit_bytes, max(self._highest.get(index, edge_of(index)) for index in chosen))
        limits = {index: with_margin(edge_of(index)) for index in self.counts}
        widths = {index: self.width_for(limit) for index, limit in limits.items()}
        wishes = [
            (min(top_bytes, self.overhead.task_bytes(limit, widths[index])), -(-self.counts[index] // widths[index]))
            for index, limit in limits.items()
        ]
        self.sizes.plan(partition(wishes, self.sizes.n_sizes - 4))
