"""What a worker that simulates itself (`--isolation none`) and the processes that a model starts use together.

Owns the thread that looks: there is no fork server here that would. A lower bound of the peak, as all that is sampled.
Nothing is held to a limit.
"""

from __future__ import annotations

import os
import threading
from typing import Self

from modelops_ray.sandbox.family import Family, ServerMemory
from modelops_ray.sandbox.processes import Process, descendants, families, newest_pid, process

LOOK_S = 0.1


class Companions:
    """Looks every 100 ms for processes below this one, and at them all while there are any."""

    def __init__(self) -> None:
        self._before_bytes = self._peak_bytes = self._rough_bytes = self._simulation = 0
        self._pid, self._spared = os.getpid(), frozenset[int]()
        self._spared = frozenset(one.pid for one in self._others())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="companions", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def begin(self, made_bytes: int) -> None:
        """Begin with a simulation, before which this process had made `made_bytes`."""
        self._simulation += 1
        self._before_bytes, self._peak_bytes, self._rough_bytes = made_bytes, 0, 0

    def peak_bytes(self) -> int:
        """Return the most that was seen since then; 0 where the model started nothing, or nothing that was seen.

        An exact look at processes with gigabytes may take longer than a simulation: a rough one stands in for it.
        """
        return self._peak_bytes or self._rough_bytes

    def _watch(self) -> None:
        newest = None
        while not self._stop.wait(LOOK_S):
            found = newest_pid()
            if found is None or found != newest:
                newest = found
                self._follow()

    def _follow(self) -> None:
        """Look for as long as there is a process below this one."""
        family = Family(self._pid, process(self._pid), 0, ServerMemory(pid=0))
        while others := self._others():
            simulation, before_bytes = self._simulation, self._before_bytes
            for pid in family.others.keys() - {one.pid for one in others}:
                del family.others[pid]
            for one in others:
                family.take_in(one)
            family.high_bytes = 0
            self._rough_bytes = max(self._rough_bytes, family.roughly_bytes() - before_bytes)
            used_bytes = family.used_bytes()
            # More than all together has one that the kernel remembers a peak of.
            seen_bytes = family.high_bytes if family.high_bytes > used_bytes else used_bytes - before_bytes
            if simulation == self._simulation:
                self._peak_bytes = max(self._peak_bytes, seen_bytes)
            if self._stop.wait(LOOK_S):
                return

    def _others(self) -> list[Process]:
        """Everything below this process that was not there at the start."""
        table = {one.pid: one for one in descendants(self._pid)}
        return [table[pid] for pid in families([self._pid], table.values(), {})[self._pid] if pid not in self._spared]
