"""What may be submitted: probes first, and no more than the window, the outputs and those that wait allow."""

from __future__ import annotations

from modelops_ray.core.events import Capacity, ChunkFinished, Node, PartCommitted, SubmitChunk, WritePart
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from tests.support.decisions import begun, finished, killed, of

MIB = 2**20
GIB = 2**30


def test_a_study_begins_with_probes_that_ask_for_a_quarter_of_the_machine():
    """Nothing is known yet, so a few simulations get plenty and everything else waits for them."""
    _, actions = begun()
    chunks = of(SubmitChunk, actions)
    assert [(1,)] * 4 == [chunk.attempts for chunk in chunks]
    assert {2 * GIB} == {chunk.request_bytes for chunk in chunks}


def test_where_a_probe_overran_no_fresh_one_takes_its_place():
    """Its kill leaves a hole, into which the next would go to be killed in turn."""
    state, actions = begun()
    first, second, third, _ = of(SubmitChunk, actions)
    assert [] == of(SubmitChunk, state.handle(killed(first, used_bytes=3 * GIB)))
    assert [] == of(SubmitChunk, state.handle(killed(second, used_bytes=3 * GIB)))
    [repeated] = of(SubmitChunk, state.handle(killed(third, used_bytes=3 * GIB)))
    assert repeated.limit_bytes > 3 * GIB


def test_the_hole_of_a_probe_that_failed_within_its_limit_is_filled():
    """It ran out of something, but not of what it was given: that says nothing of others."""
    state, actions = begun()
    first, *_ = of(SubmitChunk, actions)
    failure = Failure(first.positions[0], Cause.OUT_OF_MEMORY, "MemoryError", "at once", peak_bytes=30 * MIB)
    report = ChunkReport((), (failure,), base_bytes=64 * MIB)
    [fresh] = of(SubmitChunk, state.handle(ChunkFinished(1.0, first.chunk_id, report)))
    assert (2 * GIB, (1,)) == (fresh.request_bytes, fresh.attempts)


def test_memory_that_the_user_gives_needs_no_probes():
    """`--memory` is the first request of every simulation, the worker on top."""
    _, actions = begun(memory_bytes=300 * MIB)
    assert {300 * MIB} == {chunk.limit_bytes for chunk in of(SubmitChunk, actions)}
    assert all(chunk.request_bytes >= 428 * MIB for chunk in of(SubmitChunk, actions))


def test_nobody_is_held_back_for_a_request_that_no_node_can_hold_yet():
    """Its node is still to come, if it comes at all: what fits now goes on."""
    small = (Node(2.0, 8 * GIB),) * 2
    state, actions = begun(n=200, capacity=Capacity(small, (*small, Node(2.0, 64 * GIB))), memory_bytes=GIB, chunk=1)
    queue = of(SubmitChunk, actions)
    first = queue.pop(0)
    queue += of(SubmitChunk, state.handle(killed(first, used_bytes=20 * GIB)))
    while queue:
        chunk = queue.pop(0)
        if chunk.request_bytes < 20 * GIB:
            queue += of(SubmitChunk, state.handle(finished(chunk)))
    assert (0, 1, 199) == (state.dispatch.pending.n, len(state.dispatch.outstanding), state.counters.completed)


def test_failures_of_which_much_is_told_hold_back_what_could_add_to_them_until_they_are_durable():
    """They wait in the same memory as payloads do."""
    budget = {"payload_budget_bytes": 10_000, "payload_budget_per_node_bytes": 0}
    state, actions = begun(n=100, memory_bytes=100 * MIB, chunk=1, window=1, **budget)
    [chunk] = of(SubmitChunk, actions)
    told = Failure(chunk.positions[0], Cause.MODEL_ERROR, "ValueError", "x" * 20_000)
    actions = state.handle(ChunkFinished(1.0, chunk.chunk_id, ChunkReport((), (told,), base_bytes=64 * MIB)))
    assert [[told.position]] == [[one.position for one in part.failures] for part in of(WritePart, actions)]
    assert [] == of(SubmitChunk, actions)
    assert of(SubmitChunk, state.handle(PartCommitted(2.0, ())))


def test_a_failure_that_waits_for_a_commit_keeps_no_cluster_idle():
    """Where outputs are as large as the budget, whatever waits is committed as soon as nothing runs."""
    budget = {"payload_budget_bytes": 10_000, "payload_budget_per_node_bytes": 0}
    state, actions = begun(n=4, memory_bytes=100 * MIB, chunk=1, window=1, **budget)
    [chunk] = of(SubmitChunk, actions)
    done = (Measured(chunk.positions[0], 1.0, 10 * MIB),)
    state.handle(ChunkFinished(1.0, chunk.chunk_id, ChunkReport(done, base_bytes=64 * MIB, payload_bytes=9_990)))
    [chunk] = of(SubmitChunk, state.handle(PartCommitted(2.0, (chunk.chunk_id,))))
    told = Failure(chunk.positions[0], Cause.MODEL_ERROR, "ValueError", "x" * 3_000)
    actions = state.handle(ChunkFinished(3.0, chunk.chunk_id, ChunkReport((), (told,), base_bytes=64 * MIB)))
    assert [[told.position]] == [[one.position for one in part.failures] for part in of(WritePart, actions)]
