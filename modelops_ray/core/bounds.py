"""What bounds a run at a moment, and for how long each thing did: why no more simulations run at once.

Owns the order in which it is looked for. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from modelops_ray.core.events import Capacity
from modelops_ray.core.scheduler import Dispatch
from modelops_ray.core.window import slots_by_cpus

ALL_BUSY = 0.95
"""The part of the slots of all CPUs from which on it is these that bound a run."""


class Bound(StrEnum):
    """Why no more simulations run at once; the last ones of a run are `END`."""

    NODES = "nodes"
    START_UP = "start-up"
    END = "end"
    WRITER = "writer"
    CPUS = "cpus"
    WINDOW = "window"
    MEMORY = "memory"


def bound_of(dispatch: Dispatch, unwritten_bytes: int, *, has_results: bool) -> Bound:
    """Say what bounds a run now; `unwritten_bytes` is what has finished and is not committed."""
    admission, window, policy = dispatch.admission, dispatch.window, dispatch.policy
    if not window.capacity.nodes:
        return Bound.NODES
    if not has_results or admission.is_probing:
        return Bound.START_UP
    n_by_cpus = sum(slots_by_cpus(node.cpus, policy.cpus) for node in window.capacity.nodes)
    n_running = min(dispatch.allocator.concurrency, admission.n_slots_asked_for)
    if n_running >= ALL_BUSY * n_by_cpus:
        return Bound.CPUS
    if not dispatch.pending.n:
        return Bound.END
    if dispatch.waits_for_writer(unwritten_bytes):
        return Bound.WRITER
    is_narrow = policy.window is not None or window.factor < 1.0
    if is_narrow and len(dispatch.outstanding) >= window.most:
        return Bound.WINDOW
    return Bound.MEMORY


@dataclass(slots=True)
class Tally:
    """For how many seconds each thing bound a run, and how large the cluster was at most."""

    seconds: dict[Bound, float] = field(default_factory=dict)
    n_running_max: int = 0
    capacity: Capacity = field(default_factory=lambda: Capacity(nodes=()))
    _told_s: float = 0.0

    def add(self, elapsed_s: float, bound: Bound, n_running: int, capacity: Capacity) -> None:
        """Until this moment of the run it was bound by this."""
        self.seconds[bound] = self.seconds.get(bound, 0.0) + max(0.0, elapsed_s - self._told_s)
        self._told_s = elapsed_s
        self.n_running_max = max(self.n_running_max, n_running)
        if len(capacity.nodes) >= len(self.capacity.nodes):
            self.capacity = capacity

    def values(self) -> Mapping[str, Any]:
        """All of it as JSON values; sizes in bytes."""
        nodes = self.capacity.nodes
        return {
            "seconds": {str(bound): round(seconds, 3) for bound, seconds in self.seconds.items()},
            "running_max": self.n_running_max,
            "nodes": len(nodes),
            "cpus": sum(node.cpus for node in nodes),
            "memory_bytes": sum(node.memory_bytes for node in nodes),
            "largest_node_bytes": max((node.memory_bytes for node in nodes), default=0),
        }
