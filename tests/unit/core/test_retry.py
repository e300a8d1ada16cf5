"""When kills are too frequent for a run to go on."""

from __future__ import annotations

from modelops_ray.core.retry import KillGuard, Outcome


def test_endless_kills_that_raise_nothing_end_the_run():
    """More than half of the last 200 attempts, and nothing was raised: somebody else uses the memory."""
    guard = KillGuard()
    for _ in range(101):
        guard.note(Outcome.KILLED)
    for _ in range(99):
        assert not guard.is_hopeless
        guard.note(Outcome.DONE)
    assert guard.is_hopeless
    guard.note(Outcome.RAISED)
    assert not guard.is_hopeless
