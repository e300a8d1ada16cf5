"""The one object that decides: `handle(event)` returns actions, and nothing else changes it.

Judges what happened, ends the run, and composes what is submitted (`dispatch`) with what is committed (`journal`).
A simulation is in exactly one of pending, outstanding, unwritten, done, failed. Does not wait, submit, write or print;
time is in the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from modelops_ray.core import messages
from modelops_ray.core.dispatch import Dispatch, Outstanding
from modelops_ray.core.events import (
    Action,
    CancelChunk,
    CapacityChanged,
    Cause,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    Ending,
    Event,
    Failure,
    Finish,
    PartCommitted,
    PayloadLost,
    StopRequested,
    SubmitChunk,
    TasksAdded,
)
from modelops_ray.core.invariants import Audit
from modelops_ray.core.journal import Journal
from modelops_ray.core.memory import raised
from modelops_ray.core.plan import Piece
from modelops_ray.core.policy import Policy
from modelops_ray.core.progress import FailureGuard, NoProgressGuard
from modelops_ray.core.retry import LOSSES, KillGuard, Outcome, Trouble, Verdict, is_overrun, judge

SEGMENTS_WANTED = 4096
"""Fewer parameter sets than this pending, and more are asked for."""


@dataclass(slots=True)
class Counters:
    """What happened so far, for people; `completed` and `failed` include what is not committed yet."""

    completed: int = 0
    failed: int = 0
    committed: int = 0
    attempts: int = 0
    oom_retries: int = 0
    infrastructure_retries: int = 0


class RunState:
    """The state of one run. See the module docstring."""

    def __init__(
        self,
        policy: Policy,
        *,
        known_peaks: Mapping[int, int] | None = None,
        known_seconds: float = 0.0,
        validate: bool = False,
    ) -> None:
        """Begin a run of which nothing is pending yet.

        Args:
            policy: The knobs.
            known_peaks: Peaks of earlier runs of the same model: how many fell into each bin of `memory.bin_of`.
            known_seconds: Mean run time of earlier simulations, 0 if unknown.
            validate: Check every invariant after every event; slow, for tests.
        """
        self.policy = policy
        self.counters = Counters()
        self.dispatch = Dispatch(policy, known_peaks=known_peaks or {}, known_seconds=known_seconds)
        self.journal = Journal(policy)
        self._trouble: dict[int, Trouble] = {}
        self._kills = KillGuard()
        self._failures = FailureGuard(policy.max_failures, policy.alike_failures)
        self._progress = NoProgressGuard(policy.patience_s)
        self._last_added = False
        self._ending: Finish | None = None
        self._finished = False
        self._audit = Audit() if validate else None

    @property
    def wants_tasks(self) -> bool:
        """Whether more simulations should be fed; a million of them need not be known at once."""
        return not self._last_added and self.dispatch.pending.n_sets < SEGMENTS_WANTED

    @property
    def is_ending(self) -> bool:
        """Whether the run was told, or decided, to end before everything is done."""
        return self._ending is not None

    def handle(self, event: Event) -> list[Action]:
        """Take in one event and say what to do about it."""
        if self._finished or (isinstance(event, ChunkStarted) and not self.dispatch.queue.leave(event.chunk_id)):
            return []
        actions: list[Action] = list(self._take_in(event))
        actions += self._decide(event.now_s)
        if self._audit is not None:
            self._audit.check(self, event, actions)
        return actions

    def _take_in(self, event: Event) -> Iterator[Action]:
        match event:
            case ChunkFinished():
                self._on_finished(event)
            case ChunkFailed():
                self._on_failed(event)
            case TasksAdded():
                self.dispatch.pending.add(event.segments)
                self._last_added = self._last_added or event.last
            case PartCommitted():
                self._on_committed(event)
            case PayloadLost():
                self._on_payload_lost(event)
            case CapacityChanged():
                yield from self._on_capacity(event)
            case StopRequested():
                self._end(Ending.STOPPED, event.reason)

    def _on_capacity(self, event: CapacityChanged) -> Iterator[CancelChunk]:
        homeless = self.dispatch.look(event.capacity)
        n_slots = self.dispatch.window.slots_at(self.dispatch.typical_request_bytes)
        self._progress.look(event.now_s, n_slots)
        self._refuse_the_impossible(event)
        for chunk_id in homeless:
            yield from self._cancel(chunk_id)

    def _refuse_the_impossible(self, event: CapacityChanged) -> None:
        """End a run whose every request no node could ever hold, before it waits for one."""
        nodes = event.capacity.reachable or event.capacity.nodes
        most_cpus = max((node.cpus for node in nodes), default=self.policy.cpus)
        if most_cpus < self.policy.cpus:
            self._end(Ending.GAVE_UP, messages.too_many_cpus(self.policy.cpus, most_cpus))
        given, base = self.policy.memory_bytes, self.dispatch.memory.base_bytes
        top = self.dispatch.top_bytes
        if given is not None and top and given + base > top:
            self._end(Ending.GAVE_UP, messages.too_much_memory(given, base, top))

    def _on_finished(self, event: ChunkFinished) -> None:
        chunk = self.dispatch.drop(event.chunk_id)
        if chunk is None:
            return
        report, done = event.report, {m.position for m in event.report.completed}
        self._progress.moved(event.now_s)
        self.dispatch.window.recover()
        self.dispatch.memory.observe_base(report.base_bytes)
        self.dispatch.observe_payload(report.payload_bytes, len(done))
        self.journal.keep(event.chunk_id, chunk.piece.only(done), report.payload_bytes)
        set_of = dict(zip(chunk.piece.positions, chunk.piece.sets, strict=True))
        for position, seconds, peak_bytes in report.completed:
            self._trouble.pop(position, None)
            self._kills.note(Outcome.DONE)
            self.dispatch.observe(set_of.pop(position), seconds, peak_bytes)
        for failure in report.failures:
            self._on_attempt_failed(failure, set_of.pop(failure.position), chunk)
        if set_of:
            self.dispatch.put_back(chunk.piece.only(set_of))
        self.counters.completed += len(done)
        self.counters.attempts += len(done)
        self._failures.completed(len(done))
        if report.fatal is not None:
            self._end(Ending.GAVE_UP, report.fatal)

    def _on_failed(self, event: ChunkFailed) -> None:
        chunk = self.dispatch.drop(event.chunk_id)
        if chunk is None:
            return
        if event.cause is Cause.OUT_OF_MEMORY:
            self.dispatch.window.shrink()
        if len(chunk.piece.positions) > 1:
            self._on_several_failed(event, chunk.piece)
            return
        position, set_index = chunk.piece.positions[0], chunk.piece.sets[0]
        trouble = self._trouble.get(position, Trouble())
        if event.cause is Cause.OUT_OF_MEMORY and not is_overrun(
            event.used_bytes, chunk.request_bytes, trouble.excused
        ):
            self._excuse(chunk.piece, trouble)
            return
        used_bytes = max(0, (event.used_bytes or 0) - self.dispatch.memory.base_bytes)
        cause = Cause.OUT_OF_MEMORY if event.kernel_killed else event.cause
        failure = Failure(position, cause, event.error_type, event.message, peak_bytes=used_bytes)
        self._on_attempt_failed(failure, set_index, chunk, may_be_memory=event.kernel_killed is not False)

    def _on_several_failed(self, event: ChunkFailed, piece: Piece) -> None:
        """Whose fault it was cannot be told: nobody is blamed, and each half tries again alone."""
        self.counters.attempts += len(piece.positions)
        for position in piece.positions:
            self._trouble.setdefault(position, Trouble()).attempts += 1
        self._count_retry(event.cause)
        if event.cause in LOSSES:
            self.dispatch.put_back(piece)
            return
        if event.cause is Cause.OUT_OF_MEMORY:
            self._kills.note(Outcome.KILLED)
        for half in piece.split():
            self.dispatch.put_back(half)

    def _excuse(self, piece: Piece, trouble: Trouble) -> None:
        """Killed although within its request: repeat as it was."""
        self.counters.attempts += 1
        self._count_retry(Cause.OUT_OF_MEMORY)
        self._kills.note(Outcome.KILLED)
        self._trouble[piece.positions[0]] = Trouble(trouble.attempts + 1, trouble.blamed, trouble.excused + 1)
        self.dispatch.put_back(piece)

    def _on_attempt_failed(
        self, failure: Failure, set_index: int, chunk: Outstanding, *, may_be_memory: bool = False
    ) -> None:
        self.counters.attempts += 1
        at_top = chunk.request_bytes >= self.dispatch.top_bytes
        verdict, trouble = judge(
            failure.cause,
            self._trouble.pop(failure.position, Trouble()),
            budget=self.policy.attempts,
            at_top=at_top,
            is_alone=not self.dispatch.outstanding and not self.dispatch.pending.n,
            may_be_memory=may_be_memory,
        )
        if failure.cause is Cause.OUT_OF_MEMORY:
            self._kills.note(Outcome.RAISED if verdict is Verdict.RAISE else Outcome.KILLED)
            self.dispatch.observe_overrun(set_index, max(failure.peak_bytes, chunk.piece.limit_bytes))
        if verdict is Verdict.FAIL:
            self._fail(failure, trouble, chunk, at_top=at_top)
            return
        self._count_retry(failure.cause)
        self._trouble[failure.position] = trouble
        limit_bytes = chunk.piece.limit_bytes
        if verdict is Verdict.RAISE:
            limit_bytes = self._raise(limit_bytes, failure, trouble)
        self.dispatch.put_back(Piece((failure.position,), (set_index,), limit_bytes))

    def _raise(self, limit_bytes: int, failure: Failure, trouble: Trouble) -> int:
        memory = self.dispatch.memory
        seen_bytes = max(failure.peak_bytes, memory.peak_bytes_max)
        top_bytes = max(1, self.dispatch.top_bytes - memory.base_bytes)
        return raised(limit_bytes, seen_bytes, self.policy.attempts - trouble.blamed, top_bytes)

    def _fail(self, failure: Failure, trouble: Trouble, chunk: Outstanding, *, at_top: bool) -> None:
        message = failure.message
        if failure.cause is Cause.OUT_OF_MEMORY:
            limit, request = chunk.piece.limit_bytes, chunk.request_bytes
            message = messages.needs_more(limit, request, at_top=at_top, n_blamed=trouble.blamed, detail=message)
        self._record(replace(failure, message=message, attempts=trouble.attempts, request_bytes=chunk.request_bytes))

    def _record(self, failure: Failure) -> None:
        self.counters.failed += 1
        self.journal.failures.append(failure)
        self._failures.failed(failure)

    def _count_retry(self, cause: Cause) -> None:
        if cause is Cause.OUT_OF_MEMORY:
            self.counters.oom_retries += 1
        else:
            self.counters.infrastructure_retries += 1

    def _on_committed(self, event: PartCommitted) -> None:
        if self.journal.writing is None:
            return
        n_done = self.journal.committed(event.chunk_ids, event.now_s)
        self.counters.committed += n_done - len(event.rejected)
        self.counters.completed -= len(event.rejected)
        for failure in event.rejected:
            self._record(failure)

    def _on_payload_lost(self, event: PayloadLost) -> None:
        if event.chunk_id not in self.journal.unwritten:
            return
        piece = self.journal.let_go(event.chunk_id)
        self.counters.completed -= len(piece.positions)
        self.counters.infrastructure_retries += 1
        self.dispatch.put_back(piece)

    def _decide(self, now_s: float) -> Iterator[Action]:
        self._look_for_the_end(now_s)
        yield from self._cancel_all() if self.is_ending else self._submit()
        if commit := self.journal.next_commit(now_s, is_last=self.is_ending or self._is_idle):
            yield commit
        if finish := self._finish():
            self._finished = True
            yield finish

    @property
    def _is_idle(self) -> bool:
        return self._last_added and not self.dispatch.pending.n and not self.dispatch.outstanding

    def _look_for_the_end(self, now_s: float) -> None:
        if reason := self._failures.reason:
            self._end(Ending.GAVE_UP, reason)
        if self._kills.is_hopeless:
            self._end(Ending.GAVE_UP, messages.HOPELESS)
        has_work = bool(self.dispatch.outstanding or self.dispatch.pending.n)
        may_run_forever = self.policy.timeout_s == 0 and bool(self.dispatch.window.capacity.nodes)
        if has_work and not may_run_forever and self._progress.is_over(now_s):
            self._end(Ending.GAVE_UP, messages.no_progress(self.dispatch, self._progress.waited_s(now_s)))

    def _end(self, ending: Ending, message: str) -> None:
        if self._ending is None:
            self._ending = Finish(ending, message)

    def _submit(self) -> Iterator[SubmitChunk]:
        yield from self.dispatch.submissions(self.journal.unwritten_bytes, self._attempt_of)

    def _attempt_of(self, position: int) -> int:
        trouble = self._trouble.get(position)
        return 1 if trouble is None else trouble.attempts + 1

    def _cancel(self, chunk_id: int) -> Iterator[CancelChunk]:
        chunk = self.dispatch.drop(chunk_id)
        if chunk is not None:
            self.dispatch.put_back(chunk.piece)
            yield CancelChunk(chunk_id)

    def _cancel_all(self) -> Iterator[CancelChunk]:
        for chunk_id in list(self.dispatch.outstanding):
            yield from self._cancel(chunk_id)

    def _finish(self) -> Finish | None:
        if self.dispatch.outstanding or not self.journal.is_empty:
            return None
        if self._ending is not None:
            return self._ending
        return Finish(Ending.COMPLETE) if self._is_idle else None
