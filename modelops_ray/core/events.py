"""What happened (events, past tense) and what to do (actions, imperative); values only, no behaviour.

Time arrives inside events as `now_s`, seconds on one monotonic clock.
A simulation is its position in the study, an integer; what it means is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from modelops_ray.core.reasons import Reason
from modelops_ray.core.report import Cause, ChunkReport, FailedAttempts, Failure, Killer


class Segment(NamedTuple):
    """Positions `start <= p < stop`, all of one parameter set."""

    set_index: int
    start: int
    stop: int


class Node(NamedTuple):
    """One node, or one kind of node: what its tasks may ask for in total."""

    cpus: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the cluster can hold.

    `nodes` are there now. `reachable` adds those that the autoscaler could start; empty where no autoscaler is known.
    `says` is the autoscaler's sentence about requests it does not fulfil, for the user only.
    """

    nodes: tuple[Node, ...]
    reachable: tuple[Node, ...] = ()
    says: str = field(default="", compare=False)


# Events


@dataclass(frozen=True, slots=True)
class TasksAdded:
    """Simulations entered the run; with `last`, no more follow."""

    now_s: float
    segments: tuple[Segment, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class ChunkStarted:
    """A chunk's task began. Sent for chunks with `announce`, by backends that see it."""

    now_s: float
    chunk_id: int


@dataclass(frozen=True, slots=True)
class ChunkFinished:
    """A chunk's task returned; the backend keeps its outputs until they are committed."""

    now_s: float
    chunk_id: int
    report: ChunkReport


@dataclass(frozen=True, slots=True)
class ChunkFailed:
    """A chunk's task died without a report.

    `used_bytes` is the memory that its process used when it was killed, None where that was not seen.
    `kernel_killed` tells whether the kernel counted a kill, None where that count cannot be read.
    `killed_by` is who is known to have killed it. `address` is that of the node that was lost, "" if none was or it is
    not known. `excess` are the simulations that used more than their limit when they were last seen, each with the
    bytes it used.
    """

    now_s: float
    chunk_id: int
    cause: Cause
    error_type: str
    message: str
    used_bytes: int | None = None
    kernel_killed: bool | None = None
    address: str = ""
    excess: tuple[tuple[int, int], ...] = ()
    killed_by: Killer | None = None


@dataclass(frozen=True, slots=True)
class PartCommitted:
    """The payloads of these chunks and these failures are durable.

    `rejected` are simulations whose outputs do not fit the columns of the run: they were left out.
    """

    now_s: float
    chunk_ids: tuple[int, ...]
    rejected: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class PayloadLost:
    """The outputs of a finished chunk are gone: its simulations run again, and none is blamed."""

    now_s: float
    chunk_id: int


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    """The cluster was looked at again."""

    now_s: float
    capacity: Capacity


@dataclass(frozen=True, slots=True)
class PodDied:
    """The pod of the node at `address` died; `sentence` tells the user so.

    `is_memory` is set where it died of a lack of memory.
    """

    now_s: float
    address: str
    sentence: str
    is_memory: bool


@dataclass(frozen=True, slots=True)
class ClusterSaid:
    """A sentence about the cluster, to be told once; with `hinders` it may be the reason why nothing finishes."""

    now_s: float
    text: str
    hinders: bool = False


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The user wants the run to end after what is finished has been committed."""

    now_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Only time passed."""

    now_s: float


Event = (
    TasksAdded
    | ChunkStarted
    | ChunkFinished
    | ChunkFailed
    | PartCommitted
    | PayloadLost
    | CapacityChanged
    | PodDied
    | ClusterSaid
    | StopRequested
    | Ticked
)


# Actions


@dataclass(frozen=True, slots=True)
class SubmitChunk:
    """Run these simulations in one task that asks for `request_bytes`.

    `attempts` is the number of each position's attempt, from 1. `limit_bytes` is what one simulation may use; `width`
    of them run at a time. With `announce` the backend is to send `ChunkStarted`. The task begins no further simulation
    `enough_s` after its first one ended. With `has_twin` the first one runs in another process before, to be compared.
    """

    chunk_id: int
    positions: tuple[int, ...]
    attempts: tuple[int, ...]
    request_bytes: int
    limit_bytes: int
    announce: bool = False
    width: int = 1
    enough_s: float = math.inf
    has_twin: bool = False


@dataclass(frozen=True, slots=True)
class CancelChunk:
    """End this chunk's task; a report that still comes is ignored."""

    chunk_id: int


@dataclass(frozen=True, slots=True)
class WritePart:
    """Commit the payloads of these chunks, these final failures, and these attempts that gave no result."""

    chunk_ids: tuple[int, ...]
    failures: tuple[Failure, ...]
    attempts: tuple[FailedAttempts, ...] = ()


class Ending(StrEnum):
    """How a run ends."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    GAVE_UP = "gave_up"


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do, or nothing can be done; `reason` says why where it is not COMPLETE.

    It is text where the user or a worker said why, which is told as it is.
    """

    ending: Ending
    reason: Reason | str = ""


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the user this sentence; the same one comes once in a session."""

    text: str


Action = SubmitChunk | CancelChunk | WritePart | Notify | Finish
