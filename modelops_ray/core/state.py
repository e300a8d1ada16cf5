"""The one object that decides: `handle(event)` returns actions, and nothing else changes it.

Ends the run, and composes what is submitted (`dispatch`), what is committed (`journal`) and what follows from failures
(`retry`).
A simulation is in exactly one of pending, outstanding, unwritten, done, failed. Does not wait, submit, write or print;
time is in the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modelops_ray.core.commits import Journal
from modelops_ray.core.events import (
    Action,
    CancelChunk,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    ClusterSaid,
    Ending,
    Event,
    Finish,
    Notify,
    PartCommitted,
    PayloadLost,
    PodDied,
    StopRequested,
    TasksAdded,
    Ticked,
)
from modelops_ray.core.forecast import Forecast, forecast
from modelops_ray.core.guards import Counters, NoProgressGuard, PodGuard
from modelops_ray.core.policy import Policy
from modelops_ray.core.reasons import Lacking, NoProgress, PodsDie, Reason, TooManyCpus, TooMuchMemory
from modelops_ray.core.retry import FailurePolicy
from modelops_ray.core.scheduler import Dispatch
from modelops_ray.core.story import Decision, Story
from modelops_ray.core.trial import Trial
from modelops_ray.core.view import Learned, View

SEGMENTS_WANTED = 4096
"""Fewer parameter sets than this pending, and more are asked for."""

MOST_NOTICES = 200
"""Sentences that a session tells at most: a person reads no more, and each is kept to be told once."""


class RunState:
    """The state of one run. See the module docstring."""

    def __init__(
        self,
        policy: Policy,
        *,
        known_peaks: Mapping[int, int] | None = None,
        known_seconds: float | None = None,
        n_completed_before: int = 0,
        attempts_before: Mapping[int, int] | None = None,
    ) -> None:
        """Begin a run of which nothing is pending yet.

        Args:
            policy: The knobs.
            known_peaks: Peaks of earlier runs of the same model: how many fell into each bin of `memory.bin_of`.
            known_seconds: Mean run time of earlier simulations, None if unknown.
            n_completed_before: Results that earlier sessions of this run have kept.
            attempts_before: Attempts that gave no result in earlier sessions, by position, where there were any.
        """
        self.policy = policy
        self.counters = Counters()
        self.dispatch = Dispatch(policy, known_peaks=known_peaks or {}, known_seconds=known_seconds)
        self.journal = Journal(policy, dict(attempts_before or {}))
        self._notices: set[str] = set()
        self._failures = FailurePolicy(policy, self.dispatch, self.journal, self.counters, n_completed_before)
        self._trial = Trial(self.dispatch, self._failures, self.counters, is_known=n_completed_before > 0)
        self._progress = NoProgressGuard(policy.patience_s)
        self._pods = PodGuard()
        self._autoscaler_says = self._hindrance = ""
        self._last_added = False
        self._ending: Finish | None = None
        self.is_finished = False
        self.story = Story()

    @property
    def wants_tasks(self) -> bool:
        """Whether more simulations should be fed; a million of them need not be known at once."""
        return not self._last_added and not self.is_ending and self.dispatch.pending.n_sets < SEGMENTS_WANTED

    @property
    def is_ending(self) -> bool:
        """Whether the run was told, or decided, to end before everything is done."""
        return self._ending is not None

    @property
    def has_outstanding(self) -> bool:
        """Whether a chunk was submitted that has not been heard of."""
        return bool(self.dispatch.outstanding)

    def view(self) -> View:
        """The run at this moment."""
        return View.of(self.counters, self.dispatch, self.journal.unwritten_bytes)

    def learned(self) -> Learned:
        """What is known of the model by now."""
        return Learned.of(self.dispatch)

    def forecast(self, *, n_simulations: int, n_sets: int, n_left: int, bytes_each: float | None = None) -> Forecast:
        """What the run will take, see `forecast.forecast`."""
        return forecast(self.dispatch, n_simulations=n_simulations, n_sets=n_sets, n_left=n_left, bytes_each=bytes_each)

    def handle(self, event: Event) -> list[Action]:
        """Take in one event and say what to do about it."""
        if self.is_finished or (isinstance(event, ChunkStarted) and not self.dispatch.admission.start(event.chunk_id)):
            return []
        actions: list[Action] = list(self._take_in(event))
        actions += self._decide(event.now_s)
        if actions or not isinstance(event, Ticked):
            judgements = self._failures.judgements
            decided: Sequence[Decision] = [*judgements, *actions] if judgements else actions
            dispatch, memory = self.dispatch, self.dispatch.memory
            self.story.note((
                event, decided[0] if len(decided) == 1 else decided, dispatch.pending.n, len(dispatch.outstanding),
                memory.n_samples, memory.peak_bytes_max, self.journal.unwritten_bytes, dispatch.window.factor,
            ))  # fmt: skip
            if judgements:
                self.story.keep_judged()
                judgements.clear()
        return actions

    def _take_in(self, event: Event) -> Iterator[Action]:
        match event:
            case ChunkFinished():
                yield from self._on_finished(event)
            case ChunkFailed():
                self._on_failed(event)
            case TasksAdded():
                self._on_added(event)
            case PartCommitted():
                self._on_committed(event)
            case PayloadLost():
                self._on_payload_lost(event)
            case CapacityChanged():
                yield from self._on_capacity(event)
            case PodDied():
                yield from self._on_pod_died(event)
            case ClusterSaid():
                yield from self._on_said(event)
            case StopRequested():
                self._end(Ending.STOPPED, event.reason)

    def _on_added(self, event: TasksAdded) -> None:
        self.story.make_room(len(event.segments))
        if event.segments and not self._has_work and self.journal.is_empty:
            self._progress.began(event.now_s)
        self.dispatch.pending.add(event.segments)
        self._last_added = self._last_added or event.last

    def _on_pod_died(self, event: PodDied) -> Iterator[Notify]:
        yield from self._notify(event.sentence)
        if self._pods.died(event, self.counters):
            self._end(Ending.GAVE_UP, PodsDie(self._pods.deaths, event.sentence))

    def _on_said(self, event: ClusterSaid) -> Iterator[Notify]:
        yield from self._notify(event.text)
        if event.hinders:
            self._hindrance = event.text

    def _notify(self, text: str) -> Iterator[Notify]:
        """Have the user told, unless this was told before, or too much was."""
        if text not in self._notices and len(self._notices) < MOST_NOTICES:
            self._notices.add(text)
            yield Notify(text)

    def _on_capacity(self, event: CapacityChanged) -> Iterator[CancelChunk]:
        self.story.make_room(len(event.capacity.nodes) + len(event.capacity.reachable))
        self._autoscaler_says = event.capacity.says
        homeless = self.dispatch.update(event.capacity, event.now_s)
        n_slots = self.dispatch.allocator.concurrency
        if n_slots > self._progress.best_slots:
            # More slots came: what was reported to keep nodes from coming does so no more.
            self._hindrance = ""
        self._progress.update(event.now_s, n_slots)
        if why := _impossible(self.policy, self.dispatch):
            self._end(Ending.GAVE_UP, why)
        if homeless:
            self._progress.lost(event.now_s)
        for chunk_id in homeless:
            yield from self._cancel(chunk_id)

    def _on_finished(self, event: ChunkFinished) -> Iterator[Notify]:
        chunk = self.dispatch.admission.leave(event.chunk_id)
        if chunk is None:
            return
        report, done = event.report, {m.position for m in event.report.completed}
        self._progress.moved(event.now_s)
        self.dispatch.window.recover()
        self.dispatch.memory.overhead.observe(report)
        if report.notice:
            yield from self._notify(report.notice)
        text_bytes = sum(failure.text_bytes for failure in report.failures)
        self.dispatch.observe_payload(report.payload_bytes, len(done), text_bytes)
        if text_bytes:
            # A hundred bytes of text count as one simulation.
            self.story.make_room(text_bytes // 100)
        self.dispatch.observe_life(report.child_life_s)
        since_s = event.now_s - report.held_s
        self.journal.keep(event.chunk_id, chunk.group.only(done), report.payload_bytes, since_s)
        set_of = dict(zip(chunk.group.positions, chunk.group.sets, strict=True))
        self._failures.completed(done)
        for position, seconds, peak_bytes in report.completed:
            self.dispatch.observe(set_of.pop(position), seconds, peak_bytes)
        for failure in report.failures:
            self._failures.attempt_failed(failure, set_of.pop(failure.position), chunk, event.now_s)
        if set_of:
            self.dispatch.pending.put_back(chunk.group.only(set_of))
        self.counters.completed += len(done)
        self.counters.attempts += len(done)
        if report.fatal is not None:
            self._end(Ending.GAVE_UP, report.fatal)

    def _on_failed(self, event: ChunkFailed) -> None:
        chunk = self.dispatch.admission.leave(event.chunk_id)
        if chunk is None:
            return
        if self._failures.chunk_died(self._pods.seen_from(event), chunk):
            # There is an end to what a simulation can be blamed for.
            self._progress.moved(event.now_s)
        else:
            self._progress.lost(event.now_s)

    def _on_committed(self, event: PartCommitted) -> None:
        if self.journal.writing is None:
            return
        if event.rejected:
            self._failures.rejected(event)
        n_done = self.journal.committed(event.chunk_ids, event.now_s)
        self.story.make_room(n_done)
        if n_done:
            self._progress.kept(event.now_s)
        self.counters.committed += n_done - len(event.rejected)

    def _on_payload_lost(self, event: PayloadLost) -> None:
        if event.chunk_id in self.journal.unwritten:
            self._failures.outputs_lost(self.journal.let_go(event.chunk_id), event.now_s)

    def _decide(self, now_s: float) -> Iterator[Action]:
        self._check_the_end(now_s)
        self._trial.update(now_s)
        if self.is_ending:
            yield from self._cancel_all()
        else:
            yield from self.dispatch.submissions(self.journal.unwritten_bytes, self.journal.attempt_of)
        if commit := self.journal.next_commit(now_s, is_last=self.is_ending or not self.dispatch.outstanding):
            yield commit
        if finish := self._finish():
            self.is_finished = True
            yield finish

    @property
    def _is_idle(self) -> bool:
        return self._last_added and not self._has_work

    @property
    def _has_work(self) -> bool:
        return bool(self.dispatch.pending.n or self.dispatch.outstanding)

    def _check_the_end(self, now_s: float) -> None:
        if reason := self._failures.reason_to_end:
            self._end(Ending.GAVE_UP, reason)
        may_run_forever = self.policy.timeout_s == 0 and bool(self.dispatch.window.capacity.nodes)
        if self._has_work and not may_run_forever and (lacking := self._progress.lacking(now_s)):
            said = (self._autoscaler_says, self._hindrance)
            self._end(Ending.GAVE_UP, _no_progress(self.dispatch, *lacking, said))

    def _end(self, ending: Ending, reason: Reason | str) -> None:
        if self._ending is None:
            self._ending = Finish(ending, reason)

    def _cancel(self, chunk_id: int) -> Iterator[CancelChunk]:
        chunk = self.dispatch.admission.leave(chunk_id)
        if chunk is not None:
            self.dispatch.pending.put_back(chunk.group)
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


def _impossible(policy: Policy, dispatch: Dispatch) -> TooManyCpus | TooMuchMemory | None:
    """Why no node could ever hold a request of a run, which is then not waited for; None where one could."""
    most_cpus, top_bytes = dispatch.allocator.most_cpus, dispatch.allocator.top_bytes
    if most_cpus < policy.cpus:
        return TooManyCpus(policy.cpus, most_cpus)
    given, memory = policy.memory_bytes, dispatch.memory
    # Nothing is refused for what a worker is only guessed to take.
    if given is not None and (given if memory.overhead.is_guess else memory.overhead.task_bytes(given)) > top_bytes:
        return TooMuchMemory(given, memory.base_bytes, top_bytes)
    return None


def _no_progress(dispatch: Dispatch, lacking: Lacking, for_s: float, said: tuple[str, ...]) -> NoProgress:
    allocator, window = dispatch.allocator, dispatch.window
    return NoProgress(
        lacking=lacking,
        for_s=for_s,
        n_tasks=len(dispatch.outstanding),
        request_bytes=tuple(sorted(allocator.sizes.in_use)),
        cpus=dispatch.policy.cpus,
        n_pending=dispatch.pending.n,
        n_nodes=len(window.capacity.nodes),
        n_slots=allocator.concurrency,
        said=tuple(each for each in said if each),
    )
