"""What a worker has learned of a model and of itself, which outlives chunks.

Owns where it is kept. How many simulations share a child follows from it in `sharing`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from modelops_ray.runner.shared_files import SharedFiles
from modelops_ray.runner.sharing import Sharing
from modelops_ray.sandbox.loading import require_same
from modelops_ray.sandbox.measure import private_bytes

MEASURED_EVERY_S = 10.0


@dataclass(slots=True)
class Learned:
    """What simulations and forks of a model take; `own_bytes` is what a child owns at birth, 0 while not measured.

    `prints` says whether any simulation was seen to print something.
    """

    sharing: Sharing
    own_bytes: int = 0
    prints: bool = False
    shared_files: SharedFiles = field(default_factory=SharedFiles)

    def note(self, own_bytes: int, wrote: Iterable[tuple[int, str]], changed: Sequence[str]) -> None:
        """Take note of what a child told besides outputs: paths that simulations, by position, wrote, for example."""
        self.own_bytes = max(self.own_bytes, own_bytes)
        self.shared_files.note(wrote, changed)


# Two, for where `fork` turned out not to be safe and `reuse` is what is done.
@functools.lru_cache(maxsize=2)
def learned(_digest: str, isolation: str, per_child: int | None) -> Learned:
    """What is known of the model with this digest; always the same value while it is one of the last two."""
    return Learned(Sharing(1 if isolation == "fresh" else per_child, goes_on=isolation == "reuse"))


def worker_bytes() -> int:
    """What this process owns, in bytes, measured at most every 10 s."""
    return _worker_bytes(int(time.monotonic() / MEASURED_EVERY_S))


@functools.lru_cache(maxsize=1)
def _worker_bytes(_period: int) -> int:
    """Measure this process; reading it takes milliseconds, and it hardly changes."""
    return private_bytes()


require_same_once = functools.lru_cache(maxsize=1)(require_same)
"""Make sure, once, that the model here is the one the run began with; ModelError where it is not."""
