"""What a task needs besides its simulations: its worker, their processes, and its share of the model they all have.

Owns the arithmetic between a limit (of one simulation) and a request (of a task of `width` simulations at a time).
Does not know peaks or sizes in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from modelops_ray.core.events import Node
from modelops_ray.core.report import ChunkReport

WORTH_SHARING = 0.1
"""A worker is shared by as many simulations as make it no more than this much of what one of them needs."""
MAX_WIDTH = 16
TASKS_PER_NODE = 4
"""A node should hold so many tasks at least, or their ends would leave it idle."""


@dataclass(slots=True)
class Overhead:
    """Sizes in bytes, the largest seen; a guess until the first chunk reports.

    `worker_bytes` a worker's own, `child_bytes` what each simulation's process adds before it begins, `shared_bytes`
    what all of a node share, `node_bytes` the memory of the smallest node.
    """

    worker_bytes: int
    child_bytes: int = 0
    shared_bytes: int = 0
    node_bytes: int = 0
    is_guess: bool = True

    def observe(self, report: ChunkReport) -> None:
        """Learn from a chunk."""
        worker_bytes = report.base_bytes - report.child_bytes
        if not report.base_bytes:
            return
        if self.is_guess:
            # What earlier runs measured may have been at another level of isolation.
            self.worker_bytes = self.child_bytes = self.shared_bytes = 0
            self.is_guess = False
        self.worker_bytes = max(self.worker_bytes, worker_bytes)
        self.child_bytes = max(self.child_bytes, report.child_bytes)
        self.shared_bytes = max(self.shared_bytes, report.shared_bytes)

    def look(self, nodes: Iterable[Node], limit_bytes: int) -> None:
        """Learn how large the smallest node is, of those that can hold a simulation with this limit at all."""
        sizes = [node.memory_bytes for node in nodes]
        able = [size for size in sizes if size >= self.unshared_bytes(limit_bytes)]
        self.node_bytes = min(able or sizes, default=0)

    @property
    def _share(self) -> float:
        """So much larger is every request that on a full node the shares sum to what is shared, whatever the mix."""
        left_bytes = max(self.node_bytes - self.shared_bytes, self.node_bytes // 2)
        return self.node_bytes / left_bytes if left_bytes else 1.0

    def task_bytes(self, limit_bytes: int, width: int = 1) -> int:
        """What a task has to declare."""
        return math.ceil((self.worker_bytes + width * (self.child_bytes + limit_bytes)) * self._share)

    def unshared_bytes(self, limit_bytes: int) -> int:
        """What a task would have to declare if its worker imported the model itself."""
        return self.worker_bytes + self.shared_bytes + limit_bytes

    def limit_bytes(self, task_bytes: int, width: int = 1) -> int:
        """What each of `width` simulations may use in a task that declares so much; may be negative."""
        return (int(task_bytes / self._share) - self.worker_bytes) // width - self.child_bytes

    def width(self, limit_bytes: int, slots_per_node: int) -> int:
        """How many simulations share a worker: so many that its memory does not matter, but no more than fit."""
        each_bytes = max(1, limit_bytes + self.child_bytes)
        wanted = math.ceil(self.worker_bytes / (WORTH_SHARING * each_bytes))
        fitting = (int(self.node_bytes / self._share) - self.worker_bytes) // each_bytes if self.node_bytes else wanted
        return max(1, min(wanted, fitting, slots_per_node // TASKS_PER_NODE, MAX_WIDTH))
