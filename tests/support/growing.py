"""Forks of the test's own process that make memory when they are told to."""

from __future__ import annotations

import mmap
import os
import signal
from contextlib import suppress

STEP_BYTES, PIECE_BYTES = 40 * 2**20, 2**16


class Growing:
    """A fork that makes `STEP_BYTES` each time it is told to grow, and can write to all of `shared`."""

    def __init__(self, shared: mmap.mmap | None = None) -> None:
        """Fork."""
        theirs, self._tell = os.pipe()
        self._told, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._tell)  # or it would not see the end of its own test
            _be(theirs, ours, shared)
        os.close(theirs)
        os.close(ours)

    def grow(self) -> None:
        """Have it make more, and wait until it has."""
        self._do(b"g")

    def touch(self) -> None:
        """Have it write to all of the shared memory, and wait until it has."""
        self._do(b"t")

    def _do(self, what: bytes) -> None:
        os.write(self._tell, what)
        assert os.read(self._told, 1) == b"d"

    def end(self) -> None:
        """End it, and wait for that."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._tell)
            os.close(self._told)
            self.pid = 0


def _be(theirs: int, ours: int, shared: mmap.mmap | None) -> None:
    held = []
    while what := os.read(theirs, 1):
        if what == b"g":
            # Never what the fork has from its parent, which would be copied and not made.
            held.append(mmap.mmap(-1, STEP_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            for _ in range(STEP_BYTES // PIECE_BYTES):
                held[-1].write(bytes(PIECE_BYTES))
        elif shared is not None:
            for at in range(0, len(shared), mmap.PAGESIZE):
                shared[at] = 1
        os.write(ours, b"d")
    os._exit(0)
