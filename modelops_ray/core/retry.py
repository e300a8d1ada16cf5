"""What follows from failed attempts: which simulations are blamed, which run again with how much, which have failed.

`judge` is the policy for one simulation, with budgets for each cause; `FailurePolicy` applies it, and notices when
nothing can succeed. Does not end a run, and does not choose what is submitted.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum

from modelops_ray.core.admission import Outstanding
from modelops_ray.core.backlog import Group, Need, Overrun
from modelops_ray.core.commits import Journal
from modelops_ray.core.events import ChunkFailed, PartCommitted
from modelops_ray.core.guards import Counters, FailureGuard, KillGuard, Outcome
from modelops_ray.core.memory import EVERYTHING, FREE_TRIES, raised
from modelops_ray.core.policy import Policy, count, mib
from modelops_ray.core.reasons import KilledInVain, Reason
from modelops_ray.core.report import Cause, Failure, Follows, Killer
from modelops_ray.core.scheduler import Dispatch


@dataclass(slots=True)
class AttemptHistory:
    """How many attempts one simulation was blamed for, and excused for."""

    blamed: int = 0
    excused: int = 0


class Verdict(Enum):
    """What to do with a simulation whose attempt failed."""

    REPEAT = "repeat"
    SPLIT = "split"
    RAISE = "raise"
    FAIL = "fail"

    @property
    def follows(self) -> Follows:
        """What follows for the simulation itself."""
        return _FOLLOWS.get(self, Follows.RETRIED)


_FOLLOWS = {Verdict.RAISE: Follows.RAISED, Verdict.FAIL: Follows.FAILED}

FINAL = frozenset({Cause.MODEL_ERROR, Cause.BAD_OUTPUT, Cause.TIMEOUT, Cause.UNSCHEDULABLE})
"""Causes that lie in the simulation: another attempt would end alike."""

LOSSES = frozenset({Cause.WORKER_LOST, Cause.NODE_LOST})
"""Causes outside of the simulation: not blamed as long as anything else can make progress."""


def judge(
    cause: Cause,
    trouble: AttemptHistory,
    *,
    budget: int,
    overran: bool,
    at_maximum: bool,
    is_alone: bool,
    may_be_memory: bool,
) -> tuple[Verdict, AttemptHistory]:
    """Decide after a failed attempt of a simulation, and count it.

    An overrun below the largest request does not fail the simulation, unless the budget is one attempt: each attempt
    gets more than the last, and all there is once the budget is spent.

    Args:
        cause: Of this attempt; for memory also where it was a victim.
        trouble: Earlier attempts.
        budget: Attempts it may be blamed for.
        overran: It used more than it was given, or how much is not known; otherwise it is a victim of others.
        at_maximum: No simulation could have got more.
        is_alone: No other simulation is left that could make progress.
        may_be_memory: A crash may have been the kernel running out of memory.
    """
    now = replace(trouble)
    if cause in FINAL:
        return Verdict.FAIL, now
    if cause in LOSSES and not is_alone:
        return Verdict.REPEAT, now
    now.blamed += 1
    if cause is Cause.OUT_OF_MEMORY and overran and budget > 1:
        return (Verdict.FAIL if at_maximum else Verdict.RAISE), now
    if now.blamed >= budget:
        return Verdict.FAIL, now
    if cause is Cause.OUT_OF_MEMORY or (cause is Cause.CRASHED and may_be_memory):
        return Verdict.RAISE, now
    return Verdict.REPEAT, now


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from a failed attempt of these simulations, and what was known of it; sizes in bytes.

    `numbers` says which attempt of each it was, from 1. `history` is that of the only simulation, with this attempt;
    None where several were lost together. `at_maximum` is set where no simulation could have got a larger limit.
    """

    positions: tuple[int, ...]
    cause: Cause
    verdict: Verdict
    limit_bytes: int
    request_bytes: int
    peak_bytes: int = 0
    at_maximum: bool = False
    history: AttemptHistory | None = None
    numbers: tuple[int, ...] = ()


class FailurePolicy:
    """What every simulation in trouble went through; puts back what runs again and records what does not.

    Every attempt that is counted and gives no result is kept in the journal, once. One that is interrupted, because the
    run ends or its node is about to, is not judged and is none: it has no number, and the next one has it.
    """

    def __init__(
        self, policy: Policy, dispatch: Dispatch, journal: Journal, counters: Counters, n_completed_before: int
    ) -> None:
        """Begin without any trouble; the others are the run's own and are changed."""
        self._policy = policy
        self._dispatch = dispatch
        self._journal = journal
        self._counters = counters
        self._trouble: dict[int, AttemptHistory] = {}
        self._kills = KillGuard()
        self.judgements: list[Judgement] = []
        self._failures = FailureGuard(policy.max_failures, policy.alike_failures, n_completed=n_completed_before)

    @property
    def reason_to_end(self) -> Reason | None:
        """Why nothing will succeed any more, or None."""
        if self._kills.is_hopeless:
            return KilledInVain(self._kills.window)
        return self._failures.reason

    def on_trial(self) -> None:
        """The first simulation is tried before others: one plain error is enough."""
        self._failures.is_trial = True

    def completed(self, positions: AbstractSet[int]) -> None:
        """Simulations succeeded: the failures that they had before are forgotten."""
        for position in self._trouble.keys() & positions:
            del self._trouble[position]
        self._kills.note(Outcome.DONE, len(positions))
        self._failures.completed(len(positions))

    def rejected(self, event: PartCommitted) -> None:
        """Outputs of simulations of a commit do not fit: these are no results but failures."""
        groups = [self._journal.unwritten[chunk_id].group for chunk_id in event.chunk_ids]
        group_of = {position: group for group in groups for position in group.positions}
        for failure in event.rejected:
            self._counters.completed -= 1
            one = group_of[failure.position].only((failure.position,))
            [number] = self._journal.keep_attempts(one, failure, Follows.FAILED, failure.request_bytes, event.now_s)
            self.record(replace(failure, attempts=number))

    def outputs_lost(self, group: Group, now_s: float) -> None:
        """Outputs were lost before they were durable: their simulations run again, and none is to blame."""
        self._counters.completed -= len(group.positions)
        self._counters.infrastructure_retries += 1
        if group.positions:
            said = "its outputs were lost before they were committed"
            failure = Failure(group.positions[0], Cause.WORKER_LOST, "OutputsLost", said)
            self._journal.keep_attempts(group, failure, Follows.RETRIED, 0, now_s)
            self._dispatch.pending.put_back(group)

    def chunk_died(self, event: ChunkFailed, chunk: Outstanding) -> bool:
        """A chunk's task died without a report; tell whether that was more than a loss which costs nothing."""
        if event.cause is Cause.OUT_OF_MEMORY:
            self._dispatch.window.shrink()
        if self._policy.supervised and event.cause in (Cause.OUT_OF_MEMORY, Cause.CRASHED):
            if event.cause is Cause.OUT_OF_MEMORY:
                self._kills.note(Outcome.KILLED)
            event = replace(event, cause=Cause.WORKER_LOST)
        is_blamed = bool(event.excess) or event.cause not in LOSSES
        if event.excess:
            self._lost_for_memory(event, chunk)
        elif len(chunk.group.positions) > 1:
            is_victim = self._is_victim(event, chunk) and not self._dispatch.allocator.fills_node(chunk.request_bytes)
            is_overrun = event.used_bytes is not None and not is_victim
            self._several_died(event, chunk, chunk.group, is_overrun=is_overrun)
        else:
            self._one_died(event, chunk)
        return is_blamed

    def _one_died(self, event: ChunkFailed, chunk: Outstanding) -> None:
        """The only simulation of a task died: it is the one to blame."""
        position, set_index = chunk.group.positions[0], chunk.group.sets[0]
        used_bytes = max(0, (event.used_bytes or 0) - self._dispatch.memory.base_bytes)
        cause = Cause.OUT_OF_MEMORY if event.kernel_killed else event.cause
        failure = _told(event, position, cause, peak_bytes=used_bytes, is_victim=self._is_victim(event, chunk))
        self.attempt_failed(failure, set_index, chunk, event.now_s, may_be_memory=event.kernel_killed is not False)

    @staticmethod
    def _is_victim(event: ChunkFailed, chunk: Outstanding) -> bool:
        """Whether a task was killed for memory although it was seen within its request."""
        used = event.used_bytes
        return event.cause is Cause.OUT_OF_MEMORY and used is not None and used <= chunk.request_bytes

    def attempt_failed(
        self, failure: Failure, set_index: int, chunk: Outstanding, now_s: float, *, may_be_memory: bool = False
    ) -> None:
        """An attempt failed, and it is known whose."""
        before = self._trouble.get(failure.position, AttemptHistory())
        # A task that had all of a node is no victim of another task.
        is_victim = failure.is_victim and not self._dispatch.allocator.fills_node(chunk.request_bytes)
        if is_victim and not before.excused:
            self._excuse(failure, chunk, before, now_s)
            return
        self._counters.attempts += 1
        limit_bytes = chunk.group.limit_bytes
        at_maximum = self._dispatch.allocator.is_at_maximum(limit_bytes)
        verdict, trouble = judge(
            failure.cause,
            self._trouble.pop(failure.position, AttemptHistory()),
            budget=self._policy.attempts,
            overran=not is_victim,
            at_maximum=at_maximum,
            is_alone=self._is_alone({failure.position}),
            may_be_memory=may_be_memory,
        )
        self._judged(failure, chunk, verdict, trouble, now_s)
        if verdict is Verdict.RAISE:
            self._kills.note(Outcome.RAISED)
        if failure.cause is Cause.OUT_OF_MEMORY and not is_victim:
            self._dispatch.observe_overrun(set_index, limit_bytes, failure.peak_bytes, at_maximum=at_maximum)
        if verdict is Verdict.FAIL:
            self._fail(failure, trouble, chunk, at_maximum=at_maximum)
            return
        self._count_retry(failure.cause)
        self._trouble[failure.position] = trouble
        group = chunk.group.only((failure.position,))
        if verdict is Verdict.RAISE:
            group = group._replace(need=self._raise(group, failure, trouble))
        self._dispatch.pending.put_back(group)

    def record(self, failure: Failure) -> None:
        """A simulation has failed for good."""
        self._counters.failed += 1
        self._journal.keep_failure(failure)
        self._failures.failed(failure)

    def _is_alone(self, lost: Collection[int]) -> bool:
        """Whether nothing is left, besides what was lost just now, that was not lost or blamed before."""
        n_left = self._dispatch.pending.n
        n_left += sum(len(chunk.group.positions) for chunk in self._dispatch.outstanding.values())
        return n_left <= len(self._trouble) and n_left <= len(self._trouble.keys() - lost)

    def _lost_for_memory(self, event: ChunkFailed, chunk: Outstanding) -> None:
        """The node went while some used more than their limit: these are to blame, and the others are not."""
        used, group = dict(event.excess), chunk.group
        for position, set_index in zip(group.positions, group.sets, strict=True):
            if position in used:
                message = f"{event.message}; it used {mib(used[position])} when it was last seen"
                it = replace(event, message=message)
                failure = _told(it, position, Cause.OUT_OF_MEMORY, peak_bytes=used[position])
                self.attempt_failed(failure, set_index, chunk, event.now_s)
        others = group.only(set(group.positions) - used.keys())
        if others.positions:
            self._several_died(replace(event, excess=()), chunk, others)

    def _several_died(self, event: ChunkFailed, chunk: Outstanding, group: Group, *, is_overrun: bool = False) -> None:
        """Which simulation was at fault cannot be told: none is blamed, and each half tries again alone."""
        self._counters.attempts += len(group.positions)
        for position in group.positions:
            self._trouble.setdefault(position, AttemptHistory())
        self._count_retry(event.cause)
        is_repeated = event.cause in LOSSES and not self._is_alone(set(group.positions))
        verdict = Verdict.REPEAT if is_repeated else Verdict.SPLIT
        failure = _told(event, group.positions[0], event.cause)
        numbers = self._journal.keep_attempts(group, failure, verdict.follows, chunk.request_bytes_each, event.now_s)
        self.judgements.append(
            Judgement(group.positions, event.cause, verdict, group.limit_bytes, chunk.request_bytes, numbers=numbers)
        )
        if is_repeated:
            self._dispatch.pending.put_back(group)
            return
        if event.cause is Cause.OUT_OF_MEMORY and not is_overrun:
            self._kills.note(Outcome.KILLED)
        for half in group.split():
            self._dispatch.pending.put_back(half)

    def _excuse(self, failure: Failure, chunk: Outstanding, before: AttemptHistory, now_s: float) -> None:
        """Killed although within its request: repeat as it was."""
        history = AttemptHistory(before.blamed, before.excused + 1)
        self._judged(failure, chunk, Verdict.REPEAT, history, now_s)
        self._counters.attempts += 1
        self._count_retry(Cause.OUT_OF_MEMORY)
        self._kills.note(Outcome.KILLED)
        self._trouble[failure.position] = history
        self._dispatch.pending.put_back(chunk.group.only((failure.position,)))

    def _judged(
        self, failure: Failure, chunk: Outstanding, verdict: Verdict, history: AttemptHistory, now_s: float
    ) -> None:
        one = chunk.group.only((failure.position,))
        numbers = self._journal.keep_attempts(one, failure, verdict.follows, chunk.request_bytes_each, now_s)
        self.judgements.append(
            Judgement(
                (failure.position,),
                failure.cause,
                verdict,
                chunk.group.limit_bytes,
                chunk.request_bytes,
                failure.peak_bytes,
                self._dispatch.allocator.is_at_maximum(chunk.group.limit_bytes),
                replace(history),
                numbers,
            )
        )

    def _raise(self, group: Group, failure: Failure, trouble: AttemptHistory) -> Need:
        """What is needed after an overrun; on the last try all there is then, unless others tell what it takes."""
        limit, before, tries_left = group.limit_bytes, group.need.overrun, self._policy.attempts - trouble.blamed
        seen_bytes = max(failure.peak_bytes, self._dispatch.memory.peak_bytes_max)
        wish = raised(limit, seen_bytes, tries_left, self._dispatch.allocator.top_limit_bytes)
        overran_bytes = max(before.overran_bytes if before else 0, limit, failure.peak_bytes)
        least = EVERYTHING if tries_left <= 0 else raised(limit, failure.peak_bytes, FREE_TRIES, EVERYTHING)
        return Need(least, Overrun(overran_bytes, EVERYTHING if tries_left <= 1 else wish))

    def _fail(self, failure: Failure, trouble: AttemptHistory, chunk: Outstanding, *, at_maximum: bool) -> None:
        message = failure.message
        if failure.cause is Cause.OUT_OF_MEMORY:
            where = "the most there is here" if at_maximum else f"after {count(trouble.blamed, 'attempt')}"
            limit, request = mib(chunk.group.limit_bytes), mib(chunk.request_bytes)
            message = f"needs more than {limit} (request {request}, {where}): {message}"
        attempts, request_bytes = self._journal.made[failure.position], chunk.request_bytes_each
        self.record(replace(failure, message=message, attempts=attempts, request_bytes=request_bytes))

    def _count_retry(self, cause: Cause) -> None:
        if cause is Cause.OUT_OF_MEMORY:
            self._counters.oom_retries += 1
        else:
            self._counters.infrastructure_retries += 1


def _told(event: ChunkFailed, position: int, cause: Cause, *, peak_bytes: int = 0, is_victim: bool = False) -> Failure:
    """The end of a task, told of one of its simulations."""
    return Failure(
        position, cause, event.error_type, event.message,
        peak_bytes=peak_bytes,
        node=event.address,
        is_victim=is_victim,
        killed_by=Killer.KERNEL if event.kernel_killed else event.killed_by,
    )  # fmt: skip
