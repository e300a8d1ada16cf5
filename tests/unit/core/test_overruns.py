"""What is asked for after an overrun: no simulation that fits the largest node fails for memory below it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    Node,
    PartCommitted,
    PayloadLost,
    Segment,
    SubmitChunk,
    TasksAdded,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured

MIB = 2**20
GIB = 2**30
SMALL, LARGE = Node(4.0, 2 * GIB), Node(8.0, 64 * GIB)


class Run:
    """A run whose simulations peak at `peak_bytes` of their position, and are killed a little above their limit.

    Importing the model takes `shared_bytes` of every node, which nobody knows before the first report.
    """

    def __init__(self, n, peak_bytes, capacity, *, shared_bytes=0, n_sets=None, **policy):
        self.peak_bytes, self.shared_bytes = peak_bytes, shared_bytes
        self.state = CheckedRun(Policy(supervised=True, **policy))
        self.chunks = []
        self.limits = {}
        self.tell(CapacityChanged(0.0, capacity))
        each = n // (n_sets or n)
        sets = tuple(Segment(i, i * each, (i + 1) * each) for i in range(n_sets or n))
        self.tell(TasksAdded(0.0, sets, last=True))

    def tell(self, event):
        """Hand an event over and do what follows, but for running chunks."""
        for action in self.state.handle(event):
            if isinstance(action, SubmitChunk):
                self.chunks.append(action)
            elif isinstance(action, CancelChunk):
                self.chunks = [chunk for chunk in self.chunks if chunk.chunk_id != action.chunk_id]
            elif isinstance(action, WritePart):
                self.tell(PartCommitted(event.now_s, action.chunk_ids))

    def run_chunk(self, now_s=1.0):
        """Run the chunk that was submitted first."""
        chunk = self.chunks.pop(0)
        done, failures = [], []
        for position in chunk.positions:
            self.limits.setdefault(position, []).append(chunk.limit_bytes)
            if (peak := self.peak_bytes(position)) <= chunk.limit_bytes:
                done.append(Measured(position, 1.0, peak))
            else:
                used = chunk.limit_bytes + MIB
                failures.append(Failure(position, Cause.OUT_OF_MEMORY, "Killed", "over its limit", peak_bytes=used))
        report = ChunkReport(
            tuple(done), tuple(failures), base_bytes=100 * MIB, child_bytes=30 * MIB, shared_bytes=self.shared_bytes
        )
        self.tell(ChunkFinished(now_s, chunk.chunk_id, report))

    def to_the_end(self):
        """Run chunk after chunk, and tell how many simulations completed and failed."""
        for _ in range(10_000):
            if not self.chunks:
                return self.state.counters.completed, self.state.counters.failed
            self.run_chunk()
        raise AssertionError("it never ended")


@pytest.mark.parametrize("attempts", [2, 3, 5])
@pytest.mark.parametrize(
    "capacity",
    [Capacity((SMALL, LARGE)), Capacity((SMALL,), reachable=(SMALL, LARGE)), Capacity((Node(0.0, GIB), SMALL, LARGE))],
    ids=["both there", "the large one can come", "and one without CPUs"],
)
@pytest.mark.parametrize("options", [{"memory_bytes": GIB}, {}], ids=["declared", "learned"])
def test_what_fits_the_largest_node_completes_though_all_its_attempts_end_before_the_next_look(
    attempts, capacity, options
):
    """What the model's import takes of a small node is no part of what a task of a large one may use."""
    run = Run(1, lambda _: 40 * GIB, capacity, shared_bytes=GIB, attempts=attempts, **options)
    assert (1, 0) == run.to_the_end()


def test_a_simulation_of_nearly_all_that_the_largest_node_has_completes():
    """Beside the worker, its process and the imports nothing is left, and nothing has to be."""
    need = 64 * GIB - GIB - 100 * MIB - 8
    run = Run(3, lambda _: need, Capacity((SMALL, LARGE)), shared_bytes=GIB, memory_bytes=GIB)
    assert (3, 0) == run.to_the_end()
    run = Run(3, lambda _: need + MIB, Capacity((SMALL, LARGE)), shared_bytes=GIB, memory_bytes=GIB)
    assert (0, 3) == run.to_the_end()


def test_an_attempt_with_all_of_what_was_then_the_largest_node_is_not_the_last_where_a_larger_one_came():
    """The budget was spent on what had no chance."""
    run = Run(1, lambda _: 40 * GIB, Capacity((SMALL,)), memory_bytes=GIB, attempts=2)
    run.run_chunk()
    run.tell(CapacityChanged(2.0, Capacity((SMALL, LARGE))))
    assert (1, 0) == run.to_the_end()
    assert 3 == len(run.limits[0])


def test_with_one_attempt_nothing_is_repeated():
    """The user said so."""
    run = Run(2, lambda position: (40 if position else 1) * GIB, Capacity((LARGE,)), memory_bytes=2 * GIB, attempts=1)
    assert (1, 1) == run.to_the_end()
    assert 1 == len(run.limits[1])


def test_a_cap_below_the_need_fails_at_the_cap_with_one_attempt_there():
    """More is not to be had, however large the node."""
    run = Run(1, lambda _: 40 * GIB, Capacity((SMALL, LARGE)), max_memory_bytes=3 * GIB, memory_bytes=GIB)
    assert (0, 1) == run.to_the_end()
    assert 3 * GIB == run.limits[0][-1] == max(run.limits[0])
    assert 1 == run.limits[0].count(3 * GIB)


def test_what_others_turned_out_to_need_is_asked_for_instead_of_all_of_the_largest_node():
    """Two attempts make the second the last one, which would have each simulation wait for all of a node."""
    run = Run(300, lambda _: 273 * MIB, Capacity((LARGE,)), memory_bytes=200 * MIB, attempts=2)
    assert (300, 0) == run.to_the_end()
    all_of_it = sum(max(limits) > 32 * GIB for limits in run.limits.values())
    assert all_of_it <= run.state.dispatch.window.size_at(400 * MIB)
    assert 200 <= sum(max(limits) < GIB for limits in run.limits.values())


def test_one_that_needs_more_than_the_others_still_gets_all_of_the_largest_node():
    """What they needed was no more than a guess of what it needs."""
    run = Run(60, lambda position: 40 * GIB if position == 50 else 273 * MIB, Capacity((SMALL, LARGE)), attempts=2)
    assert (60, 0) == run.to_the_end()


def test_replicates_of_one_set_that_need_very_different_amounts_all_complete():
    """A set is known by its largest replicate, once one is known."""
    run = Run(120, lambda p: 20 * GIB if p % 3 else 50 * MIB, Capacity((SMALL, LARGE)), n_sets=4, shared_bytes=GIB)
    assert (120, 0) == run.to_the_end()


@pytest.mark.parametrize("how", ["node lost", "worker lost", "payload lost", "not reached", "cancelled"])
def test_what_has_to_run_again_through_no_fault_of_its_own_asks_for_what_is_known_by_then(how):
    """It began when nothing was known, with a whole node; the others have told since."""
    run = Run(2000, lambda _: 50 * MIB, Capacity((LARGE,) * 4), chunk=20)
    first = run.chunks.pop(0)
    assert first.limit_bytes > 32 * GIB
    for _ in range(3):
        run.run_chunk()
    done = tuple(Measured(position, 1.0, 50 * MIB) for position in first.positions)
    report = ChunkReport(done, base_bytes=100 * MIB, payload_bytes=1000)
    lost = ChunkFailed(1.0, first.chunk_id, Cause.NODE_LOST, "Died", "it died")
    events = {
        "node lost": [lost],
        "worker lost": [replace(lost, cause=Cause.WORKER_LOST)],
        "payload lost": [ChunkFinished(1.0, first.chunk_id, report), PayloadLost(1.0, first.chunk_id)],
        "not reached": [ChunkFinished(1.0, first.chunk_id, replace(report, completed=done[1:]))],
        "cancelled": [CapacityChanged(now_s, Capacity((Node(4.0, 32 * GIB),))) for now_s in (1.0, 400.0)],
    }
    for event in events[how]:
        run.tell(event)
    assert (2000, 0) == run.to_the_end()
    assert all(run.limits[position][-1] < GIB for position in first.positions if position in run.limits)


@pytest.mark.parametrize(
    ("need_mib", "smallest"),
    [(500, 2 * GIB), (900, 2 * GIB), (1000, 64 * GIB), (3000, 64 * GIB)],
)
def test_a_request_is_a_part_of_the_smallest_node_that_holds_it_beside_what_the_imports_take(need_mib, smallest):
    """One that would fit a small node only without them asks for more than that node has."""
    run = Run(40, lambda _: need_mib * MIB, Capacity((SMALL, LARGE)), shared_bytes=GIB, chunk=1)
    run.to_the_end()
    overhead = run.state.dispatch.memory.overhead
    request = overhead.task_bytes(need_mib * MIB)
    assert smallest == overhead.node_for(request)
    assert request <= smallest
    n_fit = smallest // request
    assert n_fit * (need_mib + 100) * MIB + GIB <= smallest
    assert need_mib * MIB <= overhead.limit_bytes(request)


def test_who_is_killed_within_its_request_on_the_largest_node_is_repeated_there():
    """It did not use what it had: others did, and nothing says that it needs more."""
    run = Run(1, lambda _: GIB, Capacity((SMALL,)), max_memory_bytes=GIB)
    for _ in range(4):
        chunk = run.chunks.pop(0)
        position = chunk.positions[0]
        victim = Failure(position, Cause.OUT_OF_MEMORY, "Killed", "the node is full", peak_bytes=MIB, is_victim=True)
        run.tell(ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), (victim,), base_bytes=2**26)))
    assert (1, 0) == run.to_the_end()


@pytest.mark.parametrize("is_victim", [True, False], ids=["killed for others", "refused at once"])
def test_who_failed_well_within_its_limit_makes_no_replicate_ask_for_more_than_that(is_victim):
    """The limit was not what stopped it."""
    run = Run(30, lambda _: 50 * MIB, Capacity((LARGE,) * 4), n_sets=1, attempts=1)
    chunk = run.chunks.pop(0)
    position = chunk.positions[0]
    assert chunk.limit_bytes > 32 * GIB
    for _ in range(2 if is_victim else 1):
        failure = Failure(position, Cause.OUT_OF_MEMORY, "X", "no", peak_bytes=60 * MIB, is_victim=is_victim)
        run.tell(ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), (failure,), base_bytes=100 * MIB)))
        chunk = next((one for one in run.chunks if position in one.positions), chunk)
        run.chunks = [one for one in run.chunks if position not in one.positions]
    run.to_the_end()
    later = [limits[-1] for position, limits in run.limits.items() if position > 12]
    assert later
    assert max(later) < GIB
