"""What a chunk tells of its simulations; values only. All that a worker needs to know of what is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple


class Cause(StrEnum):
    """Why a simulation, or the attempt to run it, failed."""

    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    WORKER_LOST = "worker_lost"
    NODE_LOST = "node_lost"
    MODEL_ERROR = "model_error"
    BAD_OUTPUT = "bad_output"
    TIMEOUT = "timeout"
    UNSCHEDULABLE = "unschedulable"


class Killer(StrEnum):
    """Who ended the process of a simulation: this program, Ray, or the kernel."""

    US = "us"
    RAY = "ray"
    KERNEL = "kernel"


class Follows(StrEnum):
    """What follows an attempt that gave no result: the same again, again with more memory, or nothing."""

    RETRIED = "retried"
    RAISED = "raised"
    FAILED = "failed"


class Measured(NamedTuple):
    """One completed simulation: its run time and what it added to the memory of its process at its peak."""

    position: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt of one simulation, or, once recorded, its final failure.

    `peak_bytes` is what was measured before it failed (0 where unknown); `attempts` and `request_bytes` are those of
    the attempt that failed. `is_victim` is set where it was killed for memory although within its limit.
    `ended_unix_s` is when it ended, in seconds since 1970; None where that is not known. `killed_by` is None where its
    process was not killed, or it is not known by whom. `printed` is the end of what was printed around then.
    """

    position: int
    cause: Cause
    error_type: str
    message: str
    traceback: str | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    attempts: int = 1
    request_bytes: int = 0
    node: str = ""
    is_victim: bool = False
    ended_unix_s: float | None = None
    killed_by: Killer | None = None
    printed: str | None = None

    @property
    def text_bytes(self) -> int:
        """About how many bytes its texts take."""
        return len(self.message) + len(self.traceback or "") + len(self.printed or "")


@dataclass(frozen=True, slots=True)
class FailedAttempts:
    """Attempts of these simulations that ended alike and gave no result; `numbers` says which of each it was, from 1.

    `failure` is that of the first, and says how each ended. `limit_bytes` and `request_bytes` are those of one
    simulation, 0 where they are not known; the run learned of the end at `noticed_s`.
    """

    positions: tuple[int, ...]
    numbers: tuple[int, ...]
    failure: Failure
    follows: Follows
    limit_bytes: int
    request_bytes: int
    noticed_s: float

    @property
    def size_bytes(self) -> int:
        """About how much memory they take at most, which is while they are written, row by row."""
        return (400 + self.failure.text_bytes) * len(self.positions)


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """What a finished chunk tells: small facts only; positions it did not reach are simply absent.

    `base_bytes` is the memory of a worker with one process for simulations, before the first of them: interpreter,
    imports, model; `child_bytes` of it are that process's.
    `shared_bytes` is what all workers of its node share: the model, in the fork server.
    `child_life_s` is how long a process is to run simulations before it is replaced: a shorter chunk has it replaced
    earlier. 0 where that makes no difference, None while it is being found out, which takes two simulations a chunk.
    `payload_bytes` is the size of the outputs that wait to be committed, `held_s` how long ago the first of its
    simulations ended.
    `notice` is something the user should be told once.
    `fatal` is set when no simulation of this study can succeed (one sentence for the user).
    """

    completed: tuple[Measured, ...]
    failures: tuple[Failure, ...] = ()
    base_bytes: int = 0
    child_bytes: int = 0
    shared_bytes: int = 0
    child_life_s: float | None = 0.0
    payload_bytes: int = 0
    held_s: float = 0.0
    node: str = ""
    notice: str = ""
    fatal: str | None = None

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Pickle what was measured as columns: one by one it would cost more than short simulations take."""
        completed, *others = (getattr(self, each.name) for each in fields(self))
        return _report, (tuple(zip(*completed, strict=True)), *others)


def _report(columns: Sequence[tuple[Any, ...]], *others: Any) -> ChunkReport:
    return ChunkReport(tuple(map(Measured._make, zip(*columns, strict=True))), *others)
