"""What is submitted next, and what is in flight: the queue, the memory model, the window and their composition.

Decides from snapshots of the cluster; does not judge failures, commit, or end a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from modelops_ray.core.backlog import Candidate, Need, Pending, Piece, chunk_size
from modelops_ray.core.events import Capacity, Node, SubmitChunk
from modelops_ray.core.memory import EVERYTHING, MemoryModel, RequestSizes
from modelops_ray.core.overhead import MAX_WIDTH, Overhead
from modelops_ray.core.policy import MIB, Policy
from modelops_ray.core.starvation import HoldBack
from modelops_ray.core.window import Recent, SlowDecay, Window, slots, slots_by_cpus

OUTPUT_TARGET_BYTES = 16 * MIB
"""A chunk ends early when its outputs reach this, so none is planned for more."""

ENOUGH = 1.5
"""A chunk that lasts this many times longer than planned gives the rest back: others may be idle by then."""

_PROBES_NEEDED = 3
_MEMORY_OF_MEANS = 0.2


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A chunk that was submitted and has not been heard of."""

    piece: Piece
    request_bytes: int
    width: int = 1


class _Chosen(NamedTuple):
    """A candidate, and what each of its simulations and the whole of its task would be given."""

    choice: Candidate
    limit_bytes: int
    request_bytes: int
    width: int


class Dispatch:
    """Pending simulations on one side, outstanding chunks on the other.

    `n_slots_asked_for` is how many simulations the outstanding chunks would run at once.
    """

    def __init__(self, policy: Policy, *, known_peaks: Mapping[int, int], known_seconds: float) -> None:
        """Begin empty; see `RunState` for the arguments."""
        self.policy = policy
        self.pending = Pending()
        self.window = Window(policy)
        self.queue = HoldBack()
        self.sizes = RequestSizes(policy.request_sizes)
        overhead = Overhead(
            policy.known_worker_bytes or policy.base_guess_bytes, policy.known_child_bytes, policy.known_shared_bytes
        )
        self.memory = MemoryModel(policy.memory_bytes, self.sizes, overhead)
        self.outstanding: dict[int, Outstanding] = {}
        self.request_bytes_max = 0
        self.n_slots_asked_for = 0
        self._known_peaks = known_peaks
        self._able = Recent(policy.grace_s)
        self._most_cpus = SlowDecay(policy.grace_s)
        self._next_id = 1
        self._seconds = known_seconds
        self._n_timed = 0
        self._payload_bytes = 0.0
        self._bytes_each = 0.0
        self._child_life_s: float | None = 0.0

    @property
    def top_bytes(self) -> int:
        """The largest request there can be: all of the largest node, as last seen for some time.

        Where no node was ever seen, as in a cluster that scales from zero, it is more than any has.
        """
        sizes = self.memory.overhead.node_sizes
        return sizes[-1] if sizes else EVERYTHING

    @property
    def most_cpus(self) -> float:
        """The CPUs of the node that has most of them, as last seen for some time; those of a simulation at least."""
        return self._most_cpus.amount or self.policy.cpus

    @property
    def top_limit_bytes(self) -> int:
        """The most that one simulation can get: what a task of the largest node leaves it, or the user's cap."""
        return max(1, self._capped(self.memory.overhead.limit_bytes(self.top_bytes)))

    def is_at_top(self, chunk: Outstanding) -> bool:
        """Whether no simulation of this chunk could get more than it had, as far as is known by now."""
        return chunk.piece.limit_bytes >= self.top_limit_bytes

    def has_node(self, chunk: Outstanding) -> bool:
        """Whether a chunk had the largest node for itself: what ran out of memory there was of this chunk."""
        return chunk.request_bytes >= self.top_bytes

    def _capped(self, limit_bytes: int) -> int:
        cap = self.policy.max_memory_bytes
        return limit_bytes if cap is None else min(limit_bytes, cap)

    @property
    def is_probing(self) -> bool:
        """Whether the first measurements are still awaited."""
        if self.policy.memory_bytes is not None or self.memory.n_samples >= _PROBES_NEEDED:
            return False
        return self.memory.n_samples == 0 or bool(self.outstanding)

    @property
    def _plenty_bytes(self) -> int:
        """The limit of a probe, so that with its worker it asks for plenty and not more."""
        plenty_bytes = self.window.plenty_bytes
        return max(self.memory.overhead.limit_bytes(plenty_bytes), plenty_bytes // 2)

    @property
    def mean_seconds(self) -> float:
        """Mean run time of a simulation; 0 while unknown."""
        return self._seconds

    @property
    def requested_bytes(self) -> int:
        """Memory that outstanding chunks ask for, running or waiting."""
        return sum(size * count for size, count in self.sizes.in_use.items())

    @property
    def _typical_width(self) -> int:
        return self.memory.width_for(self._typical_limit_bytes)

    @property
    def _typical_limit_bytes(self) -> int:
        return self._capped(self.memory.limit_for(-1, self._plenty_bytes))

    @property
    def typical_request_bytes(self) -> int:
        """What a simulation of which only the model is known asks for: its part of the request of its task."""
        limit, width = self._typical_limit_bytes, self._typical_width
        least = self.memory.least_for(-1, limit)
        return self.memory.request_for(limit, self.top_bytes, width, least_limit_bytes=least) // width

    @property
    def fit_in_memory(self) -> tuple[int, int]:
        """How many simulations the memory that is there holds at once, and how many if each imported the model."""
        request, width = self.typical_request_bytes, self._typical_width
        alone = self.memory.overhead.unshared_bytes(self._typical_limit_bytes)
        memory = [node.memory_bytes for node in self.window.capacity.nodes]
        return width * sum(each // (request * width) for each in memory), sum(each // alone for each in memory)

    @property
    def concurrency(self) -> int:
        """How many of those run at once on what is there."""
        width = self._typical_width
        return width * self.window.slots_at(self.typical_request_bytes * width, width)

    def _slots_per_node(self, nodes: Iterable[Node]) -> int:
        """Simulations that the CPUs of the smallest node run at once; 1 where every task runs one at a time."""
        if not self.policy.supervised:
            return 1
        return max(1, slots_by_cpus(min((node.cpus for node in nodes), default=1.0), self.policy.cpus))

    def look(self, capacity: Capacity, now_s: float = 0.0) -> list[int]:
        """Take note of the cluster; return the chunks that no node of it could hold any more."""
        self.window.look(capacity)
        self._most_cpus.look(now_s, self.window.most_cpus)
        self._able.look(now_s, self.window.able_nodes)
        self.memory.slots_per_node = self._slots_per_node(self._able.nodes)
        self.memory.overhead.look(node.memory_bytes for node in self._able.nodes)
        if self._known_peaks:
            self.memory.seed(self._known_peaks, self.top_bytes)
            self._known_peaks = {}
        return [i for i, chunk in self.outstanding.items() if self._is_homeless(chunk)]

    def _is_homeless(self, chunk: Outstanding) -> bool:
        n_slots = slots(self._able.nodes, chunk.width * self.policy.cpus, chunk.request_bytes)
        return bool(self._able.nodes) and not n_slots

    def put_back(self, piece: Piece) -> None:
        """Have simulations repeated."""
        self.pending.put_back(piece)

    def drop(self, chunk_id: int) -> Outstanding | None:
        """A chunk ended, one way or another; None if it was not outstanding any more."""
        chunk = self.outstanding.pop(chunk_id, None)
        if chunk is not None:
            self.n_slots_asked_for -= chunk.width
            self.sizes.release(chunk.request_bytes)
            self.queue.end(chunk_id, self.window.slots_at(chunk.request_bytes, chunk.width))
        return chunk

    def observe(self, set_index: int, seconds: float, peak_bytes: int) -> None:
        """Learn from a completed simulation."""
        self._n_timed += 1
        self._seconds += (seconds - self._seconds) / self._n_timed
        self.memory.observe(peak_bytes, self.top_bytes)
        if self.pending.holds(set_index):
            self.memory.observe_set(set_index, peak_bytes)
        if self.pending.is_unranked(set_index):
            limit_bytes = self._capped(self.memory.limit_for(set_index, 0))
            width = self.memory.width_for(limit_bytes)
            self.pending.rank(set_index, self.memory.overhead.task_bytes(limit_bytes, width), seconds)

    def observe_overrun(self, set_index: int, limit_bytes: int, peak_bytes: int, *, at_top: bool) -> None:
        """A peak that was cut off tells what is not enough: for its set, and for all while nothing else is known.

        What no node can hold says nothing of others, nor does the limit of what failed well within it.
        """
        least_bytes = peak_bytes or limit_bytes
        if not at_top:
            self.memory.observe_overrun(least_bytes)
        if self.pending.holds(set_index):
            self.memory.observe_set(set_index, least_bytes)

    def observe_payload(self, payload_bytes: int, n_completed: int, told_bytes: int) -> None:
        """Learn how large the outputs of a chunk, with what is told of failures, and of a simulation are."""
        weight = _MEMORY_OF_MEANS if self._payload_bytes else 1.0
        self._payload_bytes += weight * (payload_bytes + told_bytes - self._payload_bytes)
        if n_completed:
            self._bytes_each += weight * (payload_bytes / n_completed - self._bytes_each)

    def observe_life(self, child_life_s: float | None) -> None:
        """Learn how long a process is to run simulations; what is shared stays so until a worker knows better."""
        if child_life_s is not None:
            self._child_life_s = child_life_s
        elif not self._child_life_s:
            self._child_life_s = None

    def submissions(self, unwritten_bytes: int, attempt_of: Callable[[int], int]) -> Iterator[SubmitChunk]:
        """Submit all that may be submitted now.

        Args:
            unwritten_bytes: These have finished and are not committed.
            attempt_of: Which try the next one of a position is, from 1.
        """
        while self.pending.n and (chosen := self._choose(unwritten_bytes)) is not None:
            choice, limit_bytes, request_bytes, width = chosen
            if self.is_probing:
                self.pending.spread(self.policy.probes)
            n = self._chunk_size(choice, request_bytes, width)
            piece = self.pending.take(choice, n, self._n_first)
            if choice.kind == "known":
                piece = piece._replace(need=Need(least_bytes=limit_bytes))
            for set_index in set(piece.sets):
                if not self.pending.holds(set_index):
                    self.memory.forget(set_index)
            piece = piece._replace(limit_bytes=self._granted(limit_bytes, request_bytes, width))
            chunk = self._launch(piece, request_bytes, width, tuple(map(attempt_of, piece.positions)))
            yield replace(chunk, enough_s=self._enough_s(choice))

    def _enough_s(self, choice: Candidate) -> float:
        """How long what a chunk has finished may wait for its end.

        As many as the user says are run as one chunk, unless already a second one would have the first wait too long.
        """
        if self.policy.chunk is None:
            return ENOUGH * self._target_s(choice)
        return 0.0 if (choice.seconds or self._seconds) > self.policy.chunk_hold_s else math.inf

    @property
    def _n_first(self) -> int:
        """Replicates of a set on the first visit: more than one where they share a process, or are to for a trial."""
        least = 2 if self._child_life_s is None else 1
        return max(least, int(self.policy.first_visit_s / self._seconds)) if self._seconds > 0 else least

    def _choose(self, unwritten_bytes: int) -> _Chosen | None:
        """The first candidate that is admitted, or None; with nothing in flight or unwritten one always is.

        What no node that is there can hold is submitted, so that a larger one comes, but not in the last free place:
        what is there would idle until then.
        """
        if (self.outstanding or unwritten_bytes) and (self._is_full or not self._may_finish_more(unwritten_bytes)):
            return None
        first: _Chosen | None = None
        for chosen in map(self._weigh, self._candidates()):
            can_begin = self.window.slots_at(chosen.request_bytes, chosen.width) > 0
            if not self.outstanding and can_begin:
                return chosen
            if self.outstanding and self._admits(*chosen[2:]) and (can_begin or self._leaves_a_place):
                return chosen
            first = first or chosen
        return None if self.outstanding else first

    def _weigh(self, choice: Candidate) -> _Chosen:
        """What a candidate would be given."""
        limit = self._capped(self.memory.limit_again(choice.need, choice.sets, self._plenty_bytes))
        width = self._width(choice, limit)
        has_overrun = choice.need.overran_bytes or len(choice.sets) > 1
        least = None if has_overrun else self.memory.least_for(choice.sets[0], limit)
        request = self.memory.request_for(limit, self.top_bytes, width, least_limit_bytes=least)
        return _Chosen(choice, limit, request, width)

    @property
    def _leaves_a_place(self) -> bool:
        """Whether others could still be submitted beside one more that no node there can hold."""
        n_waiting = sum(not self.window.slots_at(one.request_bytes, one.width) for one in self.outstanding.values())
        n_by_outputs = self.window.payload_budget_bytes / self._payload_bytes if self._payload_bytes else math.inf
        return n_waiting + 1 < min(self.window.size_at(1), n_by_outputs)

    def _width(self, choice: Candidate, limit_bytes: int) -> int:
        """How many run at a time: no more than there are, and one at a time while nothing is known."""
        if self.is_probing:
            return 1
        most = min(self.memory.width_for(limit_bytes), self.policy.chunk or MAX_WIDTH)
        return self.pending.n_of(choice, most, self._n_first) if most > 1 else 1

    def _granted(self, limit_bytes: int, request_bytes: int, width: int) -> int:
        """What is declared may be used, rounded up as it was, and no more; a limit of the user stays as it is."""
        if self.policy.memory_bytes is not None and request_bytes < self.top_bytes:
            return limit_bytes
        return max(1, self._capped(self.memory.overhead.limit_bytes(request_bytes, width)))

    @property
    def _is_full(self) -> bool:
        """Whether not even the smallest chunk would be admitted; tells so without a look at any."""
        return len(self.outstanding) >= self.window.size_at(1)

    def _may_finish_more(self, unwritten_bytes: int) -> bool:
        expected_bytes = unwritten_bytes + (len(self.outstanding) + 1) * self._payload_bytes
        return expected_bytes <= self.window.payload_budget_bytes

    def _candidates(self) -> Iterator[Candidate]:
        yield from self.pending.repeats()
        unranked = self.pending.unranked()
        if unranked is not None and unranked.kind == "fresh":
            yield unranked
        yield from self.pending.ranked()
        if unranked is not None and unranked.kind == "begun":
            yield unranked

    def _admits(self, request_bytes: int, width: int) -> bool:
        n_outstanding = len(self.outstanding)
        if n_outstanding >= self.window.size_at(min(request_bytes, self.sizes.smallest_in_use), width):
            return False
        if self.queue.is_held_back(request_bytes) and self._may_begin(self.queue.held_for):
            return False
        if self.is_probing and n_outstanding >= min(self.policy.probes, self.window.slots_at(request_bytes, width)):
            return False
        n_at_least = sum([n for size, n in self.sizes.in_use.items() if size >= request_bytes])
        return n_at_least < self.window.size_at(request_bytes, width)

    def _may_begin(self, request_bytes: int | None) -> bool:
        """Whether a node that is there could hold it: no chunk is held back for a node that has yet to come."""
        return request_bytes is not None and self.window.slots_at(request_bytes) > 0

    def _chunk_size(self, choice: Candidate, request_bytes: int, width: int) -> int:
        if self.policy.chunk is not None:
            return self.policy.chunk
        if self.is_probing:
            return 1
        n = chunk_size(
            choice.seconds or self._seconds,
            self._bytes_each,
            self.pending.n / max(1, self.window.slots_at(request_bytes, width)),
            target_s=self._target_s(choice) * width,
            # What an earlier run took may be another's: no chunk is made larger for it.
            least_s=self.policy.chunk_least_s * width if self._n_timed else 0.0,
            target_bytes=OUTPUT_TARGET_BYTES,
            most=self.policy.chunk_max,
        )
        return max(n, width)

    def _target_s(self, choice: Candidate) -> float:
        """Chunks last as long as their processes may, within bounds, or as two simulations where that is not known."""
        one_s = choice.seconds or self._seconds
        wanted_s = 2 * one_s if self._child_life_s is None else self._child_life_s
        # What the first one ends with waits for the others.
        return max(self.policy.chunk_target_s, min(wanted_s, one_s + self.policy.chunk_hold_s))

    def _launch(self, piece: Piece, request_bytes: int, width: int, attempts: tuple[int, ...]) -> SubmitChunk:
        chunk_id, self._next_id = self._next_id, self._next_id + 1
        self.outstanding[chunk_id] = Outstanding(piece, request_bytes, width)
        self.sizes.acquire(request_bytes)
        announce = self.sizes.are_several
        if announce:
            self.queue.join(chunk_id, request_bytes)
        self.request_bytes_max = max(self.request_bytes_max, request_bytes)
        self.n_slots_asked_for += width
        return SubmitChunk(chunk_id, piece.positions, attempts, request_bytes, piece.limit_bytes, announce, width)
