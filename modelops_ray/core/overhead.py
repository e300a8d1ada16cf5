"""What a task needs besides its simulations: its worker, their processes, and its part of what a node shares.

Owns the arithmetic between a limit (of one simulation) and a request (of a task of `width` simulations at a time).
Does not know peaks or sizes in use.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from modelops_ray.core.report import ChunkReport

WORTH_SHARING = 0.1
"""Run enough simulations per task that the worker's memory costs each at most this part of what it needs."""
MAX_WIDTH = 16
TASKS_PER_NODE = 4
"""A node is to hold at least this many tasks: fewer would leave much of it idle when one ends."""


@dataclass(slots=True)
class Overhead:
    """Sizes in bytes, the largest measured; a guess until the first chunk reports.

    `worker_bytes` a worker's own, `child_bytes` what each simulation's process adds before it begins, `shared_bytes`
    what all tasks of a node share, `node_sizes` the memory of nodes that tasks may run on, each size once, ascending.

    Ray only adds up requests, so each request holds a part of `shared_bytes` in proportion to what its task needs, on
    the smallest node that can hold both: on a full node of that size, these parts sum to `shared_bytes`. A task that
    does not fit on a node beside `shared_bytes` requests more than that node has, so that Ray does not place it there.
    """

    worker_bytes: int
    child_bytes: int = 0
    shared_bytes: int = 0
    node_sizes: tuple[int, ...] = ()
    is_guess: bool = True

    def observe(self, report: ChunkReport) -> None:
        """Take in the sizes that a chunk measured."""
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

    def update(self, node_sizes: Iterable[int]) -> None:
        """Take note of the memory of the nodes, in any order."""
        self.node_sizes = tuple(sorted(set(node_sizes)))

    def node_for(self, task_bytes: int) -> int | None:
        """Bytes of the smallest node with at least `task_bytes`; of the largest if none has, None without nodes."""
        at = min(bisect_left(self.node_sizes, task_bytes), len(self.node_sizes) - 1)
        return self.node_sizes[at] if self.node_sizes else None

    def _left_bytes(self, node_bytes: int) -> int:
        """Bytes of a node beside `shared_bytes`; of the largest node at least half, or nothing could ever run."""
        least = node_bytes // 2 if node_bytes == self.node_sizes[-1] else 0
        return max(node_bytes - self.shared_bytes, least)

    def task_bytes(self, limit_bytes: int, width: int = 1) -> int:
        """Bytes that a task has to request so that each of `width` simulations may use `limit_bytes`."""
        needed = self.worker_bytes + width * (self.child_bytes + limit_bytes)
        if not self.node_sizes:
            return needed
        at = min(bisect_left(self.node_sizes, needed + self.shared_bytes), len(self.node_sizes) - 1)
        node, too_small = self.node_sizes[at], self.node_sizes[at - 1] if at else 0
        return max(too_small + 1, -(-needed * node // max(1, self._left_bytes(node))))

    def unshared_bytes(self, limit_bytes: int) -> int:
        """Bytes that a task would have to request if its worker imported the model itself."""
        return self.worker_bytes + self.shared_bytes + limit_bytes

    def limit_bytes(self, task_bytes: int, width: int = 1) -> int:
        """Bytes that each of `width` simulations may use in a task that requests `task_bytes`; may be negative."""
        return (self._unshared_part(task_bytes) - self.worker_bytes) // width - self.child_bytes

    def _unshared_part(self, task_bytes: int) -> int:
        node = self.node_for(task_bytes)
        return task_bytes * self._left_bytes(node) // node if node else task_bytes

    def width(self, limit_bytes: int, slots_per_node: int) -> int:
        """How many simulations share a worker: as `WORTH_SHARING` wants, but no more than fit on a node."""
        most = min(slots_per_node // TASKS_PER_NODE, MAX_WIDTH)
        if most <= 1:
            return 1
        each_bytes = max(1, limit_bytes + self.child_bytes)
        wanted = math.ceil(self.worker_bytes / (WORTH_SHARING * each_bytes))
        node = self.node_for(self.task_bytes(limit_bytes))
        fitting = (self._unshared_part(node) - self.worker_bytes) // each_bytes if node else wanted
        return max(1, min(wanted, fitting, most))
