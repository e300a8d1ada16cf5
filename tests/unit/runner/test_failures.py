"""What the end of a child means for the simulation it ran, branch by branch."""

from __future__ import annotations

import pytest

from modelops_ray.core.report import Cause, Killer
from modelops_ray.runner.failures import failure_of_end
from modelops_ray.sandbox.protocol import Ended

MIB = 2**20


def failure(code=0, reason="", *, peak_mib=100, kernel_killed=None, limit_mib=400):
    """What an end comes to."""
    ended = Ended(1234, code, reason, peak_mib * MIB, kernel_killed)
    return failure_of_end(ended, "last words", 7, 30.0, limit_mib * MIB)


@pytest.mark.parametrize(
    ("code", "reason", "kernel_killed", "cause", "error_type", "says"),
    [
        (-9, "timeout", None, Cause.TIMEOUT, "Timeout", "longer than 30 s; raise --timeout"),
        (-9, "it used 500 MiB, over its limit of 400 MiB", None, Cause.OUT_OF_MEMORY, "OutOfMemory", "over its limit"),
        (-9, "", True, Cause.OUT_OF_MEMORY, "SIGKILL", "killed by the kernel"),
        (-9, "", None, Cause.OUT_OF_MEMORY, "SIGKILL", "killed from outside, most likely for memory"),
        (137, "", True, Cause.OUT_OF_MEMORY, "SIGKILL", "killed by the kernel"),
        (-9, "", False, Cause.CRASHED, "SIGKILL", "ended by SIGKILL"),
        (137, "", False, Cause.CRASHED, "Exit", "with code 137"),
        (-11, "", None, Cause.CRASHED, "SIGSEGV", "ended by SIGSEGV"),
        (-40, "", None, Cause.CRASHED, "signal 40", "ended by signal 40"),
        (0, "", None, Cause.CRASHED, "Exit", "the model ended its process with code 0"),
        (3, "", True, Cause.CRASHED, "Exit", "with code 3"),
        (70, "", None, Cause.CRASHED, "Exit", "could not say what came of it"),
    ],
)
def test_every_end_has_a_cause_a_type_and_a_sentence(code, reason, kernel_killed, cause, error_type, says):
    """What the process printed last is kept with it."""
    found = failure(code, reason, kernel_killed=kernel_killed)
    assert (cause, error_type, 7) == (found.cause, found.error_type, found.position)
    assert says in found.message
    assert "last words" in found.printed


@pytest.mark.parametrize(
    ("code", "reason", "kernel_killed", "killer"),
    [
        (-9, "timeout", None, Killer.US),
        (-9, "it used 500 MiB, over its limit of 400 MiB", None, Killer.US),
        (-9, "", True, Killer.KERNEL),
        (137, "", True, Killer.KERNEL),
        (-9, "", None, None),
        (-9, "", False, None),
        (-11, "", None, None),
        (3, "", True, None),
    ],
)
def test_who_killed_a_process_is_said_where_it_is_known(code, reason, kernel_killed, killer):
    """A signal alone does not say who sent it."""
    assert killer == failure(code, reason, kernel_killed=kernel_killed).killed_by


@pytest.mark.parametrize(("peak_mib", "is_victim"), [(399, True), (400, True), (401, False)])
@pytest.mark.parametrize(("reason", "kernel_killed"), [("the node was short of memory", None), ("", True)])
def test_who_stayed_within_its_request_is_a_victim_whoever_killed_it(peak_mib, is_victim, reason, kernel_killed):
    """It costs nothing of its budget."""
    assert is_victim == failure(-9, reason, peak_mib=peak_mib, kernel_killed=kernel_killed).is_victim
