"""What the end of a child, or what it tells of an exception, means for the simulation it ran.

Owns causes and sentences. What follows from them is the core's business.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from modelops_ray.core.policy import mib
from modelops_ray.core.report import Cause, Failure
from modelops_ray.runner.failures import bounded_message, bounded_traceback
from modelops_ray.runner.forked import Death
from modelops_ray.runner.watch import KILLED


def failure_of_answer(told: Mapping[str, str], printed: str, position: int) -> Failure:
    """What a child said that a model raised, and what was printed around then."""
    said = f"{told['traceback'] or ''}\nprinted before it:\n{printed}" if printed else told["traceback"]
    message, trace = bounded_message(told["message"]), bounded_traceback(said)
    return Failure(position, Cause(told["kind"]), told["type"], message, trace)


def failure_of_death(death: Death, position: int, timeout_s: float, limit_bytes: int) -> Failure:
    """Why a child ended in the middle of a simulation."""
    trace = bounded_traceback(death.printed)
    if death.reason == "timeout":
        message = f"it took longer than {timeout_s:g} s; raise --timeout, or 0 for no limit"
        return Failure(position, Cause.TIMEOUT, "Timeout", message, trace)
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
    return Failure(position, Cause.CRASHED, "Exit", f"the model ended its process with code {death.code}", trace)


def _name_of(number: int) -> str:
    """Real-time signals have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
