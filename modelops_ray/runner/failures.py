"""What an exception, or the end of a child, means for the simulation it ran: causes and sentences a modeller reads.

Owns the causes that a worker tells apart. Does not decide whether to try again: the core does.
"""

from __future__ import annotations

from modelops_ray.core.policy import mib
from modelops_ray.core.report import Cause, Failure, Killer
from modelops_ray.runner.time_limit import TimeUpError
from modelops_ray.sandbox.limits import KILLED
from modelops_ray.sandbox.pidfd import signal_name
from modelops_ray.sandbox.protocol import CANNOT_ANSWER, Ended
from modelops_ray.sandbox.raised import Told, bounded_message, bounded_traceback, told_of

TIMEOUT = "timeout"
"""Why a child was killed that took too long."""


def failure_of(error: BaseException, position: int, timeout_s: float) -> Failure:
    """Name the cause of what a simulation in this process raised; only the model's own frames are shown."""
    if issubclass(type(error), TimeUpError):
        return failure_of_timeout(position, timeout_s)
    return failure_of_told(told_of(error), "", position)


def failure_of_timeout(position: int, timeout_s: float, printed: str | None = None) -> Failure:
    """A simulation took too long."""
    message = f"it took longer than {timeout_s:g} s; raise --timeout, or 0 for no limit"
    return Failure(position, Cause.TIMEOUT, "Timeout", message, printed, killed_by=Killer.US)


def failure_of_told(told: Told, printed: str, position: int) -> Failure:
    """Name the cause of what a model raised; what was printed around then goes beside it."""
    said = f"{told.traceback or ''}\nprinted before it:\n{printed}" if printed else told.traceback
    return Failure(position, Cause(told.kind), told.type, told.message, bounded_traceback(said))


def failure_of_garble(garbled: str, printed: str, position: int) -> Failure:
    """A child sent something that is no answer: a model wrote to a descriptor that it did not open."""
    message = (
        "the model wrote to a socket of its process that it did not open, or broke it; leave descriptors alone that "
        f"the model did not open ({garbled})"
    )
    return Failure(position, Cause.CRASHED, "Garbled", bounded_message(message), bounded_traceback(printed))


def failure_of_its_server(printed: str, position: int) -> Failure:
    """The fork server ended twice while this one ran, the second time with nothing beside it."""
    message = (
        "the process that starts simulations ended while this one ran, also when it ran alone; leave processes alone "
        "that the model did not start"
    )
    return Failure(position, Cause.CRASHED, "ServerEnded", message, bounded_traceback(printed))


def failure_of_end(ended: Ended, printed: str, position: int, timeout_s: float, limit_bytes: int) -> Failure:
    """Why a child ended in the middle of a simulation."""
    trace = bounded_traceback(printed)
    if ended.reason == TIMEOUT:
        return failure_of_timeout(position, timeout_s, trace)
    is_victim = ended.peak_bytes <= limit_bytes
    if ended.reason:
        message = f"killed: {ended.reason}"
        memory = Cause.OUT_OF_MEMORY
        return Failure(position, memory, "OutOfMemory", message, trace, is_victim=is_victim, killed_by=Killer.US)
    if ended.code in KILLED and ended.kernel_killed is not False:
        by = "by the kernel, because memory ran out" if ended.kernel_killed else "from outside, most likely for memory"
        message = f"killed {by}; it was seen to use {mib(ended.peak_bytes)}"
        killer = Killer.KERNEL if ended.kernel_killed else None
        return Failure(position, Cause.OUT_OF_MEMORY, "SIGKILL", message, trace, is_victim=is_victim, killed_by=killer)
    if ended.code < 0:
        name = signal_name(-ended.code)
        return Failure(position, Cause.CRASHED, name, f"its process ended by {name}", trace)
    if ended.code == CANNOT_ANSWER:
        message = (
            "its process could not say what came of it; the model may have closed a descriptor that is not its own"
        )
        return Failure(position, Cause.CRASHED, "Exit", message, trace)
    return Failure(position, Cause.CRASHED, "Exit", f"the model ended its process with code {ended.code}", trace)
