"""What an exception, or the end of a child, means for the simulation it ran: causes and sentences a modeller reads.

Owns the causes that a worker tells apart. Does not decide whether to try again: the core does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from modelops_ray.core.policy import mib
from modelops_ray.core.report import Cause, Failure, Killer
from modelops_ray.runner.time_limit import TimeUpError
from modelops_ray.sandbox.limits import KILLED
from modelops_ray.sandbox.loading import where_it_returns
from modelops_ray.sandbox.pidfd import signal_name
from modelops_ray.sandbox.printing import KEPT_BYTES
from modelops_ray.sandbox.protocol import CANNOT_ANSWER, Ended
from modelops_ray.sandbox.raised import Told, bounded_message, bounded_traceback, told_of
from modelops_ray.sandbox.stacks import told_apart

TIMEOUT = "timeout"
"""Why a child was killed that took too long."""


def bounded_printed(text: str) -> str | None:
    """Keep the end of what was printed."""
    return bounded_traceback(text, KEPT_BYTES)


def failure_of(error: BaseException, position: int, timeout_s: float) -> Failure:
    """Name the cause of what a simulation in this process raised; only the model's own frames are shown."""
    if issubclass(type(error), TimeUpError):
        return replace(failure_of_timeout(position, timeout_s), traceback=told_of(error).traceback)
    return failure_of_told(told_of(error, where_it_returns), "", position)


def failure_of_timeout(position: int, timeout_s: float, printed: str | None = None) -> Failure:
    """A simulation took too long."""
    message = f"it took longer than {timeout_s:g} s; raise --timeout, or 0 for no limit"
    return Failure(position, Cause.TIMEOUT, "Timeout", message, printed=printed, killed_by=Killer.US)


def failure_of_told(told: Told, printed: str, position: int) -> Failure:
    """Name the cause of what a model raised; what was printed around then goes beside it."""
    trace = bounded_traceback(told.traceback) or ""
    return Failure(position, Cause(told.kind), told.type, told.message, trace, printed=bounded_printed(printed))


def failure_of_garble(garbled: str, printed: str, position: int) -> Failure:
    """A child sent something that is no answer: a model wrote to a descriptor that it did not open."""
    message = (
        "the model wrote to a socket of its process that it did not open, or broke it; leave descriptors alone that "
        f"the model did not open ({garbled})"
    )
    return Failure(position, Cause.CRASHED, "Garbled", bounded_message(message), printed=bounded_printed(printed))


def failure_of_its_server(printed: str, position: int) -> Failure:
    """The fork server ended twice while this one ran, the second time with nothing beside it."""
    message = (
        "the process that starts simulations ended while this one ran, also when it ran alone; leave processes alone "
        "that the model did not start"
    )
    return Failure(position, Cause.CRASHED, "ServerEnded", message, printed=bounded_printed(printed))


def failure_of_end(ended: Ended, said: str, position: int, timeout_s: float, limit_bytes: int) -> Failure:
    """Why a child ended in the middle of a simulation."""
    said, trace = told_apart(said)
    printed, stack = bounded_printed(said), bounded_traceback(trace)
    if ended.reason == TIMEOUT:
        return replace(failure_of_timeout(position, timeout_s, printed), traceback=stack)
    ran_out = partial(
        Failure, position, Cause.OUT_OF_MEMORY, printed=printed, is_victim=ended.peak_bytes <= limit_bytes,
        traceback=stack,
    )  # fmt: skip
    crashed = partial(Failure, position, Cause.CRASHED, printed=printed, traceback=stack)
    if ended.reason:
        return ran_out("OutOfMemory", f"killed: {ended.reason}", killed_by=Killer.US)
    if ended.code in KILLED and ended.kernel_killed is not False:
        by = "by the kernel, because memory ran out" if ended.kernel_killed else "from outside, most likely for memory"
        message = f"killed {by}; it was seen to use {mib(ended.peak_bytes)}"
        return ran_out("SIGKILL", message, killed_by=Killer.KERNEL if ended.kernel_killed else None)
    if ended.code < 0:
        name = signal_name(-ended.code)
        return crashed(name, f"its process ended by {name}")
    if ended.code == CANNOT_ANSWER:
        message = (
            "its process could not say what came of it; the model may have closed a descriptor that is not its own"
        )
        return crashed("Exit", message)
    return crashed("Exit", f"the model ended its process with code {ended.code}")
