"""Where a child has got to, and what its family was seen to use, in memory shared by child, supervisor and fork server.

Owns the layout. A child that is killed leaves behind which simulation it was in: no message could tell that.
Standard library only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from .held import held

BYTES = 40
"""What follows in the file is what Python tells of shared memory that it made."""
NOT_READY = -2
RESTING = -1
ANSWERED = -3


class Board:
    """The index of the simulation that a child is in, among those it was given last, and when that began.

    `NOT_READY` before a child can run anything, `RESTING` while it has been given nothing, `ANSWERED` once it has sent
    what came of all it was given last. Each of the two is one aligned store of eight bytes, so that no half is
    ever read. The time is written first and read last, so that a new index is not read with an older time.

    The fork server adds how much the child and what it started were seen to use in that simulation. The time when that
    began is written after the amount: what is of another simulation is not taken for this one's.
    """

    def __init__(self, fd: int, *, for_forks: bool = True) -> None:
        """Map a board; the descriptor stays the caller's. Not `for_forks`, those of this process lack it."""
        self._memory = mmap.mmap(fd, BYTES)
        if not for_forks:
            self._memory.madvise(mmap.MADV_DONTFORK)
        self._index = memoryview(self._memory).cast("q")
        self._since_s = memoryview(self._memory).cast("d")

    @staticmethod
    def create(folder: Path) -> int:
        """Return the descriptor of a new board, a file in a folder for one moment; OSError without room for it."""
        path = folder / "board"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            path.unlink()
            os.write(fd, struct.pack("=qdqdd", NOT_READY, held.monotonic_s(), 0, 0.0, 0.0))
        except OSError:
            os.close(fd)
            raise
        return fd

    def set(self, index: int) -> None:
        """Say where the child is now."""
        self._since_s[1] = held.monotonic_s()
        self._index[0] = index

    def set_answered(self, sent_s: float) -> None:
        """Say that the child began at `sent_s` to send the last of its answers: nothing it had by then is to come.

        The supervisor may have given it more while it sent; of that work `answered_s` says nothing.
        """
        self._since_s[4] = sent_s
        self.set(ANSWERED)

    @property
    def answered_s(self) -> float:
        """All that was given to the child before this time is answered; 0.0 where nothing is."""
        return self._since_s[4]

    @property
    def state(self) -> tuple[int, float]:
        """Where the child is, and since when, on the monotonic clock of this machine."""
        index = self._index[0]
        return index, self._since_s[1]

    def tell_seen(self, n_bytes: int, since_s: float) -> None:
        """Say how much was seen to be used, at most, in the simulation that began then."""
        self._index[2] = n_bytes
        self._since_s[3] = since_s

    @property
    def seen_bytes(self) -> int:
        """The most that the server saw used in the simulation that the child is in; 0 where it did not look."""
        n_bytes = self._index[2]
        return n_bytes if self._since_s[3] == self._since_s[1] else 0

    def close(self) -> None:
        """Let go of the memory."""
        self._index.release()
        self._since_s.release()
        self._memory.close()
