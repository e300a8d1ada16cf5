"""When a run is given up: nothing moves, or everything fails alike."""

from __future__ import annotations

import pytest

from modelops_ray.core.events import (
    Capacity,
    CapacityChanged,
    ChunkFinished,
    Ending,
    Finish,
    PartCommitted,
    PayloadLost,
    Segment,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.guards import KillGuard, Outcome
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.reasons import Lacking, NoProgress
from modelops_ray.core.report import Cause, ChunkReport, Failure
from tests.support.decisions import ONE_NODE, begun, finished, killed, of

MIB = 2**20


def test_nothing_moving_ends_the_run_with_what_it_waited_for():
    """Chunks, requests and capacity are told."""
    state, _ = begun(memory_bytes=100 * MIB, timeout_s=10.0)
    assert not of(Finish, state.handle(Ticked(599.0)))
    [finish] = of(Finish, state.handle(Ticked(601.0)))
    request_bytes = (256 * MIB,)
    expected = NoProgress(Lacking.FINISH, 601.0, 8, request_bytes, cpus=1.0, n_pending=0, n_nodes=1, n_slots=4, said=())
    assert (Ending.GAVE_UP, expected) == (finish.ending, finish.reason)


def test_a_node_that_comes_and_goes_for_ever_ends_the_run():
    """Its return looks like growth every time, and nothing ever comes of it."""
    state, actions = begun(memory_bytes=100 * MIB, timeout_s=10.0)
    for minute in range(1000):
        for chunk in of(SubmitChunk, actions):
            state.handle(killed(chunk, Cause.NODE_LOST))
        state.handle(CapacityChanged(60.0 * minute, Capacity(())))
        actions = state.handle(CapacityChanged(60.0 * minute + 30, ONE_NODE))
        for write in of(WritePart, actions):
            actions += state.handle(PartCommitted(60.0 * minute + 31, write.chunk_ids))
        if state.is_ending:
            break
    assert 100 <= minute <= 102
    [finish] = of(Finish, actions)
    assert (Lacking.COMMIT, 100) == (finish.reason.lacking, finish.reason.for_s // 60)


def test_outputs_that_are_lost_every_time_end_the_run():
    """What finishes and never arrives is no progress."""
    state, actions = begun(n=1, memory_bytes=100 * MIB, timeout_s=10.0)
    for minute in range(1000):
        [chunk] = of(SubmitChunk, actions)
        [write] = of(WritePart, state.handle(finished(chunk, 60.0 * minute)))
        actions = state.handle(PayloadLost(60.0 * minute + 30, chunk.chunk_id))
        actions += state.handle(PartCommitted(60.0 * minute + 31, ()))
        if state.is_ending:
            break
    assert 100 <= minute <= 102
    assert write.chunk_ids


def test_what_earlier_sessions_completed_says_that_the_model_is_not_wrong():
    """The rest may fail alike, and each has its row."""
    state = CheckedRun(Policy(memory_bytes=100 * MIB), n_completed_before=1)
    state.handle(CapacityChanged(0.0, ONE_NODE))
    queue = of(SubmitChunk, state.handle(TasksAdded(0.0, (Segment(0, 0, 40),), last=True)))
    while queue:
        chunk = queue.pop(0)
        failures = tuple(Failure(p, Cause.MODEL_ERROR, "KeyError", "'beta'") for p in chunk.positions)
        queue += of(SubmitChunk, state.handle(ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), failures))))
    assert (40, False) == (state.counters.failed, state.is_ending)


def test_twenty_failures_alike_end_a_run_that_has_no_result():
    """The model is wrong, not the simulations."""
    state, actions = begun(n=40, memory_bytes=100 * MIB)
    queue = of(SubmitChunk, actions)
    while queue:
        chunk = queue.pop(0)
        failures = tuple(Failure(p, Cause.MODEL_ERROR, "KeyError", "'beta'") for p in chunk.positions)
        queue += of(SubmitChunk, state.handle(ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), failures))))
        if state.is_ending:
            break
    assert state.is_ending
    assert 20 <= state.counters.failed <= 22


def ended_after(failure_of, n=40):
    """A run without results in which the failures are these: whether it is given up, after how many, and why."""
    state, actions = begun(n=n, memory_bytes=100 * MIB, attempts=1)
    queue = of(SubmitChunk, actions)
    while queue and not state.is_ending:
        chunk = queue.pop(0)
        failures = tuple(failure_of(p) for p in chunk.positions)
        queue += of(SubmitChunk, state.handle(ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), failures))))
    return state.is_ending, state.counters.failed, state._failures.reason_to_end


@pytest.mark.parametrize("cause", [Cause.BAD_OUTPUT, Cause.TIMEOUT, Cause.CRASHED, Cause.MODEL_ERROR])
def test_failures_alike_of_any_cause_end_a_run_that_has_no_result(cause):
    """A model that returns nothing, or never ends, is as wrong as one that raises; the first failure is told."""
    is_over, n_failed, reason = ended_after(lambda at: Failure(at, cause, "Error", "it failed"))
    assert (True, True) == (is_over, 20 <= n_failed <= 22)
    assert (n_failed, cause, "it failed") == (reason.n_failed, reason.first.cause, reason.first.message)


def test_failures_of_two_causes_are_not_alike():
    """Those that follow may do better."""

    def failure_of(at):
        return Failure(at, Cause.TIMEOUT if at % 2 else Cause.BAD_OUTPUT, "Error", "")

    assert (False, 40) == ended_after(failure_of)[:2]


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
