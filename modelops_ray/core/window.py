"""How many chunks may be outstanding: enough to keep every slot busy, never more than that needs.

Slots are counted at one request size, so the window is a function of the size; the rule holds for every size:
chunks asking for at least r are at most window(r). Does not choose what is submitted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from modelops_ray.core.events import Capacity, Node
from modelops_ray.core.policy import Policy

_PROBES_AT_ONCE = 4
"""On few nodes, requests of unknown size shrink until this many simulations run at once, CPUs permitting."""


def slots_by_cpus(node_cpus: float, cpus: float) -> int:
    """How many simulations of `cpus` each a node has CPUs for; allows for rounding errors of tenths of a CPU."""
    return int(node_cpus / cpus + 1e-9)


def slots(nodes: Iterable[Node], cpus: float, request_bytes: int) -> int:
    """How many tasks of this request the nodes run at once: the sum of min(CPUs / cpus, memory / request)."""
    return sum(min(slots_by_cpus(node.cpus, cpus), node.memory_bytes // request_bytes) for node in nodes)


def window_size(n_slots: int, n_reachable_slots: int, cap: int) -> int:
    """The window: 1.5 x the slots the cluster could reach, up to `cap`; at least two per slot and one more.

    The cap bounds what is asked of an autoscaler ahead of need; slots that are there are always kept busy.
    """
    return max(2 * n_slots + 1, min(math.ceil(1.5 * n_reachable_slots), cap))


@dataclass(slots=True)
class Recent:
    """The nodes seen within the last `grace_s` seconds, one of each shape; while there are none, those seen last.

    So a node that restarts does not make the cluster smaller.
    """

    grace_s: float
    _seen_s: dict[Node, float] = field(default_factory=dict)

    @property
    def nodes(self) -> Collection[Node]:
        """One node of each shape."""
        return self._seen_s.keys()

    def update(self, now_s: float, nodes: Iterable[Node]) -> None:
        """Take note of the nodes that are there now."""
        now = dict.fromkeys(nodes, now_s)
        if now:
            kept = {node: seen_s for node, seen_s in self._seen_s.items() if now_s - seen_s < self.grace_s}
            self._seen_s = kept | now


@dataclass(slots=True)
class Window:
    """The window of a run; shrinks when Ray kills a task for memory, and recovers with each chunk that finishes.

    `plenty_bytes` is the request of a simulation of a model not measured yet: the smallest node, or the largest part of
    it with which four run at once. `payload_budget_bytes` bounds the outputs that are not committed yet.
    """

    policy: Policy
    capacity: Capacity = field(default_factory=lambda: Capacity(nodes=()))
    factor: float = 1.0
    plenty_bytes: int = 2**30
    payload_budget_bytes: int = 256 * 2**20
    _slots: dict[tuple[int, int], int] = field(default_factory=dict)
    _sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    def update(self, capacity: Capacity) -> None:
        """Take note of the cluster as it is now."""
        if capacity == self.capacity:
            return
        self.capacity = capacity
        self._slots.clear()
        self._sizes.clear()
        fitting = self._fitting(self.all_nodes)
        if fitting:
            smallest_bytes = min(node.memory_bytes for node in fitting)
            there = self._fitting(capacity.nodes) or fitting
            self.plenty_bytes = smallest_bytes // self._n_parts(there, smallest_bytes)
        per_node = self.policy.payload_budget_per_node_bytes * len(capacity.nodes)
        self.payload_budget_bytes = max(self.policy.payload_budget_bytes, per_node)

    def _fitting(self, nodes: Iterable[Node]) -> list[Node]:
        return [node for node in nodes if node.cpus >= self.policy.cpus]

    def _n_parts(self, nodes: Sequence[Node], node_bytes: int) -> int:
        """Into how many requests a node is divided: the fewest with which enough simulations run at once."""
        cpus = self.policy.cpus
        enough = max(1, min(_PROBES_AT_ONCE, sum(slots_by_cpus(node.cpus, cpus) for node in nodes)))
        return next((n for n in range(1, enough) if slots(nodes, cpus, node_bytes // n) >= enough), enough)

    @property
    def able_nodes(self) -> list[Node]:
        """Nodes that are there, or could be, and have the CPUs of a simulation."""
        return self._fitting({*self.capacity.nodes, *self.capacity.reachable})

    @property
    def all_nodes(self) -> tuple[Node, ...]:
        """Nodes that there could be, or those that are there where no more is known."""
        return self.capacity.reachable or self.capacity.nodes

    def slots_at(self, request_bytes: int, width: int = 1) -> int:
        """How many tasks of this request, with the CPUs of `width` simulations, the present nodes run at once."""
        key = request_bytes, width
        if key not in self._slots:
            self._slots[key] = slots(self.capacity.nodes, width * self.policy.cpus, request_bytes)
        return self._slots[key]

    def size_at(self, request_bytes: int, width: int = 1) -> int:
        """How many chunks of at least this request may be outstanding; never below 1."""
        if self.policy.window is not None:
            return self.policy.window
        key = request_bytes, width
        if key not in self._sizes:
            reachable = slots(self.all_nodes, width * self.policy.cpus, request_bytes)
            self._sizes[key] = window_size(self.slots_at(*key), reachable, self.policy.window_cap)
        return max(1, int(self._sizes[key] * self.factor))

    @property
    def most(self) -> int:
        """How many chunks may be outstanding, however little each asks for."""
        return self.size_at(1)

    def shrink(self) -> None:
        """Ray killed a task for memory: have fewer chunks in flight."""
        self.factor = max(0.1, self.factor * 0.7)

    def recover(self) -> None:
        """A chunk finished."""
        if self.factor < 1.0:
            self.factor = min(1.0, self.factor + 0.02)
