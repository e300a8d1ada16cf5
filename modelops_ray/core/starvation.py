"""Which chunks wait in Ray's queue and were overtaken; Ray itself has neither reservation nor ageing.

Ray starts every task that fits, so a request for most of a node never starts while smaller ones keep being submitted.
Once more than two later chunks per slot have ended before the first waiting chunk of a size began, other sizes are held
back until it begins. Does not know what is pending.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Line:
    """Chunks of one request that have not begun, in order of submission, and how often the first was overtaken."""

    waiting: deque[int] = field(default_factory=deque)
    overtaken: int = 0


@dataclass(slots=True)
class HoldBack:
    """The chunks whose start was not reported; where a backend cannot see starts, they stay until they end."""

    held_for: int | None = None
    _lines: dict[int, _Line] = field(default_factory=dict)
    _request_of: dict[int, int] = field(default_factory=dict)

    def join(self, chunk_id: int, request_bytes: int) -> None:
        """A chunk was submitted; ids grow in the order of submission."""
        self._lines.setdefault(request_bytes, _Line()).waiting.append(chunk_id)
        self._request_of[chunk_id] = request_bytes

    def leave(self, chunk_id: int) -> bool:
        """A chunk began, or ended; tell whether others were held back for it and may be submitted again."""
        request_bytes = self._request_of.pop(chunk_id, None)
        if request_bytes is None or self._lines[request_bytes].waiting[0] != chunk_id:
            return False
        self._advance(request_bytes)
        if self.held_for != request_bytes:
            return False
        self.held_for = None
        return True

    def _advance(self, request_bytes: int) -> None:
        """The first of a line left: those that left before it, from behind, go with it."""
        line = self._lines[request_bytes]
        line.overtaken = 0
        while line.waiting and line.waiting[0] not in self._request_of:
            line.waiting.popleft()
        if not line.waiting:
            del self._lines[request_bytes]

    def end(self, chunk_id: int, n_slots: int) -> None:
        """A chunk ended; `n_slots` is how many of its size the cluster runs at once."""
        self.leave(chunk_id)
        for request_bytes, line in self._lines.items():
            if line.waiting[0] < chunk_id:
                line.overtaken += 1
                if line.overtaken > 2 * max(1, n_slots) and self.held_for is None:
                    self.held_for = request_bytes

    def is_held_back(self, request_bytes: int) -> bool:
        """Whether a chunk of this request must wait for one that was overtaken too often."""
        return self.held_for is not None and request_bytes != self.held_for
