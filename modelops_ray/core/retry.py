"""What follows from a failed attempt: another try, a larger one, or the end; budgets per cause.

Pure functions of the cause and of what a simulation went through before. Does not know chunks or the queue.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from modelops_ray.core.report import Cause


@dataclass(slots=True)
class AttemptHistory:
    """What one simulation went through: attempts that failed, those it was blamed for, those it was excused for."""

    attempts: int = 0
    blamed: int = 0
    excused: int = 0


class Verdict(Enum):
    """What to do with a simulation whose attempt failed."""

    REPEAT = "repeat"
    SPLIT = "split"
    RAISE = "raise"
    FAIL = "fail"


FINAL = frozenset({Cause.MODEL_ERROR, Cause.BAD_OUTPUT, Cause.TIMEOUT, Cause.UNSCHEDULABLE})
"""Causes that are the simulation's own doing: the same again would end the same."""

LOSSES = frozenset({Cause.WORKER_LOST, Cause.NODE_LOST})
"""Causes outside of the simulation: free as long as anything else can make progress."""


def judge(
    cause: Cause,
    trouble: AttemptHistory,
    *,
    budget: int,
    overran: bool,
    at_top: bool,
    is_alone: bool,
    may_be_memory: bool,
) -> tuple[Verdict, AttemptHistory]:
    """Decide after a failed attempt of a simulation, and count it.

    An overrun with less than the largest request is no end, unless nothing is to be repeated: each asks for more than
    the last, and once the budget is spent for all there is.

    Args:
        cause: Of this attempt; for memory also where it was a victim.
        trouble: What it went through before.
        budget: Attempts it may be blamed for.
        overran: It used more than it was given, as far as is known. Who was seen within that is a victim of others.
        at_top: It already had the most there is.
        is_alone: Nothing else is left that could make progress.
        may_be_memory: A crash may have been the kernel running out of memory.
    """
    now = AttemptHistory(trouble.attempts + 1, trouble.blamed, trouble.excused)
    if cause in FINAL:
        return Verdict.FAIL, now
    if cause in LOSSES and not is_alone:
        return Verdict.REPEAT, now
    now.blamed += 1
    if cause is Cause.OUT_OF_MEMORY and overran and budget > 1:
        return (Verdict.FAIL if at_top else Verdict.RAISE), now
    if now.blamed >= budget:
        return Verdict.FAIL, now
    if cause is Cause.OUT_OF_MEMORY or (cause is Cause.CRASHED and may_be_memory):
        return Verdict.RAISE, now
    return Verdict.REPEAT, now


class Outcome(IntEnum):
    """One attempt, as the guard against endless killing sees it."""

    DONE = 0
    KILLED = 1
    RAISED = 2


@dataclass(slots=True)
class KillGuard:
    """Tells when a run does nothing but being killed for memory: over half of the last 200, and nothing was raised."""

    window: int = 200
    _last: deque[Outcome] = field(default_factory=deque)
    _counts: list[int] = field(default_factory=lambda: [0] * len(Outcome))

    def note(self, outcome: Outcome, n: int = 1) -> None:
        """Take note of attempts that ended alike."""
        for _ in range(min(n, self.window)):
            self._last.append(outcome)
            self._counts[outcome] += 1
            if len(self._last) > self.window:
                self._counts[self._last.popleft()] -= 1

    @property
    def is_hopeless(self) -> bool:
        """Whether to give up."""
        return (
            len(self._last) >= self.window
            and self._counts[Outcome.KILLED] * 2 > self.window
            and not self._counts[Outcome.RAISED]
        )
