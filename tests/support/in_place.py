"""A committer without a thread, so that a whole run takes place in one thread and comes out the same every time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from modelops_ray.core.events import Capacity, Event, WritePart
from modelops_ray.core.view import View
from modelops_ray.session.committer import HEARTBEAT_EVERY_S, Desk
from modelops_ray.session.ports import Snapshot

SNAPSHOT = Snapshot(View(4, 1, 3, 5, 0, 0, 1, 1, False, 0, Capacity(()), 0, 0), 1.0, 9, 2)
"""Some moment of some run."""


class InPlace:
    """Commits when it is polled, and beats when it is polled late enough; `wait` lets virtual seconds pass."""

    def __init__(self, desk: Desk, wait: Callable[[float], None]) -> None:
        self._desk = desk
        self._wait = wait
        self._jobs: deque[tuple[WritePart, Snapshot]] = deque()
        self._snapshot: Snapshot | None = None
        self._beat_s = desk.clock()
        self._error: Exception | None = None

    def submit(self, write: WritePart, snapshot: Snapshot) -> None:
        """Keep it for the next poll."""
        self._jobs.append((write, snapshot))

    def update(self, snapshot: Snapshot) -> None:
        """Keep it for the next heartbeat."""
        self._snapshot = snapshot

    def poll(self, timeout_s: float = 0.0) -> list[Event]:
        """Make one commit, or let the time pass; what failed once fails from then on."""
        if self._error is not None:
            raise self._error
        try:
            if self._jobs:
                return self._desk.commit(*self._jobs.popleft())
            self._beat_in_time()
        except Exception as error:
            self._error = error
            raise
        self._wait(timeout_s)
        return []

    def _beat_in_time(self) -> None:
        if self._snapshot is not None and self._desk.clock() - self._beat_s >= HEARTBEAT_EVERY_S:
            self._beat_s = self._desk.clock()
            self._desk.beat(self._snapshot)
