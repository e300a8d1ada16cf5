"""What every exception class of Ray means for a chunk, in one table.

Owns the table and the reading of Ray's messages. Imports nothing of Ray: classes are looked up by name along their
bases, the most specific first, so that a newer Ray with another subclass is still understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from modelops_ray.core.report import Cause, Killer
from modelops_ray.errors import BackendError, ModelopsRayError, NodeError, StorageError, first_line, last_line


class Ends(StrEnum):
    """Why the run ends although the chunk is not to blame."""

    RAY_FAILED = "ray_failed"
    DISK_FULL = "disk_full"
    OUR_CODE_RAISED = "our_code_raised"


Verdict = Cause | Ends

_RESULT_IS_GONE = (
    "TaskCancelledError", "ObjectLostError", "ObjectFetchTimedOutError", "ObjectFreedError",
    "ObjectReconstructionFailedError", "OwnerDiedError", "ReferenceCountingAssertionError", "PlasmaObjectNotAvailable",
    "GetTimeoutError",
)  # fmt: skip
_RAY_IS_BROKEN = (
    "RuntimeEnvSetupError", "LocalRayletDiedError", "ObjectStoreFullError", "AuthenticationError", "RpcError",
    "RaySystemError", "UnserializableException", "TaskPlacementGroupRemoved", "RayError",
)  # fmt: skip
_NOT_USED_HERE = (
    "ActorAlreadyExistsError", "ActorDiedError", "ActorHandleNotFoundError", "ActorPlacementGroupRemoved",
    "ActorUnavailableError", "ActorUnschedulableError", "AsyncioActorExit", "CrossLanguageError",
    "ObjectRefStreamEndOfStreamError", "OufOfBandObjectRefSerializationException", "PendingCallsLimitExceeded",
    "RayActorError", "RayCgraphCapacityExceeded", "RayChannelError", "RayChannelTimeoutError",
    "RayDirectTransportError", "StreamingGeneratorReplayInconsistentError",
)  # fmt: skip

VERDICTS: Final[dict[str, Verdict]] = {
    # The worker or its node is gone: the chunk failed.
    "OutOfMemoryError": Cause.OUT_OF_MEMORY,
    "WorkerCrashedError": Cause.CRASHED,
    "NodeDiedError": Cause.NODE_LOST,
    "TaskUnschedulableError": Cause.UNSCHEDULABLE,
    # What it returned is gone, or it was cancelled: the chunk is repeated, no simulation is to blame.
    **dict.fromkeys(_RESULT_IS_GONE, Cause.WORKER_LOST),
    # Every chunk would fail alike: the run ends with one sentence.
    "OutOfDiskError": Ends.DISK_FULL,
    **dict.fromkeys(("RayTaskError", "UserCodeException"), Ends.OUR_CODE_RAISED),
    **dict.fromkeys(_RAY_IS_BROKEN, Ends.RAY_FAILED),
    # Actors, streams, channels and other languages are not used here: seeing one is a mistake of ours.
    **dict.fromkeys(_NOT_USED_HERE, Ends.RAY_FAILED),
}


def classify(error: BaseException) -> Cause:
    """Say why a chunk failed.

    Raises:
        ModelError: The model cannot be loaded or called, anywhere.
        StorageError: The disk that Ray spills to is full.
        BackendError: Ray itself failed, or our own code in its worker did.
    """
    verdict = _verdict(error)
    if isinstance(verdict, Cause):
        return verdict
    if verdict is Ends.OUR_CODE_RAISED:
        return _classify_raised(error)
    raise _ending(verdict, error) from error


def killer(error: BaseException) -> Killer | None:
    """Say who killed the worker of a chunk, where that is known: Ray's memory monitor tells of itself."""
    return Killer.RAY if _verdict(error) is Cause.OUT_OF_MEMORY else None


def node_says(error: BaseException) -> str:
    """Return why the node that a chunk was on cannot run simulations; "" if that is not what was wrong."""
    cause = getattr(error, "cause", None)
    return first_line(cause) if isinstance(cause, (NodeError, OSError)) else ""


@contextmanager
def refused(what: str, remedy: str = "") -> Iterator[None]:
    """Turn any exception of Ray while it starts or is joined into a BackendError: `what`, its first line, `remedy`."""
    try:
        yield
    except Exception as error:  # where a start takes too long, Ray raises plain `Exception`
        raise BackendError(f"{what}: {first_line(error)}{remedy}") from error


def used_bytes(message: str, task_name: str) -> int | None:
    """Read from the message of a kill by Ray's memory monitor what a task's process was using; None if it is not there.

    The name in Ray's list of the killed is of the task that asked for the worker first, often another one. The process
    titles in its table of the ten largest users are right: `21362 1.24 ray::NAME`, in units of 2**30 bytes.
    """
    match = re.search(rf"\b\d+\s+(\d+(?:\.\d+)?)\s+ray::{re.escape(task_name)}(?![\w-])", message)
    return None if match is None else int(float(match[1]) * 2**30)


def lost_address(message: str) -> str:
    """Read from the message of a lost node its address; "" if it is not there."""
    match = re.search(r"Node IP: ([^\s,]+)", message)
    return "" if match is None else match[1]


def _verdict(error: BaseException) -> Verdict:
    names = (base.__name__ for base in type(error).__mro__)
    return next((VERDICTS[name] for name in names if name in VERDICTS), Ends.RAY_FAILED)


def _classify_raised(error: BaseException) -> Cause:
    """Look at what was raised in the worker outside of a simulation; Ray keeps it as `cause`."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MemoryError):
        return Cause.OUT_OF_MEMORY
    if isinstance(cause, (NodeError, OSError)):
        return Cause.WORKER_LOST
    if isinstance(cause, ModelopsRayError):
        raise type(cause)(str(cause)) from None
    # The last line of the remote traceback names the exception.
    said = last_line(str(error))[:300] or type(error).__name__
    raise BackendError(f"a Ray worker failed before it could simulate: {said}") from error


def _ending(verdict: Ends, error: BaseException) -> StorageError | BackendError:
    if verdict is Ends.DISK_FULL:
        return StorageError(
            "the disk that Ray spills outputs to is full (beyond 95 %); make room there or set TMPDIR to another disk, "
            "then start the same command again"
        )
    return BackendError(f"Ray failed: {type(error).__name__}: {first_line(error)}")
