"""Where a child has got to, in memory it shares with its supervisor and the fork server.

Owns the layout. A child that is killed leaves behind which simulation it was in: no message could tell that.
Standard library only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

_LAYOUT = struct.Struct("=qd")
NOT_READY = -2
RESTING = -1


class Board:
    """The index of the simulation that a child is in, among those it was given last, and when that began.

    `NOT_READY` before a child can run anything, `RESTING` between what it is given.
    """

    def __init__(self, fd: int) -> None:
        """Map a board; the descriptor stays the caller's."""
        self._memory = mmap.mmap(fd, _LAYOUT.size)

    @staticmethod
    def create() -> int:
        """Return the descriptor of a new board."""
        fd = os.memfd_create("board")
        os.write(fd, _LAYOUT.pack(NOT_READY, time.monotonic()))
        return fd

    def set(self, index: int) -> None:
        """Say where the child is now."""
        _LAYOUT.pack_into(self._memory, 0, index, time.monotonic())

    @property
    def state(self) -> tuple[int, float]:
        """Where the child is, and since when, on the monotonic clock of this machine."""
        index, since_s = _LAYOUT.unpack_from(self._memory)
        return index, since_s

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
