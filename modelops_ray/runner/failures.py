"""From the exception of a simulation in this process to a failure that a modeller understands.

Owns causes and the sentence for a simulation that took too long. Does not decide whether to try again: the core does.
"""

from __future__ import annotations

from modelops_ray.core.report import Cause, Failure
from modelops_ray.runner.time_limit import TimeUpError
from modelops_ray.sandbox.raised import told_of


def failure_of_timeout(position: int, timeout_s: float, printed: str | None = None) -> Failure:
    """A simulation took too long."""
    message = f"it took longer than {timeout_s:g} s; raise --timeout, or 0 for no limit"
    return Failure(position, Cause.TIMEOUT, "Timeout", message, printed)


def failure_of(error: BaseException, position: int, timeout_s: float) -> Failure:
    """Name the cause of what a simulation raised; only the model's own frames are shown."""
    if issubclass(type(error), TimeUpError):
        return failure_of_timeout(position, timeout_s)
    told = told_of(error)
    return Failure(position, Cause(told.kind), told.type, told.message, told.traceback)
