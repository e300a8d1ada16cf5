"""The part of a simulation's peak that its process cannot see of itself.

That is what the fork server saw of all that it started, and what a fork copied of the pages of the process that it was
forked from, by which no resident memory grows. Runs in the child, after a simulation; what a family copied while one
runs is `family`'s to see. Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measure import private_bytes

if TYPE_CHECKING:
    from .board import Board
    from .measure import Meter

COPIED_BYTES = 32 * 2**20
"""Pages that a fork copies without doing anything to them, at most: they are what a child costs."""
WORTH_ASKING_S = 0.02
"""In less the fork server has hardly looked, and no process that a model starts gets far."""
WORTH_LOOKING_S = 0.1


class WholePeak:
    """Completes what a meter measured."""

    def __init__(self, meter: Meter, board: Board, *, is_fork: bool) -> None:
        self._meter, self._board, self._is_fork = meter, board, is_fork
        self._copied_bytes = COPIED_BYTES

    def peak_bytes(self, made_bytes: int, seconds: float) -> int:
        """Return the peak of a simulation that took this long and whose process made `made_bytes`."""
        if seconds < WORTH_ASKING_S:
            return made_bytes
        # Looking takes milliseconds: it is worth it where there were more page faults than were needed for the peak.
        if self._is_fork and seconds > WORTH_LOOKING_S and self._meter.faulted_bytes() > made_bytes + COPIED_BYTES:
            made_bytes += self._copied_now_bytes()
        return max(made_bytes, self._board.seen_bytes)

    def own_bytes(self, private_bytes: int) -> int:
        """Return how much of `private_bytes`, in which what simulations made is not, is the child's own."""
        return max(0, min(private_bytes, COPIED_BYTES) if self._is_fork else private_bytes)

    def _copied_now_bytes(self) -> int:
        """What was copied since the last look, beyond what every fork copies."""
        before_bytes = self._copied_bytes
        self._copied_bytes = max(before_bytes, private_bytes() - self._meter.grown_bytes())
        return self._copied_bytes - before_bytes
