"""What memory is given: the limit of a simulation, the request of its task, and how many simulations share a task.

Owns what was measured and what the nodes can hold. Does not know what is pending or decide what is submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from modelops_ray.core.backlog import Need
from modelops_ray.core.events import Capacity, Node
from modelops_ray.core.memory import EVERYTHING, MemoryModel, RequestSizes
from modelops_ray.core.overhead import Overhead
from modelops_ray.core.policy import Policy
from modelops_ray.core.window import Recent, Window, slots, slots_by_cpus


class Allocation(NamedTuple):
    """What each simulation and the whole of its task would be given, and how many run at a time."""

    limit_bytes: int
    request_bytes: int
    width: int


class Allocator:
    """Gives memory, from what was measured and what the nodes can hold."""

    def __init__(self, policy: Policy, *, known_peaks: Mapping[int, int]) -> None:
        """Begin with what earlier runs knew; see `RunState` for the arguments."""
        self.policy = policy
        self.window = Window(policy)
        self.sizes = RequestSizes(policy.request_sizes)
        overhead = Overhead(
            policy.known_worker_bytes or policy.base_guess_bytes, policy.known_child_bytes, policy.known_shared_bytes
        )
        self.memory = MemoryModel(policy.memory_bytes, self.sizes, overhead)
        self._known_peaks = known_peaks
        self._able = Recent(policy.grace_s)
        self._seen = Recent(policy.grace_s)

    @property
    def top_bytes(self) -> int:
        """The largest possible request: all of the largest node seen lately, or `EVERYTHING` before any was seen."""
        sizes = self.memory.overhead.node_sizes
        return sizes[-1] if sizes else EVERYTHING

    @property
    def most_cpus(self) -> float:
        """The most CPUs of a node, as last seen for some time; those of a simulation where no node has any."""
        return max((node.cpus for node in self._seen.nodes), default=0.0) or self.policy.cpus

    @property
    def top_limit_bytes(self) -> int:
        """The largest possible limit: what a task of the whole largest node leaves it, or the user's cap."""
        return max(1, self.capped(self.memory.overhead.limit_bytes(self.top_bytes)))

    def is_at_maximum(self, limit_bytes: int) -> bool:
        """Whether no simulation could get more than this on the nodes seen lately."""
        return limit_bytes >= self.top_limit_bytes

    def fills_node(self, request_bytes: int) -> bool:
        """Whether a chunk of this request has the largest node for itself, so that only it can exhaust the memory."""
        return request_bytes >= self.top_bytes

    def capped(self, limit_bytes: int) -> int:
        """A limit, or the user's cap where that is less."""
        cap = self.policy.max_memory_bytes
        return limit_bytes if cap is None else min(limit_bytes, cap)

    @property
    def plenty_bytes(self) -> int:
        """The limit of a probe: with its worker it requests the window's `plenty_bytes`."""
        plenty_bytes = self.window.plenty_bytes
        return max(self.memory.overhead.limit_bytes(plenty_bytes), plenty_bytes // 2)

    @property
    def _typical_width(self) -> int:
        return self.memory.width_for(self._typical_limit_bytes)

    @property
    def _typical_limit_bytes(self) -> int:
        return self.capped(self.memory.typical_limit(self.plenty_bytes))

    @property
    def typical_request_bytes(self) -> int:
        """The request of a simulation of a set not measured yet: its part of the request of its task."""
        limit, width = self._typical_limit_bytes, self._typical_width
        least = self.memory.typical_least(limit)
        return self.memory.request_for(limit, self.top_bytes, width, least_limit_bytes=least) // width

    @property
    def fit_in_memory(self) -> tuple[int, int]:
        """How many simulations the present memory holds at once, and how many if each imported the model itself."""
        request, width = self.typical_request_bytes, self._typical_width
        alone = self.memory.overhead.unshared_bytes(self._typical_limit_bytes)
        memory = [node.memory_bytes for node in self.window.capacity.nodes]
        return width * sum(each // (request * width) for each in memory), sum(each // alone for each in memory)

    @property
    def concurrency(self) -> int:
        """How many of those run at once on the present nodes."""
        width = self._typical_width
        return width * self.window.slots_at(self.typical_request_bytes * width, width)

    def _slots_per_node(self, nodes: Iterable[Node]) -> int:
        """Simulations that the CPUs of the smallest node run at once; 1 where every task runs one at a time."""
        if not self.policy.supervised:
            return 1
        return max(1, slots_by_cpus(min((node.cpus for node in nodes), default=1.0), self.policy.cpus))

    def update(self, capacity: Capacity, now_s: float = 0.0) -> None:
        """Take note of the cluster."""
        self.window.update(capacity)
        self._seen.update(now_s, self.window.all_nodes)
        self._able.update(now_s, self.window.able_nodes)
        self.memory.slots_per_node = self._slots_per_node(self._able.nodes)
        self.memory.overhead.update(node.memory_bytes for node in self._able.nodes)
        if self._known_peaks:
            self.memory.seed(self._known_peaks, self.top_bytes)
            self._known_peaks = {}

    def cannot_fit(self, request_bytes: int, width: int) -> bool:
        """Whether no node that was there lately, or could have come, holds a task of this request."""
        n_slots = slots(self._able.nodes, width * self.policy.cpus, request_bytes)
        return bool(self._able.nodes) and not n_slots

    def granted(self, limit_bytes: int, request_bytes: int, width: int) -> int:
        """The limit that a rounded-up request leaves each simulation; a limit that the user gave stays as it is."""
        if self.policy.memory_bytes is not None and request_bytes < self.top_bytes:
            return limit_bytes
        return max(1, self.capped(self.memory.overhead.limit_bytes(request_bytes, width)))

    def request(self, need: Need, sets: Sequence[int], width_of: Callable[[int], int]) -> Allocation:
        """What each simulation of these sets, and the whole of their task, would be given.

        Args:
            need: What they are known to need, where they run again.
            sets: Their parameter sets.
            width_of: How many run at a time, of a limit.
        """
        limit = self.capped(self.memory.limit_again(need, sets, self.plenty_bytes))
        width = width_of(limit)
        has_overrun = need.overrun is not None or len(sets) > 1
        least = None if has_overrun else self.memory.least_for(sets[0], limit)
        return Allocation(limit, self.memory.request_for(limit, self.top_bytes, width, least_limit_bytes=least), width)
