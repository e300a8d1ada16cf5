"""Where a child has got to, in memory it shares with its supervisor and the fork server.

Owns the layout. A child that is killed leaves behind which simulation it was in: no message could tell that.
Standard library only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from .held import held

_BYTES = 16
NOT_READY = -2
RESTING = -1
ANSWERED = -3


class Board:
    """The index of the simulation that a child is in, among those it was given last, and when that began.

    `NOT_READY` before a child can run anything, `RESTING` while it has been given nothing, `ANSWERED` once it has sent
    what came of all it was given last. Each of the two is one aligned store of eight bytes, of which nobody reads a
    half. The time is written first and read last, so that nobody reads a
    new index with an older time.
    """

    def __init__(self, fd: int) -> None:
        """Map a board; the descriptor stays the caller's."""
        self._memory = mmap.mmap(fd, _BYTES)
        self._index = memoryview(self._memory).cast("q")
        self._since_s = memoryview(self._memory).cast("d")

    @staticmethod
    def create(folder: Path) -> int:
        """Return the descriptor of a new board, a file in a folder for one moment.

        Raises:
            OSError: There is no descriptor or disk left for it.
        """
        path = folder / "board"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            path.unlink()
            os.write(fd, struct.pack("=qd", NOT_READY, held.monotonic_s()))
        except OSError:
            os.close(fd)
            raise
        return fd

    def set(self, index: int) -> None:
        """Say where the child is now."""
        self._since_s[1] = held.monotonic_s()
        self._index[0] = index

    @property
    def state(self) -> tuple[int, float]:
        """Where the child is, and since when, on the monotonic clock of this machine."""
        index = self._index[0]
        return index, self._since_s[1]

    def close(self) -> None:
        """Let go of the memory."""
        self._index.release()
        self._since_s.release()
        self._memory.close()
