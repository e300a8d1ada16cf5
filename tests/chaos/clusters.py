"""A Ray cluster that is made whole again: nodes that ended are replaced, and all of it where its head has ended.

Owns the cluster's folders, each node's own; starting and ending its processes is `support.ray_cluster`'s.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.ray_cluster import MIB, RayCluster

N_NODES = 2
NODE_MEMORY_BYTES = 700 * MIB
STARTS_WITHIN_S = 180.0


@dataclass(slots=True)
class MendedCluster:
    """A head that takes no simulations, and two nodes; `folder` must have a short path, for Ray's sockets."""

    folder: Path
    _ray: RayCluster | None = None
    _nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _n_started: int = 0

    @property
    def address(self) -> str:
        """Where drivers join."""
        assert self._ray is not None
        return self._ray.gcs_address

    @property
    def has_nodes(self) -> bool:
        """Whether there is one to run simulations on, as far as its processes tell."""
        return any(node.poll() is None for node in self._nodes)

    def mend(self) -> None:
        """Start what is not there; again where Ray gives up what takes long to start, as on a machine that is busy."""
        last_s = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                return self._start_what_is_missing()
            except AssertionError:
                if time.monotonic() > last_s:
                    raise

    def _start_what_is_missing(self) -> None:
        if self._ray is None or self._ray.has_ended():
            self.close()
            self._ray = RayCluster(self.folder / self._next_name())
            self._ray.folder.mkdir()
            self._ray.start_head()
        self._nodes = [node for node in self._nodes if node.poll() is None]
        while len(self._nodes) < N_NODES:
            self._nodes.append(self._ray.start_node(self._next_name(), NODE_MEMORY_BYTES))

    def _next_name(self) -> str:
        self._n_started += 1
        return f"c{self._n_started}"

    def close(self) -> None:
        """End all of it and remove its folders."""
        if self._ray is not None:
            self._ray.close()
            shutil.rmtree(self._ray.folder)
        self._ray, self._nodes = None, []
