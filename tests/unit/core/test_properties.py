"""Random schedules of everything that can go wrong, with every invariant checked after every event."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    Ending,
    Event,
    Finish,
    Node,
    PartCommitted,
    PayloadLost,
    Segment,
    StopRequested,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured

GIB = 2**30


class World:
    """Answers a state's actions by chance, and keeps what became durable."""

    def __init__(self, policy: Policy, n_sets: int, replicates: int, seed: int, *, announce: bool) -> None:
        self.rng = random.Random(seed)
        self.policy = policy
        self.announce = announce
        self.segments = [Segment(i, i * replicates, (i + 1) * replicates) for i in range(n_sets)]
        self.n = n_sets * replicates
        self.committed: dict[int, int] = {}
        self.now_s = 0.0
        self.trouble = self.rng.choice([0.0, 0.1, 0.4])

    def session(self, max_events: int) -> Ending:
        """Run one session until it finishes, stopping it after so many events."""
        done = Ranges.of(self.committed)
        self.state = CheckedRun(self.policy)
        self.alive: dict[int, SubmitChunk] = {}
        self.n_most_alive = 0
        self.writing: WritePart | None = None
        self.finish: Finish | None = None
        self.tell(CapacityChanged(self.now_s, self.capacity()))
        pending = tuple(Segment(s.set_index, *gap) for s in self.segments for gap in done.gaps(s.start, s.stop))
        self.tell(TasksAdded(self.now_s, pending, last=True))
        for count in range(100_000):
            if self.finish is not None:
                return self.finish.ending
            if count == max_events:
                self.tell(StopRequested(self.now_s, "enough"))
            if count > max_events:
                self.trouble = 0.0
            self.tell(self.next_event())
        raise AssertionError("the run never ended")

    def capacity(self) -> Capacity:
        """Some nodes, or none while there is trouble."""
        sizes = [Node(self.rng.choice([1.0, 4.0]), self.rng.choice([1, 4, 16]) * GIB) for _ in range(3)]
        return Capacity(tuple(sizes[: self.rng.randint(0 if self.trouble else 1, 3)]))

    def tell(self, event: Event) -> None:
        """Hand an event over and take note of the actions."""
        for action in self.state.handle(event):
            match action:
                case SubmitChunk():
                    self.alive[action.chunk_id] = action
                    self.n_most_alive = max(self.n_most_alive, len(self.alive))
                case CancelChunk():
                    del self.alive[action.chunk_id]
                case WritePart():
                    assert self.writing is None
                    self.writing = action
                case Finish():
                    self.finish = action

    def next_event(self) -> Event:
        """What happens next, by chance."""
        self.now_s += self.rng.choice([0.0, 0.1, 3.0])
        if self.writing is not None and self.rng.random() < 0.5:
            return self.commit(self.writing)
        if self.rng.random() < self.trouble * 0.1:
            return CapacityChanged(self.now_s, self.capacity())
        if self.state.journal.unwritten and self.writing is None and self.rng.random() < self.trouble * 0.1:
            chunk_id = next(iter(self.state.journal.unwritten))
            self.forget(chunk_id)
            return PayloadLost(self.now_s, chunk_id)
        if not self.alive:
            self.now_s += 5.0
            return Ticked(self.now_s)
        chunk = self.alive[self.rng.choice(sorted(self.alive))]
        if self.announce and self.rng.random() < 0.3:
            return ChunkStarted(self.now_s, chunk.chunk_id)
        del self.alive[chunk.chunk_id]
        return self.fails(chunk) if self.rng.random() < self.trouble else self.finishes(chunk)

    def finishes(self, chunk: SubmitChunk) -> ChunkFinished:
        """A chunk returns, perhaps early, perhaps with failures."""
        reached = chunk.positions[: self.rng.randint(1, len(chunk.positions))]
        completed, failures = [], []
        for position in reached:
            if self.rng.random() < self.trouble * 0.2:
                cause = self.rng.choice([Cause.MODEL_ERROR, Cause.OUT_OF_MEMORY, Cause.TIMEOUT])
                failures.append(Failure(position, cause, "ValueError", "no", peak_bytes=GIB // 2))
            else:
                completed.append(Measured(position, self.rng.random(), self.rng.randrange(GIB)))
        self.results = getattr(self, "results", {}) | {chunk.chunk_id: [m.position for m in completed]}
        report = ChunkReport(tuple(completed), tuple(failures), base_bytes=2**26, payload_bytes=1000)
        return ChunkFinished(self.now_s, chunk.chunk_id, report)

    def fails(self, chunk: SubmitChunk) -> ChunkFailed:
        """A chunk dies."""
        cause = self.rng.choice([Cause.OUT_OF_MEMORY, Cause.CRASHED, Cause.NODE_LOST, Cause.WORKER_LOST])
        used = self.rng.choice([None, chunk.request_bytes // 2, chunk.request_bytes * 2])
        return ChunkFailed(self.now_s, chunk.chunk_id, cause, "Error", "killed", used, self.rng.choice([None, True]))

    def forget(self, chunk_id: int) -> None:
        """Its payload is gone."""
        self.results.pop(chunk_id)

    def commit(self, write: WritePart) -> PartCommitted:
        """Keep what a commit holds, but for what does not fit."""
        self.writing = None
        rejected = []
        for chunk_id in write.chunk_ids:
            for position in self.results.pop(chunk_id):
                if self.rng.random() < self.trouble * 0.05:
                    rejected.append(Failure(position, Cause.BAD_OUTPUT, "BadOutput", "does not fit"))
                else:
                    self.keep(position)
        for failure in write.failures:
            self.keep(failure.position)
        return PartCommitted(self.now_s, write.chunk_ids, tuple(rejected))

    def keep(self, position: int) -> None:
        """A row is durable."""
        self.committed[position] = self.committed.get(position, 0) + 1


def policies() -> Iterator[Policy]:
    """Policies that matter: adapted and fixed, roomy and tight."""
    for window in (None, 1, 5):
        for chunk in (None, 3):
            yield Policy(window=window, chunk=chunk, max_failures=10**9, timeout_s=1e6)
    yield Policy(max_memory_bytes=GIB // 4, max_failures=10**9, attempts=2, timeout_s=1e6)
    yield Policy(memory_bytes=2**20, max_failures=10**9, timeout_s=1e6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    policy=st.sampled_from(list(policies())),
    n_sets=st.integers(1, 12),
    replicates=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    announce=st.booleans(),
    stops=st.lists(st.integers(0, 60), max_size=3),
)
def test_every_simulation_is_committed_once_whatever_happens(policy, n_sets, replicates, seed, announce, stops):
    """Kills, losses, capacity that goes and comes, stops and resumes: nothing lost, nothing twice, every run ends."""
    world = World(policy, n_sets, replicates, seed, announce=announce)
    for max_events in stops:
        world.session(max_events)
    world.trouble = 0.0
    assert Ending.COMPLETE == world.session(10**9)
    assert dict.fromkeys(range(world.n), 1) == world.committed


@pytest.mark.parametrize("seed", range(5))
def test_the_fixed_window_is_never_exceeded(seed):
    """`--window 2` means two, also right after losses and with simulations of every size."""
    world = World(Policy(window=2, max_failures=10**9, timeout_s=1e6), 20, 5, seed, announce=True)
    world.session(10**9)
    assert 2 == world.n_most_alive
