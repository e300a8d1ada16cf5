"""What is submitted next: chunks of pending simulations, sized by `allocator` and admitted by `admission`.

Does not judge failures, commit, or end a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from modelops_ray.core.admission import Admission, Outstanding
from modelops_ray.core.allocator import Allocation, Allocator
from modelops_ray.core.backlog import Candidate, Group, Kind, Need, Pending, chunk_size
from modelops_ray.core.events import Capacity, SubmitChunk
from modelops_ray.core.overhead import MAX_WIDTH
from modelops_ray.core.policy import MIB, Policy

OUTPUT_TARGET_BYTES = 16 * MIB
"""A chunk ends early once its outputs reach this, so none is planned for more."""

ENOUGH = 1.5
"""A chunk that lasts this many times longer than planned gives the rest back: other slots may be idle by then."""

_MEMORY_OF_MEANS = 0.2


class _Chosen(NamedTuple):
    """A candidate and what it would be given."""

    choice: Candidate
    given: Allocation


class Dispatch:
    """Pending simulations on one side, outstanding chunks on the other.

    `mean_seconds` is the mean run time of a simulation; None while it is not known.
    """

    def __init__(self, policy: Policy, *, known_peaks: Mapping[int, int], known_seconds: float | None) -> None:
        """Begin empty; see `RunState` for the arguments."""
        self.policy = policy
        self.pending = Pending()
        self.allocator = Allocator(policy, known_peaks=known_peaks)
        self.admission = Admission(self.allocator)
        self.window = self.allocator.window
        self.memory = self.allocator.memory
        self.outstanding = self.admission.outstanding
        self._next_id = 1
        self.mean_seconds = known_seconds
        self._n_timed = 0
        self._payload_bytes = 0.0
        self._bytes_each = 0.0
        self._child_life_s: float | None = 0.0

    def update(self, capacity: Capacity, now_s: float = 0.0) -> list[int]:
        """Take note of the cluster; return the chunks that no node of it could hold any more."""
        self.allocator.update(capacity, now_s)
        return [i for i, one in self.outstanding.items() if self.allocator.cannot_fit(one.request_bytes, one.width)]

    def observe(self, set_index: int, seconds: float, peak_bytes: int) -> None:
        """Learn from a completed simulation."""
        self._n_timed += 1
        mean_s = self.mean_seconds or 0.0
        self.mean_seconds = mean_s + (seconds - mean_s) / self._n_timed
        self.memory.observe(peak_bytes, self.allocator.top_bytes)
        if self.pending.holds(set_index):
            self.memory.observe_set(set_index, peak_bytes)
        if self.pending.is_unranked(set_index):
            limit_bytes = self.allocator.capped(self.memory.limit_for(set_index, 0))
            width = self.memory.width_for(limit_bytes)
            self.pending.rank(set_index, self.memory.overhead.task_bytes(limit_bytes, width), seconds)

    def observe_overrun(self, set_index: int, limit_bytes: int, peak_bytes: int, *, at_maximum: bool) -> None:
        """A peak that was cut off tells what is not enough: for its set, and for all while nothing else is known.

        What no node can hold says nothing of others, nor does the limit of what failed well within it.
        """
        least_bytes = peak_bytes or limit_bytes
        if not at_maximum:
            self.memory.observe_overrun(least_bytes)
        if self.pending.holds(set_index):
            self.memory.observe_set(set_index, least_bytes)

    def observe_payload(self, payload_bytes: int, n_completed: int, text_bytes: int) -> None:
        """Learn the size of the outputs of a chunk, with its failures' texts, and of one simulation."""
        weight = _MEMORY_OF_MEANS if self._payload_bytes else 1.0
        self._payload_bytes += weight * (payload_bytes + text_bytes - self._payload_bytes)
        if n_completed:
            self._bytes_each += weight * (payload_bytes / n_completed - self._bytes_each)

    def observe_life(self, child_life_s: float | None) -> None:
        """Learn how long a process is to run simulations; a known value stays until a worker reports another."""
        if child_life_s is not None:
            self._child_life_s = child_life_s
        elif not self._child_life_s:
            self._child_life_s = None

    def submissions(self, unwritten_bytes: int, attempt_of: Callable[[int], int]) -> Iterator[SubmitChunk]:
        """Submit all that may be submitted now.

        Args:
            unwritten_bytes: Size of what has finished and is not committed.
            attempt_of: Number of the next attempt of a position, from 1.
        """
        while self.pending.n and (chosen := self._choose(unwritten_bytes)) is not None:
            choice, (limit_bytes, request_bytes, width) = chosen
            if self.admission.is_probing:
                self.pending.spread(self.policy.probes)
            n = self._chunk_size(choice, request_bytes, width)
            group = self.pending.take(choice, n, self._n_first)
            for set_index in set(group.sets):
                if not self.pending.holds(set_index):
                    self.memory.forget(set_index)
            granted_bytes = self.allocator.granted(limit_bytes, request_bytes, width)
            need = Need(limit_bytes) if choice.kind is Kind.KNOWN else group.need
            group = Group(group.positions, group.sets, granted_bytes, need)
            attempts, enough_s = tuple(map(attempt_of, group.positions)), self._enough_s(choice)
            chunk_id, self._next_id = self._next_id, self._next_id + 1
            announce = self.admission.enter(chunk_id, Outstanding(group, request_bytes, width))
            has_twin, self.admission.has_twin = self.admission.has_twin, False
            yield SubmitChunk(
                chunk_id, group.positions, attempts, request_bytes, granted_bytes, announce, width, enough_s, has_twin
            )

    def _enough_s(self, choice: Candidate) -> float:
        """How long the first result of a chunk may wait for the chunk's end.

        A chunk size that the user gave is kept, unless the first result would wait too long for the second already.
        """
        if self.policy.chunk is None:
            return ENOUGH * self._target_s(choice)
        return 0.0 if self._seconds_of(choice) > self.policy.chunk_hold_s else math.inf

    def waits_for_writer(self, unwritten_bytes: int) -> bool:
        """Whether nothing more is submitted because too much waits to be committed."""
        return bool(unwritten_bytes) and not self.admission.may_finish_more(unwritten_bytes, self._payload_bytes)

    @property
    def _n_first(self) -> int:
        """Replicates in a set's first chunk; at least 2 while it is measured whether sharing a process pays."""
        least = 2 if self._child_life_s is None else 1
        return max(least, int(self.policy.first_visit_s / self.mean_seconds)) if self.mean_seconds else least

    def _choose(self, unwritten_bytes: int) -> _Chosen | None:
        """The first candidate that is admitted, or None; with nothing in flight or unwritten, one always is.

        A chunk that no present node can hold is submitted, so that the autoscaler starts a larger one, but not in the
        last free place of the window, which would leave the present nodes idle.
        """
        if (self.outstanding or unwritten_bytes) and (
            self.admission.is_full or not self.admission.may_finish_more(unwritten_bytes, self._payload_bytes)
        ):
            return None
        first: _Chosen | None = None
        for chosen in map(self._weigh, self._candidates()):
            _, request_bytes, width = chosen.given
            can_begin = self.window.slots_at(request_bytes, width) > 0
            if not self.outstanding and can_begin:
                return chosen
            is_admitted = bool(self.outstanding) and self.admission.admits(request_bytes, width)
            if is_admitted and (can_begin or self.admission.leaves_a_place(self._payload_bytes)):
                return chosen
            first = first or chosen
        return None if self.outstanding else first

    def _weigh(self, choice: Candidate) -> _Chosen:
        return _Chosen(choice, self.allocator.request(choice.need, choice.sets, partial(self._width, choice)))

    def _width(self, choice: Candidate, limit_bytes: int) -> int:
        """How many run at a time: no more than are pending, and one while the first measurements are awaited."""
        if self._is_single:
            return 1
        most = min(self.memory.width_for(limit_bytes), self.policy.chunk or MAX_WIDTH)
        return self.pending.n_of(choice, most, self._n_first) if most > 1 else 1

    @property
    def _is_single(self) -> bool:
        """Whether a chunk has one simulation: the first measurements are awaited, or one is tried."""
        return self.admission.is_probing or self.admission.is_trial or self.admission.has_twin

    def _candidates(self) -> Iterator[Candidate]:
        yield from self.pending.repeats()
        unranked = self.pending.unranked()
        if unranked is not None and unranked.kind is Kind.FRESH:
            yield unranked
        yield from self.pending.ranked()
        if unranked is not None and unranked.kind is Kind.BEGUN:
            yield unranked

    def _chunk_size(self, choice: Candidate, request_bytes: int, width: int) -> int:
        if self.policy.chunk is not None and not self.admission.is_trial:
            return self.policy.chunk
        if self._is_single:
            return 1
        n = chunk_size(
            self._seconds_of(choice),
            self._bytes_each,
            self.pending.n / max(1, self.window.slots_at(request_bytes, width)),
            target_s=self._target_s(choice) * width,
            # The times of an earlier run may be those of another machine: they make no chunk larger.
            least_s=self.policy.chunk_least_s * width if self._n_timed else 0.0,
            target_bytes=OUTPUT_TARGET_BYTES,
            most=self.policy.chunk_max,
        )
        return max(n, width)

    def _seconds_of(self, choice: Candidate) -> float:
        """What one simulation of a choice takes, or of all where that is not known; 0 before the first has ended."""
        return choice.seconds or self.mean_seconds or 0.0

    def _target_s(self, choice: Candidate) -> float:
        """Seconds of a chunk: the life of its processes, within bounds; two simulations while that is not known."""
        one_s = self._seconds_of(choice)
        wanted_s = 2 * one_s if self._child_life_s is None else self._child_life_s
        # The first result waits for the others.
        return max(self.policy.chunk_target_s, min(wanted_s, one_s + self.policy.chunk_hold_s))
