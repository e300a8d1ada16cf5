"""How simulations are run at every level of isolation: the terms of a run, an attempt, and the contract.

Owns what a chunk and its executors agree on. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pyarrow as pa

from modelops_ray.config import Isolation
from modelops_ray.core.report import Failure
from modelops_ray.sandbox.limits import Limit
from modelops_ray.sandbox.loading import ModelRef
from modelops_ray.sandbox.outputs import Scalars
from modelops_ray.study.chunk import Chunk, Simulation
from modelops_ray.study.rows import RunIdentity

TARGET_PAYLOAD_BYTES = 16 * 2**20
TARGET_S = 5.0


TellExcess = Callable[[int, Mapping[int, int]], None]
"""Is given a chunk and, by position, the bytes that simulations of it use beyond their limit; nothing once they end."""


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """What all chunks of a run share; small, and pickled to every worker.

    `outputs` are the names to keep, None keeps all. `timeout_s` is per simulation, 0 for none. With `is_hard` a
    simulation is killed for more than its limit even where there is memory left, and without it for more than
    `cap_bytes`, None for any. `per_child` simulations share a process; None leaves it to what is measured. With
    `keep_output` what each prints is kept. All of a
    node use `node_bytes` at most, 0 for what it has. A chunk begins nothing more once its outputs reach
    `target_payload_bytes`, or what it finished first would wait for more than `target_s`. `tell_excess` tells an actor
    that outlives the node what simulations of a chunk use while that is more than their limit.
    """

    model: ModelRef
    run: RunIdentity
    outputs: tuple[str, ...] | None = None
    timeout_s: float = 0.0
    isolation: Isolation = "none"
    cpus: float = 1.0
    is_hard: bool = False
    cap_bytes: int | None = None
    per_child: int | None = None
    keep_output: bool = False
    node_bytes: int = 0
    target_payload_bytes: int = TARGET_PAYLOAD_BYTES
    target_s: float = TARGET_S
    tell_excess: TellExcess | None = None

    def limit_of(self, chunk: Chunk) -> Limit:
        """What one simulation of a chunk may use."""
        return Limit(chunk.limit_bytes, self.is_hard, self.cap_bytes)


class Read(NamedTuple):
    """The first `n` of the files that a process reads, each with its stamp; what it has read it may have kept.

    `files` is shared by all simulations of the process, and grows.
    """

    files: dict[tuple[str, str], None]
    n: int


class Attempt(NamedTuple):
    """What came of one simulation: its outputs, or why there are none, and what it took.

    `read` are the files that its process had read by then, besides those that the import reads; None for none.
    """

    outcome: Mapping[str, Scalars | pa.Table] | Failure
    seconds: float
    peak_bytes: int
    read: Read | None = None

    def within(self, most_s: float) -> Attempt:
        """Return the attempt with no more seconds than its chunk took: the clock it was measured on may be patched."""
        seconds = self.seconds
        # What is not a number is not greater than any, either.
        bounded_s = seconds if 0.0 <= seconds <= most_s else max(0.0, most_s) if seconds > most_s else 0.0
        return (
            self
            if bounded_s == seconds and self.peak_bytes >= 0
            else self._replace(seconds=bounded_s, peak_bytes=max(0, self.peak_bytes))
        )


class Surroundings(NamedTuple):
    """What is known around the simulations of a chunk at its end.

    A worker and its child own `base_bytes` before the first one, of which `child_bytes` are the child's; all workers of
    the node share `shared_bytes`. A child is to run simulations for `child_life_s`: 0 where that is no reason for
    longer chunks, None while unknown. `notice` is what the user should be told once, or nothing.
    """

    base_bytes: int
    child_bytes: int
    shared_bytes: int
    child_life_s: float | None
    notice: str


class Executor(Protocol):
    """Runs the simulations of a chunk, at one level of isolation."""

    def surroundings(self) -> Surroundings:
        """Say what has been learned around them."""

    def run(self, simulations: tuple[Simulation, ...]) -> Generator[tuple[Simulation, Attempt]]:
        """Run simulations and yield each with what came of it; what one raises is the failure of its own attempt.

        ModelError where no simulation can be run at all, OSError where none can be run on this node.
        """

    def enough(self) -> None:
        """Begin no further simulation while `run` goes on; those that are running are still yielded."""
