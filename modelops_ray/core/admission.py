"""What may be submitted: the chunks in flight against the window, starvation and probes.

Owns the outstanding chunks. Does not know what waits, and does not choose among it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelops_ray.core.allocator import Allocator
from modelops_ray.core.backlog import Group
from modelops_ray.core.starvation import HoldBack

_PROBES_NEEDED = 3


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A chunk that was submitted and has not ended."""

    group: Group
    request_bytes: int
    width: int = 1

    @property
    def request_bytes_each(self) -> int:
        """The part of the request that is declared for one simulation."""
        return self.request_bytes // self.width


class Admission:
    """The outstanding chunks, and whether one more may join them.

    `n_slots_asked_for` is how many simulations they would run at once. While `is_trial`, one runs alone; `has_twin` is
    set where the next one is to run twice.
    """

    def __init__(self, allocator: Allocator) -> None:
        """Begin with nothing outstanding."""
        self.policy = allocator.policy
        self.window = allocator.window
        self.sizes = allocator.sizes
        self.memory = allocator.memory
        self.queue = HoldBack()
        self.outstanding: dict[int, Outstanding] = {}
        self.request_bytes_max = 0
        self.n_slots_asked_for = 0
        self.is_trial = self.has_twin = False

    def enter(self, chunk_id: int, chunk: Outstanding) -> bool:
        """A chunk is submitted; tell whether its start should be announced."""
        self.outstanding[chunk_id] = chunk
        self.sizes.acquire(chunk.request_bytes)
        announce = self.sizes.are_several
        if announce:
            self.queue.join(chunk_id, chunk.request_bytes)
        self.request_bytes_max = max(self.request_bytes_max, chunk.request_bytes)
        self.n_slots_asked_for += chunk.width
        return announce

    def start(self, chunk_id: int) -> bool:
        """A chunk began; tell whether others were held back for it and may be submitted now."""
        return self.queue.leave(chunk_id)

    def leave(self, chunk_id: int) -> Outstanding | None:
        """A chunk ended, one way or another; None if it was not outstanding any more."""
        chunk = self.outstanding.pop(chunk_id, None)
        if chunk is not None:
            self.n_slots_asked_for -= chunk.width
            self.sizes.release(chunk.request_bytes)
            self.queue.end(chunk_id, self.window.slots_at(chunk.request_bytes, chunk.width))
        return chunk

    @property
    def is_probing(self) -> bool:
        """Whether the first measurements are still awaited."""
        if self.policy.memory_bytes is not None or self.memory.n_samples >= _PROBES_NEEDED:
            return False
        return self.memory.n_samples == 0 or bool(self.outstanding)

    @property
    def requested_bytes(self) -> int:
        """Memory that outstanding chunks ask for, running or waiting."""
        return sum(size * count for size, count in self.sizes.in_use.items())

    def leaves_a_place(self, payload_bytes: float) -> bool:
        """Whether other chunks could still be submitted beside one more that no present node can hold."""
        n_waiting = sum(not self.window.slots_at(one.request_bytes, one.width) for one in self.outstanding.values())
        n_by_outputs = self.window.payload_budget_bytes / payload_bytes if payload_bytes else math.inf
        return n_waiting + 1 < min(self.window.most, n_by_outputs)

    @property
    def is_full(self) -> bool:
        """Whether not even the smallest chunk would be admitted."""
        return len(self.outstanding) >= self.window.most

    def may_finish_more(self, unwritten_bytes: int, payload_bytes: float) -> bool:
        """Whether there is room for the outputs of one more chunk, if each has `payload_bytes`."""
        expected_bytes = unwritten_bytes + (len(self.outstanding) + 1) * payload_bytes
        return expected_bytes <= self.window.payload_budget_bytes

    def admits(self, request_bytes: int, width: int) -> bool:
        """Whether one more chunk of this request may be outstanding."""
        n_outstanding = len(self.outstanding)
        if self.is_trial or n_outstanding >= self.window.size_at(self.sizes.smallest_with(request_bytes), width):
            return False
        if self.queue.is_held_back(request_bytes) and self._may_begin(self.queue.held_for):
            return False
        if self.is_probing and n_outstanding >= min(self.policy.probes, self.window.slots_at(request_bytes, width)):
            return False
        n_at_least = sum([n for size, n in self.sizes.in_use.items() if size >= request_bytes])
        return n_at_least < self.window.size_at(request_bytes, width)

    def _may_begin(self, request_bytes: int | None) -> bool:
        """Whether a present node could hold it: no chunk is held back for a node that has yet to come."""
        return request_bytes is not None and self.window.slots_at(request_bytes) > 0
