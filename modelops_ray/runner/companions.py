"""What a worker that simulates itself (`--isolation none`) and the processes that a model starts use together.

Owns the thread that looks: there is no fork server here that would. A lower bound of the peak, as all that is sampled.
Nothing is held to a limit.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Self

from modelops_ray.sandbox.family import Family, ServerMemory
from modelops_ray.sandbox.processes import Process, descendants, families, newest_pid, process

LOOK_S = 0.1


@dataclass(slots=True)
class _Seen:
    """What was seen in one simulation, before which the worker had made `before_bytes`."""

    before_bytes: int
    peak_bytes: int = 0
    rough_bytes: int = 0


class Companions:
    """Looks every 100 ms for processes below this one, and at them all while there are any."""

    def __init__(self) -> None:
        self._now = _Seen(0)
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
        self._now = _Seen(made_bytes)

    def peak_bytes(self) -> int:
        """Return the most that was seen since then; 0 where the model started nothing, or nothing that was seen.

        An exact look at processes with gigabytes may take longer than a simulation: a rough one stands in for it.
        """
        return self._now.peak_bytes or self._now.rough_bytes

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
            now = self._now
            family.keep({(one.pid, one.started_ticks) for one in others})
            for one in others:
                family.take_in(one)
            family.high_bytes = 0
            now.rough_bytes = max(now.rough_bytes, family.roughly_bytes() - now.before_bytes)
            used_bytes = family.used_bytes()
            # More than all together has one that the kernel remembers a peak of.
            seen_bytes = family.high_bytes if family.high_bytes > used_bytes else used_bytes - now.before_bytes
            now.peak_bytes = max(now.peak_bytes, seen_bytes)
            if self._stop.wait(LOOK_S):
                return

    def _others(self) -> list[Process]:
        """Everything below this process that was not there at the start."""
        table = {one.pid: one for one in descendants(self._pid)}
        return [table[pid] for pid in families([self._pid], table.values(), {})[self._pid] if pid not in self._spared]
