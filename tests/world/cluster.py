"""A run on a simulated cluster of unequal nodes that come, go and fail, as a schedule says; in virtual time.

Runs the real decision core, with its invariants on, and the real rule of when a chunk ends. What it leads to is kept
for `verdict`, and every step as a line of the story.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field

from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    Event,
    Finish,
    Node,
    PartCommitted,
    PayloadLost,
    Segment,
    StopRequested,
    SubmitChunk,
    Ticked,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause, ChunkReport, Failure, Follows, Measured
from modelops_ray.runner.executor import TARGET_PAYLOAD_BYTES, TARGET_S
from modelops_ray.runner.holding import Holding
from tests.support.simulated_cluster import Cluster, SimulatedNode, Workload
from tests.world.schedule import MIB, Change, Fate, Happening, Machine, Schedule

LOOK_S = 5.0
TICK_S = 0.2
"""As the driver's."""
DRAINED_S = 60.0
IDLE_S = 120.0
TASK_S = 0.01
NOTICED_S = 1.0
"""After so long a lost node is told of."""


class Endless(AssertionError):  # noqa: N818 (it says what is wrong)
    """The run went on for longer than anything it does could take."""


@dataclass(slots=True)
class Ended:
    """One simulation of a chunk that ended, so long after the chunk began and itself, as a result or a failure."""

    after_s: float
    seconds: float
    position: int
    failure: Failure | None


@dataclass(slots=True)
class Record:
    """What a run came to, over all of its sessions.

    `rows` counts how often each position was committed, `failures` has those that failed for good; `overruns` are
    limits that a simulation itself overran in the last session, and whether they were all there was; `victims` how
    often one was lost or killed for others; `late` and `idle` are sentences. Of attempts that gave no result, by
    position and number, `ended` says as what each ended and with which limit, and `attempts` what was committed of it.
    """

    rows: Counter[int] = field(default_factory=Counter)
    failures: dict[int, Failure] = field(default_factory=dict)
    overruns: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)
    victims: Counter[int] = field(default_factory=Counter)
    ended: dict[tuple[int, int], tuple[Cause, int]] = field(default_factory=dict)
    attempts: dict[tuple[int, int], tuple[Cause, int, Follows]] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)
    n_tries: int = 0
    n_submitted: int = 0
    story: list[str] = field(default_factory=list)

    def attempts_before(self) -> dict[int, int]:
        """How often simulations without a row were attempted in vain, as a session finds it in the table."""
        made: Counter[int] = Counter()
        for position, number in self.attempts:
            made[position] = max(made[position], number)
        return {position: number for position, number in made.items() if position not in self.rows}

    def commit(self, write: WritePart) -> None:
        """Rows of failures and attempts are durable."""
        for failure in write.failures:
            self.rows[failure.position] += 1
            self.failures[failure.position] = failure
        for each in write.attempts:
            for key in zip(each.positions, each.numbers, strict=True):
                assert key not in self.attempts, f"attempt {key} has two rows"
                self.attempts[key] = (each.failure.cause, each.limit_bytes, each.follows)


class World(Cluster):
    """One session of a schedule. `began_s` is when it begins; `record` goes on with that of earlier sessions."""

    def __init__(self, schedule: Schedule, record: Record, began_s: float = 0.0, *, tell: bool = False) -> None:
        policy, done = schedule.policy, Ranges.of(record.rows)
        state = CheckedRun(
            policy,
            known_peaks=schedule.known_peaks,
            known_seconds=schedule.known_seconds,
            n_completed_before=len(record.rows) - len(record.failures),
            attempts_before=record.attempts_before(),
        )
        sims = schedule.simulations
        workload = Workload([one.seconds for one in sims], [one.need_bytes for one in sims], 1)
        machines = [(machine.cpus, machine.memory_bytes) for machine in schedule.machines]
        super().__init__(state, workload, machines, seed=schedule.seed)
        self.schedule, self.record, self.is_told = schedule, record, tell
        self.now_s = began_s
        # What an earlier session knew of them is forgotten.
        record.overruns.clear()
        self._feed = iter([tuple(Segment(s.set_index, *gap) for s in schedule.segments for gap in done.gaps(*s[1:]))])
        self._unwritten: dict[int, tuple[float, list[Ended], float]] = {}
        self._kind_of: dict[int, Machine] = {}
        self._coming: Counter[Machine] = Counter()
        self._idle_since_s: dict[int, float] = {}
        self._n_reports = 0
        self._known_sizes: dict[int, tuple[int, ...]] = {}
        self._stalled_s: float | None = None
        self._most_of_set = {
            position: max(one.need_bytes for one in sims[start:stop])
            for _, start, stop in schedule.segments
            for position in range(start, stop)
        }
        self._ticking = False
        self._submitted: dict[int, tuple[int, int]] = {}

    def play(self) -> Finish:
        """Run the session to its end.

        Raises:
            InvariantError: The core contradicts itself.
            Endless: It does not end.
        """
        for happening in self.schedule.happenings:
            if happening.at_s >= self.now_s:
                self.at(happening.at_s, self._happen, happening)
            else:
                self._happen(happening)
        if self.schedule.stop_s > self.now_s:
            self.at(self.schedule.stop_s, self._stop)
        self._look()
        self._feed_more()
        limit_s = self.now_s + 30_000.0 + 20 * sum(one.seconds for one in self.schedule.simulations)
        while self.finish is None:
            self.now_s, _, what, args = heapq.heappop(self.events)
            if self.now_s > limit_s or self._n_events > 100_000:
                raise Endless(f"still running after {self.now_s:.0f} s and {self._n_events} events")
            what(*args)
        self.record.finishes.append(self.finish)
        return self.finish

    # The cluster

    def capacity(self) -> Capacity:
        """What is there, and what could come."""
        there = [Node(node.cpus, node.memory_bytes) for node in self.nodes if node.is_there]
        more = [
            Node(kind.cpus, kind.memory_bytes)
            for kind in self.schedule.kinds
            for _ in range(kind.most - sum(made is kind for made in self._kind_of.values()))
        ]
        return Capacity(tuple(there), tuple(there + more) if self.schedule.kinds else ())

    def _look(self) -> None:
        self._tell(CapacityChanged(self.now_s, self.capacity()))
        self._scale()
        self._mind_idleness()
        for node in self.nodes:
            self._fill(node)
        self.at(self.now_s + LOOK_S, self._look)

    def _scale(self) -> None:
        for kind in self.schedule.kinds:
            for chunk in self._unplaceable():
                n_made = sum(made is kind for made in self._kind_of.values()) + self._coming[kind]
                fits = kind.cpus >= self._cpus_of(chunk) and kind.memory_bytes >= chunk.request_bytes
                if fits and n_made < kind.most and not self._coming[kind]:
                    self._coming[kind] += 1
                    self.at(self.now_s + self.schedule.scaling_s, self._arrive, kind)
        for index in list(self._kind_of):
            if self.nodes[index].running:
                self._idle_since_s[index] = self.now_s
            elif self.now_s - self._idle_since_s.setdefault(index, self.now_s) > IDLE_S:
                self._note(f"the autoscaler takes node {index} away")
                del self._kind_of[index]
                self._take_away(self.nodes[index])

    def _unplaceable(self) -> list[SubmitChunk]:
        return [chunk for line in self.waiting.values() for chunk in line]

    def _arrive(self, kind: Machine) -> None:
        self._coming[kind] -= 1
        self._join(kind)
        self._kind_of[len(self.nodes) - 1] = kind

    def _join(self, machine: Machine) -> None:
        node = SimulatedNode(len(self.nodes), machine.cpus, machine.memory_bytes)
        self._note(f"node {node.index} comes: {machine.cpus:g} CPUs, {machine.memory_bytes / MIB:,.0f} MiB")
        self.nodes.append(node)
        self._open.append(node)
        self._fill(node)

    def _happen(self, happening: Happening) -> None:
        node = self.nodes[happening.node]
        self._note(f"node {node.index} {happening.what}")
        match happening.what:
            case Change.COMES:
                self._join(happening.machine)
            case Change.DIES:
                self._take_away(node)
            case Change.DRAINS:
                node.free_cpus -= 1000.0
                self.at(self.now_s + DRAINED_S, self._take_away, node)
            case Change.SHRINKS:
                node.free_bytes -= node.memory_bytes - happening.machine.memory_bytes
                node.memory_bytes = happening.machine.memory_bytes

    def _take_away(self, node: SimulatedNode) -> None:
        node.is_there = False
        for chunk_id in sorted(node.running):
            chunk, _ = self.placed.pop(chunk_id)
            lost = ChunkFailed(0.0, chunk_id, Cause.NODE_LOST, "NodeDiedError", "its node died")
            self.at(self.now_s + NOTICED_S, self._failed, chunk, lost)
        node.running.clear()

    def _mind_idleness(self) -> None:
        """Nothing runs for a long time, although what a whole set needs that is pending could be had."""
        nodes = [node for node in self.nodes if node.is_there and node.free_cpus >= self._cpus]
        room = max((self.schedule.room_on(node.memory_bytes) for node in nodes), default=0)
        pending = self.state.dispatch.pending.positions()
        is_stalled = not self.placed and any(self._most_of_set[one] * 1.3 + 64 * MIB < room for one in pending)
        if not is_stalled:
            self._stalled_s = None
            return
        self._stalled_s = self.now_s if self._stalled_s is None else self._stalled_s
        if self.now_s - self._stalled_s > 400.0 and not self.record.idle:
            self.record.idle.append(f"nothing ran from {self._stalled_s:.0f} to {self.now_s:.0f} s although it could")

    # What chunks come to

    def _submit(self, chunk: SubmitChunk) -> None:
        self._note(
            f"chunk {chunk.chunk_id}: {list(chunk.positions)}, request {chunk.request_bytes / MIB:,.1f} MiB, "
            f"limit {chunk.limit_bytes / MIB:,.1f} MiB, width {chunk.width}"
        )
        overhead = self.state.dispatch.memory.overhead
        self._known_sizes[chunk.chunk_id] = () if overhead.is_guess else overhead.node_sizes
        self.record.n_submitted += 1
        numbers = zip(chunk.positions, chunk.attempts, strict=True)
        self._submitted |= {position: (number, chunk.limit_bytes) for position, number in numbers}
        super()._submit(chunk)

    def _begin(self, chunk: SubmitChunk, node: SimulatedNode) -> None:
        self._note(f"chunk {chunk.chunk_id} begins on node {node.index}")
        self._stalled_s = None
        self._require_room(node)
        ended, n_bytes, held_s = self._run(chunk, node)
        lasts_s = ended[-1].after_s if ended else TASK_S
        if self.rng.random() < self.schedule.losses:
            self.at(self.now_s + lasts_s * self.rng.random(), self._fails, chunk, self._loss(chunk))
        elif not self.state.policy.supervised and (killer := next((one for one in ended if _kills(one)), None)):
            self.at(self.now_s + killer.after_s, self._fails, chunk, self._death(chunk, killer))
        else:
            self.at(self.now_s + lasts_s, self._finishes, chunk, ended, n_bytes, held_s)

    def _run(self, chunk: SubmitChunk, node: SimulatedNode) -> tuple[list[Ended], int, float]:
        """Run the simulations of a chunk in as many children as it has slots, until it is enough."""
        holding = Holding(min(TARGET_S, chunk.enough_s))
        todo, ended, n_bytes = deque(zip(chunk.positions, chunk.attempts, strict=True)), [], 0
        running: list[tuple[float, int, Ended]] = []

        def begin(now_s: float) -> None:
            position, attempt = todo.popleft()
            failure, seconds = self._fate(position, attempt, chunk, node)
            one = Ended(now_s + seconds, seconds, position, failure)
            heapq.heappush(running, (one.after_s, position, one))

        while todo and len(running) < chunk.width:
            begin(TASK_S)
        while running:
            now_s, position, one = heapq.heappop(running)
            ended.append(one)
            n_bytes += 0 if one.failure else self.schedule.simulations[position].output_bytes
            holding.ended(now_s, one.seconds)
            if holding.is_enough(now_s) or n_bytes >= TARGET_PAYLOAD_BYTES:
                todo.clear()
            if todo:
                begin(now_s)
        return ended, n_bytes, holding.held_s(ended[-1].after_s)

    def _fate(
        self, position: int, attempt: int, chunk: SubmitChunk, node: SimulatedNode
    ) -> tuple[Failure | None, float]:
        """What a simulation comes to with what it was given on this node, and how long it takes to get there."""
        one, policy = self.schedule.simulations[position], self.state.policy
        killed_at = self._killed_at(one.need_bytes, chunk.limit_bytes, chunk.request_bytes, node)
        if killed_at is not None:
            is_victim = killed_at <= chunk.limit_bytes
            if not policy.supervised:
                is_victim = self._task_bytes(killed_at) <= chunk.request_bytes
            failure = Failure(
                position, Cause.OUT_OF_MEMORY, "Killed", "out of memory", peak_bytes=killed_at, is_victim=is_victim
            )
            return failure, one.seconds * self.rng.uniform(0.3, 1.0)
        match one.fate:
            case Fate.RAISES:
                return Failure(position, Cause.MODEL_ERROR, "ValueError", "no", peak_bytes=one.need_bytes), one.seconds
            case Fate.HANGS:
                return Failure(position, Cause.TIMEOUT, "Timeout", "too long"), policy.timeout_s
            case Fate.CRASHES:
                return Failure(position, Cause.CRASHED, "SIGSEGV", "crashed"), one.seconds
            case Fate.CRASHES_ONCE if attempt == 1:
                return Failure(position, Cause.CRASHED, "SIGSEGV", "crashed"), one.seconds
        return None, one.seconds

    def _killed_at(self, need_bytes: int, limit_bytes: int, request_bytes: int, node: SimulatedNode) -> int | None:
        """How much a simulation used when it was killed for memory; None where it is not."""
        policy, room = self.state.policy, max(1, self.schedule.room_on(node.memory_bytes))
        if need_bytes > room:
            return room
        if policy.supervised:
            hard = limit_bytes if policy.memory_bytes is not None else policy.max_memory_bytes or need_bytes
        else:
            # Its request is all that is known of it, and is no limit to a worker that is larger than was guessed.
            limit_bytes, hard = max(limit_bytes, request_bytes - self._task_bytes(0)), need_bytes
        if need_bytes > hard:
            return min(need_bytes, hard + MIB)
        if need_bytes > limit_bytes and self.rng.random() < self.schedule.kills:
            return self.rng.randint(max(1, limit_bytes + 1), need_bytes)
        return None

    def _task_bytes(self, used_bytes: int) -> int:
        """What a task uses in which one simulation uses this."""
        return self.schedule.worker_bytes + self.schedule.child_bytes + used_bytes

    def _loss(self, chunk: SubmitChunk) -> ChunkFailed:
        cause = self.rng.choice([Cause.WORKER_LOST, Cause.NODE_LOST, Cause.CRASHED, Cause.OUT_OF_MEMORY])
        used = chunk.request_bytes // 2 if cause is Cause.OUT_OF_MEMORY else None
        self.record.victims.update(chunk.positions)
        return ChunkFailed(0.0, chunk.chunk_id, cause, "Lost", "its worker was lost", used, kernel_killed=None)

    def _death(self, chunk: SubmitChunk, killer: Ended) -> ChunkFailed:
        """An unsupervised worker dies with the simulation that it runs; of several, it is not known which."""
        assert killer.failure is not None
        cause, is_victim = killer.failure.cause, killer.failure.is_victim
        self.record.victims.update(p for p in chunk.positions if p != killer.position or is_victim)
        used = None
        if cause is Cause.OUT_OF_MEMORY:
            used = self._task_bytes(killer.failure.peak_bytes)
        return ChunkFailed(0.0, chunk.chunk_id, cause, "Died", "it died", used, kernel_killed=False)

    def _fails(self, chunk: SubmitChunk, event: ChunkFailed) -> None:
        if not self._leave(chunk):
            return
        has_overrun = event.used_bytes is not None and event.used_bytes > chunk.request_bytes
        if has_overrun and len(chunk.positions) == 1:
            self._overran(chunk.positions[0], chunk)
        self._failed(chunk, event)

    def _overran(self, position: int, chunk: SubmitChunk) -> None:
        is_all = chunk.limit_bytes >= self.state.dispatch.allocator.top_limit_bytes
        self.record.overruns.setdefault(position, []).append((chunk.limit_bytes, is_all))

    def _in_vain(self, position: int, cause: Cause) -> None:
        """The attempt of a simulation that was submitted last gave no result."""
        number, limit_bytes = self._submitted[position]
        self.record.ended[position, number] = (cause, limit_bytes)

    def _failed(self, chunk: SubmitChunk, event: ChunkFailed) -> None:
        is_workers = self.state.policy.supervised and event.cause in (Cause.CRASHED, Cause.OUT_OF_MEMORY)
        # What was cancelled meanwhile is no attempt.
        for position in chunk.positions if chunk.chunk_id in self.state.dispatch.outstanding else ():
            self._in_vain(position, Cause.WORKER_LOST if is_workers else event.cause)
        self.record.n_tries += len(chunk.positions)
        self._tell(ChunkFailed(self.now_s, chunk.chunk_id, event.cause, *_rest_of(event)))
        self._go_on()

    def _finishes(self, chunk: SubmitChunk, ended: list[Ended], n_bytes: int, held_s: float) -> None:
        if not self._leave(chunk):
            return
        schedule, sims = self.schedule, self.schedule.simulations
        done = [one for one in ended if one.failure is None]
        self.record.n_tries += len(ended)
        for one in ended:
            if one.failure is not None:
                self._in_vain(one.position, one.failure.cause)
            if one.failure is not None and one.failure.cause is Cause.OUT_OF_MEMORY:
                if one.failure.is_victim:
                    self.record.victims[one.position] += 1
                else:
                    self._overran(one.position, chunk)
        began_s = self.now_s - (ended[-1].after_s if ended else TASK_S)
        # What is written before it, beyond what one commit holds, is written first.
        n_ahead = self.state.journal.unwritten_bytes // self.state.policy.commit_bytes
        allowed_s = 10.0 + max(0.0, held_s - TARGET_S) + n_ahead * schedule.commit_s
        self._unwritten[chunk.chunk_id] = (began_s, done, allowed_s)
        report = ChunkReport(
            tuple(Measured(one.position, sims[one.position].seconds, sims[one.position].need_bytes) for one in done),
            tuple(one.failure for one in ended if one.failure is not None),
            base_bytes=schedule.worker_bytes + schedule.child_bytes,
            child_bytes=schedule.child_bytes,
            shared_bytes=schedule.shared_bytes,
            child_life_s=schedule.child_lives_s[min(self._n_reports, len(schedule.child_lives_s) - 1)],
            payload_bytes=n_bytes,
            held_s=held_s,
        )
        self._n_reports += 1
        self._tell(ChunkFinished(self.now_s, chunk.chunk_id, report))
        self._go_on()

    def _leave(self, chunk: SubmitChunk) -> bool:
        placed = self.placed.pop(chunk.chunk_id, None)
        if placed is not None:
            self._free(placed[1], chunk)
        return placed is not None

    def _go_on(self) -> None:
        if self.finish is None:
            self._feed_more()
        for node in self.nodes:
            if node.is_there:
                self._fill(node)

    def _require_room(self, node: SimulatedNode) -> None:
        """Tasks that were sized for this node leave room on it for what they share."""
        chunks = [self.placed[chunk_id][0] for chunk_id in node.running]
        sizes = {node.memory_bytes}.intersection(*(self._known_sizes[chunk.chunk_id] for chunk in chunks))
        if not sizes or node.memory_bytes < 2 * self.schedule.shared_bytes or node.free_bytes < 0:
            return
        worker, child = self.schedule.worker_bytes, self.schedule.child_bytes
        needed = sum(worker + chunk.width * (child + chunk.limit_bytes) for chunk in chunks)
        if needed + self.schedule.shared_bytes > node.memory_bytes and self.state.policy.memory_bytes is None:
            raise AssertionError(
                f"node {node.index} is promised {needed / MIB:,.0f} MiB and shares "
                f"{self.schedule.shared_bytes / MIB:,.0f} MiB of {node.memory_bytes / MIB:,.0f} MiB"
            )

    # Commits

    def _committed(self, write: WritePart) -> None:
        first_s, last_s = self.schedule.storm_s
        chance = 0.7 if first_s <= self.now_s < last_s else self.schedule.lost_payloads
        kept, rejected = [], []
        for chunk_id in write.chunk_ids:
            began_s, done, allowed_s = self._unwritten.pop(chunk_id)
            if self.rng.random() < chance:
                for one in done:
                    self._in_vain(one.position, Cause.WORKER_LOST)
                self._tell(PayloadLost(self.now_s, chunk_id))
                continue
            kept.append(chunk_id)
            for one in done:
                self._mind_age(one.position, self.now_s - began_s - one.after_s, allowed_s)
                if self.schedule.simulations[one.position].fate is Fate.MISFITS:
                    self._in_vain(one.position, Cause.BAD_OUTPUT)
                    rejected.append(Failure(one.position, Cause.BAD_OUTPUT, "BadOutput", "does not fit"))
                else:
                    self.record.rows[one.position] += 1
        self.record.commit(write)
        self._tell(PartCommitted(self.now_s, tuple(kept), tuple(rejected)))
        self._go_on()

    def _mind_age(self, position: int, age_s: float, allowed_s: float) -> None:
        """Ten seconds, and what the last simulation of its chunk took longer than a chunk may hold the first."""
        if age_s > allowed_s and not self.record.late:
            self.record.late.append(f"simulation {position} was durable after {age_s:.1f} s, allowed {allowed_s:.1f} s")

    # Events and actions

    def _stop(self) -> None:
        self._note("the user stops the run")
        self._tell(StopRequested(self.now_s, "enough"))

    def _tick(self) -> None:
        self._ticking = False
        self._tell(Ticked(self.now_s))

    def _tell(self, event: Event) -> None:
        if self.finish is not None:
            return
        self._n_events += 1
        if self.is_told and not isinstance(event, Ticked):
            self._note(f"{event!s:.400}")
        for action in self.state.handle(event):
            match action:
                case SubmitChunk():
                    self._submit(action)
                case WritePart():
                    self._note(
                        f"a commit of chunks {list(action.chunk_ids)} and {len(action.failures)} failures begins"
                    )
                    self.at(self.now_s + self.schedule.commit_s * self.rng.uniform(0.5, 1.0), self._committed, action)
                case CancelChunk():
                    self._note(f"chunk {action.chunk_id} is cancelled")
                    self._cancel(action.chunk_id)
                case Finish():
                    self._note(f"{action}")
                    self.finish = action
        journal = self.state.journal
        if not self._ticking and not (journal.writing or journal.is_empty):
            self._ticking = True
            age_s = self.now_s - (self.now_s if journal.oldest_s is None else journal.oldest_s)
            self.at(self.now_s + (TICK_S if age_s > 2.0 else 2.0), self._tick)

    def _note(self, text: str) -> None:
        if self.is_told:
            self.record.story.append(f"{self.now_s:9.2f}  {text}")


def _kills(one: Ended) -> bool:
    """Whether it takes an unsupervised worker with it."""
    return one.failure is not None and one.failure.cause in (Cause.CRASHED, Cause.OUT_OF_MEMORY)


def _rest_of(event: ChunkFailed) -> tuple[object, ...]:
    return event.error_type, event.message, event.used_bytes, event.kernel_killed


def play(schedule: Schedule, *, tell: bool = False) -> Record:
    """Play a schedule, session after session until one is not stopped by the user.

    Raises:
        AssertionError: An invariant was violated, or it does not end; `story` is its attribute where it was asked for.
    """
    record, now_s = Record(), 0.0
    try:
        while True:
            world = World(schedule, record, now_s, tell=tell)
            if world.play().reason != "enough":
                return record
            now_s = world.now_s + 1.0
    except AssertionError as error:
        error.story = record.story  # type: ignore[attr-defined]
        raise
