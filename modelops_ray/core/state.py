"""The one object that decides: `handle(event)` returns actions, and nothing else changes it.

Composes the queue, the memory model, the window, the retry budgets and the guards. A simulation is in exactly one of
pending, outstanding, unwritten, done, failed. Does not wait, submit, write or print; time is in the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from modelops_ray.core.events import (
    Action,
    CancelChunk,
    Capacity,
    CapacityChanged,
    Cause,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    Ending,
    Event,
    Failure,
    Finish,
    Measured,
    PartCommitted,
    PayloadLost,
    StopRequested,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.invariants import Audit
from modelops_ray.core.memory import MemoryModel, RequestSizes, bin_of, raised
from modelops_ray.core.plan import Choice, Pending, Piece, chunk_size
from modelops_ray.core.policy import MIB, Policy
from modelops_ray.core.progress import FailureGuard, NoProgressGuard
from modelops_ray.core.retry import LOSSES, KillGuard, Outcome, Trouble, Verdict, is_overrun, judge
from modelops_ray.core.starvation import Queue
from modelops_ray.core.window import Window

_SEGMENTS_WANTED = 4096
_OUTPUT_TARGET_BYTES = 16 * MIB
_PROBES_NEEDED = 3


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A chunk that was submitted and has not been heard of."""

    piece: Piece
    request_bytes: int


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A chunk whose payload waits to be committed."""

    piece: Piece
    payload_bytes: int


@dataclass(slots=True)
class Counters:
    """What happened so far, for people; `completed` and `failed` include what is not committed yet."""

    completed: int = 0
    failed: int = 0
    committed: int = 0
    attempts: int = 0
    oom_retries: int = 0
    infrastructure_retries: int = 0
    busy_seconds: float = 0.0
    peak_bytes_max: int = 0
    request_bytes_max: int = 0
    outstanding_max: int = 0


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
            known_peaks: Peaks of earlier runs of the same model, by bin of `memory.bin_of`.
            known_seconds: Mean run time of earlier simulations, 0 if unknown.
            validate: Check every invariant after every event; slow, for tests.
        """
        self.policy = policy
        self.counters = Counters()
        self.window = Window(policy)
        self.pending = Pending()
        self.outstanding: dict[int, Outstanding] = {}
        self.unwritten: dict[int, Unwritten] = {}
        self.failures: list[Failure] = []
        self.writing: WritePart | None = None
        self.sizes = RequestSizes(policy.request_sizes)
        base = policy.known_base_bytes or policy.base_guess_bytes
        self.memory = MemoryModel(policy.memory_bytes, self.sizes, base)
        self._known_peaks = dict(known_peaks or {})
        self._known_seconds = known_seconds
        self._queue = Queue()
        self._trouble: dict[int, Trouble] = {}
        self._kills = KillGuard()
        self._failure_guard = FailureGuard(policy.max_failures, policy.alike_failures)
        self._progress = NoProgressGuard(policy.patience_s)
        self._top_bytes = 0
        self._next_id = 1
        self._last_added = False
        self.unwritten_bytes = 0
        self._oldest_unwritten_s: float | None = None
        self._n_commits = 0
        self._n_reports = 0
        self._payload_bytes_mean = 0.0
        self._bytes_each = 0.0
        self._ending: tuple[Ending, str] | None = None
        self._finished = False
        self._audit = Audit() if validate else None

    @property
    def wants_tasks(self) -> bool:
        """Whether more simulations should be fed; a million of them need not be known at once."""
        return not self._last_added and self.pending.n_sets < _SEGMENTS_WANTED

    @property
    def requested_bytes(self) -> int:
        """Memory that outstanding chunks ask for."""
        return sum(size * count for size, count in self.sizes.in_use.items())

    @property
    def is_ending(self) -> bool:
        """Whether the run was told, or decided, to end before everything is done."""
        return self._ending is not None

    @property
    def top_bytes(self) -> int:
        """The largest request there can be: the largest node, or the user's cap."""
        cap = self.policy.max_memory_bytes
        return self._top_bytes if cap is None else min(self._top_bytes, self.memory.base_bytes + cap)

    @property
    def mean_seconds(self) -> float:
        """Mean run time of a simulation; 0 while unknown."""
        if not self.counters.completed:
            return self._known_seconds
        return self.counters.busy_seconds / self.counters.completed

    @property
    def is_probing(self) -> bool:
        """Whether the first measurements are still awaited."""
        if self.policy.memory_bytes is not None or self.memory.n_samples >= _PROBES_NEEDED:
            return False
        return self.memory.n_samples == 0 or bool(self.outstanding)

    def typical_request_bytes(self) -> int:
        """The request of a simulation of which only the model is known."""
        return self.memory.request_for(self.memory.limit_for(-1, self.window.plenty_bytes), self.top_bytes)

    def handle(self, event: Event) -> list[Action]:
        """Take in one event and say what to do about it."""
        if self._finished:
            return []
        actions: list[Action] = []
        match event:
            case ChunkFinished():
                self._on_finished(event)
            case ChunkStarted():
                self._queue.leave(event.chunk_id)
            case ChunkFailed():
                self._on_failed(event)
            case TasksAdded():
                self.pending.add(event.segments)
                self._last_added = self._last_added or event.last
            case PartCommitted():
                self._on_committed(event)
            case PayloadLost():
                self._on_payload_lost(event)
            case CapacityChanged():
                actions += self._on_capacity(event)
            case StopRequested():
                self._end(Ending.STOPPED, event.reason)
            case Ticked():
                pass
        actions += self._decide(event.now_s)
        if self._audit is not None:
            self._audit.check(self, event, actions)
        return actions

    # What happened

    def _on_capacity(self, event: CapacityChanged) -> Iterator[CancelChunk]:
        self.window.look(event.capacity)
        if self.window.largest_bytes:
            self._top_bytes = self.window.largest_bytes
        self._progress.look(event.now_s, self.window.slots_at(self.typical_request_bytes()))
        if self._known_peaks:
            self.memory.seed(self._known_peaks, self.top_bytes)
            self._known_peaks = {}
        self._refuse_the_impossible(event.capacity)
        for chunk_id in [i for i, chunk in self.outstanding.items() if chunk.request_bytes > self.top_bytes]:
            # Its node is gone and no other could hold it: it would wait for ever.
            self._put_back(self._drop(chunk_id).piece)
            yield CancelChunk(chunk_id)

    def _refuse_the_impossible(self, capacity: Capacity) -> None:
        most_cpus = max((n.cpus for n in capacity.reachable or capacity.nodes), default=0.0)
        if not self.window.has_enough_cpus:
            self._end(
                Ending.GAVE_UP,
                f"--cpus {self.policy.cpus:g} is more than any node has ({most_cpus:g}); ask for less, or add a larger node",
            )
        wanted = (self.policy.memory_bytes or 0) + self.memory.base_bytes
        if self.policy.memory_bytes and self._top_bytes and wanted > self._top_bytes:
            self._end(
                Ending.GAVE_UP,
                f"--memory {_mib(self.policy.memory_bytes)} and {_mib(self.memory.base_bytes)} for the worker are more "
                f"than the largest node offers ({_mib(self._top_bytes)}); ask for less, or add a larger node",
            )

    def _on_finished(self, event: ChunkFinished) -> None:
        chunk = self._drop(event.chunk_id)
        if chunk is None:
            return
        report = event.report
        self._progress.moved(event.now_s)
        self.window.recover()
        self.memory.observe_base(report.base_bytes)
        sets = dict(zip(chunk.piece.positions, chunk.piece.sets, strict=True))
        for measured in report.completed:
            self._on_completed(sets.pop(measured.position), measured)
        for failure in report.failures:
            self._on_attempt_failed(failure, sets.pop(failure.position), chunk)
        self._put_back(chunk.piece.only(sets.keys()))
        self._failure_guard.completed(len(report.completed))
        self._keep(event, chunk)
        if report.fatal is not None:
            self._end(Ending.GAVE_UP, report.fatal)

    def _on_completed(self, set_index: int, measured: Measured) -> None:
        self.counters.completed += 1
        self.counters.attempts += 1
        self.counters.busy_seconds += measured.seconds
        self._kills.note(Outcome.DONE)
        self._trouble.pop(measured.position, None)
        self._observe(set_index, measured.peak_bytes)
        if self.pending.holds(set_index):
            size_class = bin_of(self.memory.limit_for(set_index, 0))
            self.pending.learn(set_index, size_class, measured.seconds)

    def _observe(self, set_index: int, peak_bytes: int) -> None:
        self.memory.observe(peak_bytes, self.top_bytes)
        if self.pending.holds(set_index):
            self.memory.observe_set(set_index, peak_bytes)

    def _observe_overrun(self, set_index: int, least_bytes: int) -> None:
        """A peak that was cut off tells what is not enough, for this set only: it would spoil the histogram."""
        if self.pending.holds(set_index):
            self.memory.observe_set(set_index, least_bytes)

    def _keep(self, event: ChunkFinished, chunk: Outstanding) -> None:
        """Remember that the payload of a chunk waits to be committed."""
        report = event.report
        done = chunk.piece.only({m.position for m in report.completed})
        self.unwritten[event.chunk_id] = Unwritten(done, report.payload_bytes)
        self.unwritten_bytes += report.payload_bytes
        self._mark_unwritten(event.now_s)
        weight = 0.2 if self._n_reports else 1.0
        self._n_reports += 1
        self._payload_bytes_mean += weight * (report.payload_bytes - self._payload_bytes_mean)
        if report.completed:
            self._bytes_each += weight * (report.payload_bytes / len(report.completed) - self._bytes_each)

    def _mark_unwritten(self, now_s: float) -> None:
        if self._oldest_unwritten_s is None:
            self._oldest_unwritten_s = now_s

    def _on_failed(self, event: ChunkFailed) -> None:
        chunk = self._drop(event.chunk_id)
        if chunk is None:
            return
        piece = chunk.piece
        if len(piece.positions) > 1:
            self._on_several_failed(event, piece)
            return
        trouble = self._trouble.get(piece.positions[0], Trouble())
        if event.cause is Cause.OUT_OF_MEMORY and not is_overrun(
            event.used_bytes, chunk.request_bytes, trouble.excused
        ):
            self._excuse(piece, trouble)
            return
        used = max(0, (event.used_bytes or 0) - self.memory.base_bytes)
        cause = Cause.OUT_OF_MEMORY if event.kernel_killed else event.cause
        failure = Failure(piece.positions[0], cause, event.error_type, event.message, peak_bytes=used)
        may_be_memory = event.kernel_killed is not False
        self._on_attempt_failed(failure, piece.sets[0], chunk, may_be_memory=may_be_memory)

    def _on_several_failed(self, event: ChunkFailed, piece: Piece) -> None:
        """Whose fault it was cannot be told: nobody is blamed, and each half tries again alone."""
        self.counters.attempts += len(piece.positions)
        for position in piece.positions:
            self._trouble.setdefault(position, Trouble()).attempts += 1
        self._count_retry(event.cause)
        if event.cause in LOSSES:
            self._put_back(piece)
            return
        if event.cause is Cause.OUT_OF_MEMORY:
            self._kills.note(Outcome.KILLED)
            self.window.shrink()
        for half in piece.split():
            self._put_back(half)

    def _excuse(self, piece: Piece, trouble: Trouble) -> None:
        """Killed although within its request: repeat as it was, with less in flight."""
        self.counters.attempts += 1
        self.counters.oom_retries += 1
        self._kills.note(Outcome.KILLED)
        self.window.shrink()
        self._trouble[piece.positions[0]] = Trouble(trouble.attempts + 1, trouble.blamed, trouble.excused + 1)
        self._put_back(piece)

    def _on_attempt_failed(
        self, failure: Failure, set_index: int, chunk: Outstanding, *, may_be_memory: bool = False
    ) -> None:
        position, cause = failure.position, failure.cause
        self.counters.attempts += 1
        at_top = chunk.request_bytes >= self.top_bytes
        verdict, trouble = judge(
            cause,
            self._trouble.pop(position, Trouble()),
            budget=self.policy.attempts,
            at_top=at_top,
            is_alone=not self.outstanding and not self.pending.n,
            may_be_memory=may_be_memory,
        )
        if cause is Cause.OUT_OF_MEMORY:
            self._kills.note(Outcome.RAISED if verdict is Verdict.RAISE else Outcome.KILLED)
            self._observe_overrun(set_index, max(failure.peak_bytes, chunk.piece.limit_bytes))
        if verdict is Verdict.FAIL:
            self._fail(failure, trouble, chunk, at_top=at_top)
            return
        self._count_retry(cause)
        self._trouble[position] = trouble
        limit = chunk.piece.limit_bytes
        if verdict is Verdict.RAISE:
            top_limit = max(1, self.top_bytes - self.memory.base_bytes)
            seen = max(failure.peak_bytes, self.memory.peak_bytes_max)
            limit = raised(limit, seen, self.policy.attempts - trouble.blamed, top_limit)
        self._put_back(Piece((position,), (set_index,), limit))

    def _fail(self, failure: Failure, trouble: Trouble, chunk: Outstanding, *, at_top: bool) -> None:
        message = failure.message
        if failure.cause is Cause.OUT_OF_MEMORY:
            where = "the most there is here" if at_top else f"after {trouble.blamed} attempts"
            message = f"needs more than {_mib(chunk.piece.limit_bytes)} (request {_mib(chunk.request_bytes)}, {where}): {message}"
        final = replace(failure, message=message, attempts=trouble.attempts, request_bytes=chunk.request_bytes)
        self.counters.failed += 1
        self.failures.append(final)
        self._failure_guard.failed(final)

    def _count_retry(self, cause: Cause) -> None:
        if cause is Cause.OUT_OF_MEMORY:
            self.counters.oom_retries += 1
        else:
            self.counters.infrastructure_retries += 1

    def _on_committed(self, event: PartCommitted) -> None:
        if self.writing is None:
            return
        self.counters.committed += len(self.writing.failures)
        for chunk_id in event.chunk_ids:
            self.counters.committed += len(self._release(chunk_id).piece.positions)
        for failure in event.rejected:
            self.counters.committed -= 1
            self.counters.completed -= 1
            self.counters.failed += 1
            self.failures.append(failure)
            self._failure_guard.failed(failure)
        self._n_commits += 1
        self.writing = None
        self._oldest_unwritten_s = event.now_s if self.unwritten or self.failures else None

    def _on_payload_lost(self, event: PayloadLost) -> None:
        if event.chunk_id in self.unwritten:
            lost = self._release(event.chunk_id)
            self.counters.completed -= len(lost.piece.positions)
            self.counters.infrastructure_retries += 1
            self._put_back(lost.piece)

    def _release(self, chunk_id: int) -> Unwritten:
        written = self.unwritten.pop(chunk_id)
        self.unwritten_bytes -= written.payload_bytes
        return written

    # What to do

    def _decide(self, now_s: float) -> Iterator[Action]:
        self._look_for_the_end(now_s)
        if self._ending is not None:
            yield from self._cancel_all()
        else:
            yield from self._submissions()
        if self.failures:
            self._mark_unwritten(now_s)
        if self._commit_is_due(now_s):
            self.writing = WritePart(tuple(self.unwritten), tuple(self.failures))
            self.failures = []
            yield self.writing
        if finish := self._finish():
            self._finished = True
            yield finish

    def _look_for_the_end(self, now_s: float) -> None:
        if reason := self._failure_guard.reason:
            self._end(Ending.GAVE_UP, reason)
        if self._kills.is_hopeless:
            self._end(
                Ending.GAVE_UP,
                "more than half of the last 200 attempts were killed for lack of memory although they stayed within "
                "their requests; something else uses the memory of the nodes: lower --limit-memory, or free it",
            )
        if (self.outstanding or self.pending.n) and self._progress.is_over(now_s) and not self._may_run_forever:
            self._end(Ending.GAVE_UP, self._no_progress_message(now_s))

    @property
    def _may_run_forever(self) -> bool:
        return self.policy.timeout_s == 0 and bool(self.window.capacity.nodes)

    def _no_progress_message(self, now_s: float) -> str:
        requests = ", ".join(_mib(size) for size in sorted(self.sizes.in_use))
        n_slots = self.window.slots_at(self.typical_request_bytes())
        return (
            f"nothing finished for {self._progress.waited_s(now_s):.0f} s: {len(self.outstanding)} tasks wait or run "
            f"(requests: {requests or 'none'}; {self.policy.cpus:g} CPUs each), {self.pending.n} simulations are pending, "
            f"and the cluster has {len(self.window.capacity.nodes)} nodes with {n_slots} slots; add nodes, lower --memory, "
            "or raise --timeout if a simulation may take that long"
        )

    def _end(self, ending: Ending, message: str) -> None:
        if self._ending is None:
            self._ending = (ending, message)

    def _cancel_all(self) -> Iterator[CancelChunk]:
        for chunk_id in list(self.outstanding):
            self._put_back(self._drop(chunk_id).piece)
            yield CancelChunk(chunk_id)

    def _submissions(self) -> Iterator[SubmitChunk]:
        while self.pending.n and (chosen := self._choose()) is not None:
            choice, limit, request = chosen
            if choice.kind == "fresh" and self.is_probing:
                self.pending.spread(self.policy.probes)
            piece = self.pending.take(choice, self._chunk_size(choice, request), limit)
            for set_index in set(piece.sets):
                if not self.pending.holds(set_index):
                    self.memory.forget(set_index)
            yield self._launch(piece, request)

    def _choose(self) -> tuple[Choice, int, int] | None:
        for choice in self._candidates():
            limit = choice.limit_bytes or self.memory.limit_for(choice.set_index, self.window.plenty_bytes)
            request = self.memory.request_for(limit, self.top_bytes)
            if self._admits(request):
                return choice, limit, request
        return None

    def _candidates(self) -> Iterator[Choice]:
        yield from self.pending.repeats()
        unranked = self.pending.unranked()
        if unranked is not None and unranked.kind == "fresh":
            yield unranked
        yield from self.pending.ranked()
        if unranked is not None and unranked.kind == "begun":
            yield unranked

    def _admits(self, request_bytes: int) -> bool:
        if not self.outstanding:
            return True
        if self._queue.is_held_back(request_bytes):
            return False
        if self.is_probing and len(self.outstanding) >= min(self.policy.probes, self.window.slots_at(request_bytes)):
            return False
        if len(self.outstanding) >= self.window.size_at(min(request_bytes, *self.sizes.in_use)):
            return False
        n_at_least = sum(n for size, n in self.sizes.in_use.items() if size >= request_bytes)
        if n_at_least >= self.window.size_at(request_bytes):
            return False
        expected_bytes = self.unwritten_bytes + (len(self.outstanding) + 1) * self._payload_bytes_mean
        return expected_bytes <= self.window.payload_budget_bytes()

    def _chunk_size(self, choice: Choice, request_bytes: int) -> int:
        if self.policy.chunk is not None:
            return self.policy.chunk
        if self.is_probing:
            return 1
        return chunk_size(
            choice.seconds or self.mean_seconds,
            self._bytes_each,
            self.pending.n,
            self.window.slots_at(request_bytes),
            target_s=self.policy.chunk_target_s,
            target_bytes=_OUTPUT_TARGET_BYTES,
            most=self.policy.chunk_max,
        )

    def _launch(self, piece: Piece, request_bytes: int) -> SubmitChunk:
        chunk_id, self._next_id = self._next_id, self._next_id + 1
        self.outstanding[chunk_id] = Outstanding(piece, request_bytes)
        self.sizes.acquire(request_bytes)
        announce = self.sizes.are_several
        if announce:
            self._queue.join(chunk_id, request_bytes)
        self.counters.request_bytes_max = max(self.counters.request_bytes_max, request_bytes)
        self.counters.outstanding_max = max(self.counters.outstanding_max, len(self.outstanding))
        attempts = tuple(self._trouble[p].attempts + 1 if p in self._trouble else 1 for p in piece.positions)
        return SubmitChunk(chunk_id, piece.positions, attempts, request_bytes, piece.limit_bytes, announce)

    def _drop(self, chunk_id: int) -> Outstanding | None:
        chunk = self.outstanding.pop(chunk_id, None)
        if chunk is not None:
            self.sizes.release(chunk.request_bytes)
            self._queue.end(chunk_id, self.window.slots_at(chunk.request_bytes))
        return chunk

    def _put_back(self, piece: Piece) -> None:
        self.pending.put_back(piece, bin_of(piece.limit_bytes))

    def _commit_is_due(self, now_s: float) -> bool:
        if self.writing is not None or not (self.unwritten or self.failures):
            return False
        is_last = self._last_added and not self.pending.n and not self.outstanding
        if self._ending is not None or is_last or not self._n_commits:
            return True
        if now_s - (self._oldest_unwritten_s or now_s) >= self.policy.commit_every_s:
            return True
        return self.unwritten_bytes >= self.policy.commit_bytes

    def _finish(self) -> Finish | None:
        if self.outstanding or self.unwritten or self.failures or self.writing is not None:
            return None
        if self._ending is not None:
            return Finish(*self._ending)
        if self._last_added and not self.pending.n:
            return Finish(Ending.COMPLETE)
        return None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.0f} MiB"
