"""What the end of a child, or what it tells of an exception, means for the simulation it ran.

Owns causes and sentences. What follows from them is the core's business.
"""

from __future__ import annotations

import signal

from modelops_ray.core.policy import mib
from modelops_ray.core.report import Cause, Failure
from modelops_ray.runner.failures import failure_of_timeout
from modelops_ray.runner.forkserver_client import Death
from modelops_ray.sandbox.answers import CANNOT_ANSWER
from modelops_ray.sandbox.limits import KILLED
from modelops_ray.sandbox.raised import Told, bounded_message, bounded_traceback


def failure_of_answer(told: Told, printed: str, position: int) -> Failure:
    """What a child said that a model raised, and what was printed around then."""
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


def failure_of_death(death: Death, position: int, timeout_s: float, limit_bytes: int) -> Failure:
    """Why a child ended in the middle of a simulation."""
    trace = bounded_traceback(death.printed)
    if death.reason == "timeout":
        return failure_of_timeout(position, timeout_s, trace)
    is_victim = death.peak_bytes <= limit_bytes
    if death.reason:
        message = f"killed: {death.reason}"
        return Failure(position, Cause.OUT_OF_MEMORY, "OutOfMemory", message, trace, is_victim=is_victim)
    if death.code in KILLED and death.kernel_killed is not False:
        by = "by the kernel, because memory ran out" if death.kernel_killed else "from outside, most likely for memory"
        message = f"killed {by}; it was seen to use {mib(death.peak_bytes)}"
        return Failure(position, Cause.OUT_OF_MEMORY, "SIGKILL", message, trace, is_victim=is_victim)
    if death.code < 0:
        name = _name_of(-death.code)
        return Failure(position, Cause.CRASHED, name, f"its process ended by {name}", trace)
    if death.code == CANNOT_ANSWER:
        message = (
            "its process could not say what came of it; the model may have closed a descriptor that is not its own"
        )
        return Failure(position, Cause.CRASHED, "Exit", message, trace)
    return Failure(position, Cause.CRASHED, "Exit", f"the model ended its process with code {death.code}", trace)


def _name_of(number: int) -> str:
    """Real-time signals have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
