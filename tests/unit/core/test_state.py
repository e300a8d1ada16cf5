"""What one event leads to: given events, expect actions."""

from __future__ import annotations

from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    Ending,
    Finish,
    Node,
    PartCommitted,
    PayloadLost,
    StopRequested,
    SubmitChunk,
    TasksAdded,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.reasons import TooManyCpus, TooMuchMemory
from modelops_ray.core.report import Cause
from tests.support.decisions import ONE_NODE, begun, finished, killed, of

MIB = 2**20
GIB = 2**30


def test_a_late_report_of_a_dropped_chunk_is_ignored():
    """It was cancelled, and its simulations are elsewhere by now."""
    state, actions = begun(memory_bytes=100 * MIB)
    chunk = of(SubmitChunk, actions)[0]
    state.handle(killed(chunk, Cause.NODE_LOST))
    before = state.counters.completed
    state.handle(finished(chunk))
    assert before == state.counters.completed


def test_a_stop_cancels_what_runs_and_commits_what_finished():
    """Then the run finishes, and the next start goes on."""
    state, actions = begun(memory_bytes=100 * MIB)
    first, *others = of(SubmitChunk, actions)
    [write] = of(WritePart, state.handle(finished(first)))
    cancelled = of(CancelChunk, state.handle(StopRequested(2.0, "Ctrl-C")))
    assert {chunk.chunk_id for chunk in others} <= {action.chunk_id for action in cancelled}
    assert [Finish(Ending.STOPPED, "Ctrl-C")] == state.handle(PartCommitted(3.0, write.chunk_ids))


def test_a_lost_payload_makes_its_simulations_pending_again():
    """Nobody is to blame."""
    state, actions = begun(n=1, memory_bytes=100 * MIB)
    [chunk] = of(SubmitChunk, actions)
    state.handle(finished(chunk))
    state.handle(PayloadLost(2.0, chunk.chunk_id))
    assert (0, 0) == (state.counters.completed, state.counters.failed)


def test_what_no_node_has_is_refused_before_anything_is_submitted():
    """Too many CPUs, or too much memory, with what the largest node has."""
    for policy, reason in (
        ({"cpus": 8.0}, TooManyCpus(8.0, 4.0)),
        ({"memory_bytes": 9 * GIB}, TooMuchMemory(9 * GIB, 128 * MIB, 8 * GIB)),
    ):
        _, actions = begun(**policy)
        assert not of(SubmitChunk, actions)
        assert [Finish(Ending.GAVE_UP, reason)] == of(Finish, actions)


def test_a_chunk_that_no_remaining_node_can_hold_is_cancelled_and_repeated():
    """Its node is gone and did not come back within minutes; it would wait for ever."""
    state, _ = begun(capacity=Capacity((Node(4.0, 8 * GIB), Node(4.0, 64 * GIB))), memory_bytes=20 * GIB)
    actions = state.handle(CapacityChanged(1.0, Capacity((Node(4.0, 32 * GIB),))))
    assert not of(CancelChunk, actions)
    for now_s, is_over in ((2.0, False), (302.0, True)):
        actions = state.handle(CapacityChanged(now_s, Capacity((Node(4.0, 8 * GIB),))))
        assert is_over == bool(of(CancelChunk, actions))


def test_an_empty_rest_finishes_at_once():
    """Everything was done before."""
    state = CheckedRun(Policy())
    state.handle(CapacityChanged(0.0, ONE_NODE))
    assert [Finish(Ending.COMPLETE)] == state.handle(TasksAdded(0.0, (), last=True))
