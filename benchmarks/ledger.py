"""What became of every attempt at a simulation, whichever engine made it: one file each, on a disk all pods see.

Owns those files: made when an attempt begins, touched while it lives, renamed when it ends well. What is left with its
first name was killed, and its age says how much time was lost. Models whose simulations are too short for a file do
without.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

DONE = ".done"


class Tally(NamedTuple):
    """What all attempts of a run came to; `repeats` began although another of the same simulation had begun before."""

    attempts: int
    finished: int
    repeats: int
    wasted_s: float


@dataclass
class Attempt:
    """One attempt that is going on."""

    path: str

    def beat(self) -> None:
        """Show that it is alive."""
        if self.path:
            os.utime(self.path)


@contextmanager
def attempt(folder: str, x: int, seed: int) -> Iterator[Attempt]:
    """Note that an attempt begins, and, unless it is killed, that it ended."""
    if not folder:
        yield Attempt("")
        return
    path = f"{folder}/{x}-{seed}-{time.time_ns()}"
    with open(path, "x"):  # noqa: PTH123
        pass
    yield Attempt(path)
    os.rename(path, path + DONE)  # noqa: PTH104


def tally(folder: Path) -> Tally:
    """Read what became of all attempts."""
    began: Counter[str] = Counter()
    finished, wasted_s = set[str](), 0.0
    for entry in os.scandir(folder):
        simulation, _, began_ns = entry.name.removesuffix(DONE).rpartition("-")
        began[simulation] += 1
        if entry.name.endswith(DONE):
            finished.add(simulation)
        else:
            wasted_s += max(0.0, entry.stat().st_mtime - int(began_ns) / 1e9)
    n = began.total()
    return Tally(n, len(finished), n - len(began), round(wasted_s, 2))
