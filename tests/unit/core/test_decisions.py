"""Given events, expect actions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    Ending,
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
from modelops_ray.core.forecast import forecast
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.memory import (
    MemoryModel,
    RequestSizes,
    bin_of,
    edge_of,
    with_margin,
)
from modelops_ray.core.overhead import Overhead
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.core.scheduler import Dispatch

MIB = 2**20
GIB = 2**30
ONE_NODE = Capacity((Node(4.0, 8 * GIB),))


def begun(n=8, replicates=1, capacity=ONE_NODE, known_seconds=0.0, **policy):
    """A validated state that was fed a study, and the chunks it submitted."""
    state = CheckedRun(Policy(**policy), known_seconds=known_seconds)
    actions = state.handle(CapacityChanged(0.0, capacity))
    segments = tuple(Segment(i, i * replicates, (i + 1) * replicates) for i in range(n // replicates))
    actions += state.handle(TasksAdded(0.0, segments, last=True))
    return state, actions


def of(kind, actions):
    """The actions of a kind."""
    return [action for action in actions if isinstance(action, kind)]


def finished(chunk, now_s=1.0, peak_bytes=10 * MIB, seconds=1.0, **report):
    """A chunk in which everything completed."""
    done = tuple(Measured(position, seconds, peak_bytes) for position in chunk.positions)
    return ChunkFinished(now_s, chunk.chunk_id, ChunkReport(done, base_bytes=64 * MIB, payload_bytes=1000, **report))


def killed(chunk, cause=Cause.OUT_OF_MEMORY, **how):
    """A chunk whose process was killed."""
    return ChunkFailed(1.0, chunk.chunk_id, cause, "OutOfMemoryError", "killed", **how)


def test_a_study_begins_with_probes_that_ask_for_a_quarter_of_the_machine():
    """Nothing is known yet, so a few simulations get plenty and everything else waits for them."""
    _, actions = begun()
    chunks = of(SubmitChunk, actions)
    assert [(1,)] * 4 == [chunk.attempts for chunk in chunks]
    assert {2 * GIB} == {chunk.request_bytes for chunk in chunks}


@pytest.mark.parametrize(
    ("nodes", "request_bytes", "n"),
    [
        ((Node(8.0, 8 * GIB),), 2 * GIB, 4),
        ((Node(2.0, 8 * GIB),), 4 * GIB, 2),
        ((Node(4.0, 4 * GIB),) * 2, 2 * GIB, 4),
        ((Node(1.0, 4 * GIB),) * 2, 4 * GIB, 2),
        ((Node(4.0, 4 * GIB),) * 3, 2 * GIB, 6),
        ((Node(4.0, 4 * GIB),) * 4, 4 * GIB, 4),
        ((Node(64.0, 64 * GIB), Node(4.0, 4 * GIB)), 4 * GIB, 8),
        ((Node(2.0, 2 * GIB), Node(1.0, 64 * GIB)), GIB, 3),
    ],
    ids=["one", "one of two CPUs", "two", "two of one CPU", "three", "four", "one is large", "few CPUs"],
)
def test_few_nodes_are_divided_so_that_four_probes_run_at_once(nodes, request_bytes, n):
    """A first simulation may take hours, in which a pod that was kept for it alone would idle."""
    state = CheckedRun(Policy())
    state.handle(CapacityChanged(0.0, Capacity(nodes)))
    chunks = of(SubmitChunk, state.handle(TasksAdded(0.0, (Segment(0, 0, 100),), last=True)))
    assert [request_bytes] * n == [chunk.request_bytes for chunk in chunks]


def test_the_first_pod_of_a_cluster_that_scales_is_divided_until_others_come():
    """What could come runs nothing now, and asks for no more room than what is there."""
    state, pod = CheckedRun(Policy()), Node(4.0, 4 * GIB)
    state.handle(CapacityChanged(0.0, Capacity((pod,), reachable=(pod,) * 20)))
    chunks = of(SubmitChunk, state.handle(TasksAdded(0.0, (Segment(0, 0, 100),), last=True)))
    assert [GIB] * 4 == [chunk.request_bytes for chunk in chunks]


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


def test_first_simulations_begin_above_what_others_overran_until_one_completes():
    """A limit that was not enough for one is not enough for its like; a measured peak says more."""
    model = MemoryModel(None, RequestSizes(12), Overhead(100 * MIB, 10 * MIB, 0))
    assert GIB == model.limit_for(0, GIB)
    model.observe_overrun(2 * GIB)
    model.observe_overrun(GIB // 2)
    assert 2.5 * GIB <= model.limit_for(0, GIB) <= 2.6 * GIB
    model.observe(100 * MIB, 8 * GIB)
    assert model.limit_for(0, GIB) < 200 * MIB
    given = MemoryModel(300 * MIB, RequestSizes(12), Overhead(100 * MIB, 10 * MIB, 0))
    given.observe_overrun(2 * GIB)
    assert 300 * MIB == given.limit_for(0, GIB)


def test_what_fits_on_no_node_makes_no_other_ask_for_all_of_one():
    """One that is too large is one that is too large."""
    state, actions = begun(n=1)
    while chunks := of(SubmitChunk, actions):
        actions = state.handle(killed(chunks[0], used_bytes=chunks[0].request_bytes + MIB))
    assert 1 == state.counters.failed
    assert 2 * GIB < state.dispatch.memory.typical_limit(GIB) < state.dispatch.allocator.top_limit_bytes


def test_memory_that_the_user_gives_needs_no_probes():
    """`--memory` is the first request of every simulation, the worker on top."""
    _, actions = begun(memory_bytes=300 * MIB)
    assert {300 * MIB} == {chunk.limit_bytes for chunk in of(SubmitChunk, actions)}
    assert all(chunk.request_bytes >= 428 * MIB for chunk in of(SubmitChunk, actions))


@pytest.mark.parametrize(
    ("child_life_s", "n"),
    [(0.0, 2), (3.0, 6), (600.0, 9), (None, 2)],
    ids=["each has its own", "short life", "long life", "not known"],
)
def test_a_chunk_lasts_as_long_as_its_process_may_unless_its_first_result_would_wait_too_long(child_life_s, n):
    """A second of work where a process of its own costs little: here two simulations."""
    state, actions = begun(n=2000, replicates=500, memory_bytes=100 * MIB, known_seconds=0.5)
    actions = state.handle(finished(of(SubmitChunk, actions)[0], seconds=0.5, child_life_s=child_life_s))
    assert {n} == {len(chunk.positions) for chunk in of(SubmitChunk, actions)}


def test_chunks_hold_two_simulations_where_it_is_not_known_how_long_a_process_may_live():
    """What the first of a process takes longer shows against the second; a worker that knows is believed."""
    state, actions = begun(n=2000, replicates=500, memory_bytes=100 * MIB, known_seconds=3.0)
    first, second, third, *_ = of(SubmitChunk, actions)
    assert 1 == len(first.positions)
    for chunk, child_life_s, n in ((first, None, 2), (second, 5.0, 1), (third, None, 1)):
        [more] = of(SubmitChunk, state.handle(finished(chunk, seconds=3.0, child_life_s=child_life_s)))
        assert n == len(more.positions)


def test_a_chunk_that_takes_longer_than_it_was_planned_for_gives_the_rest_back():
    """Of sets that are not known yet one may take a thousand times the mean, and others would wait for its chunk."""
    _, actions = begun(n=2000, replicates=500, memory_bytes=100 * MIB, known_seconds=0.01)
    assert {1.5} == {chunk.enough_s for chunk in of(SubmitChunk, actions)}
    _, actions = begun(n=2000, memory_bytes=100 * MIB, known_seconds=0.01, chunk=100)
    assert {math.inf} == {chunk.enough_s for chunk in of(SubmitChunk, actions)}


def test_sets_that_hardly_differ_in_memory_are_taken_by_time_the_longest_first():
    """Their tasks declare nearly the same, and a long one that is left for the end has every other slot wait."""
    state, actions = begun(n=40, replicates=4, capacity=Capacity((Node(1.0, 8 * GIB),)))
    order = []
    while chunks := of(SubmitChunk, actions):
        actions = []
        for chunk in chunks:
            index = chunk.positions[0] // 4
            order += [position // 4 for position in chunk.positions]
            peak_bytes = (10 + 3 * index % 5) * MIB
            actions += state.handle(finished(chunk, peak_bytes=peak_bytes, seconds=2.0 + index))
    later = list(dict.fromkeys(order[10:]))
    assert later[2:] == sorted(later[2:], reverse=True)


def test_an_overrun_is_repeated_first_and_with_at_least_half_as_much_again():
    """Seen above its request, a simulation is to blame and asks for more."""
    state, actions = begun(n=1, memory_bytes=200 * MIB)
    chunk = of(SubmitChunk, actions)[0]
    again = of(SubmitChunk, state.handle(killed(chunk, used_bytes=chunk.request_bytes + 1)))[0]
    assert chunk.positions == again.positions
    assert again.limit_bytes >= 300 * MIB
    assert (2,) == again.attempts


def test_the_victim_is_repeated_as_it_was_and_once_only():
    """Killed within its request, a simulation keeps its request; seen again, it is taken for the culprit."""
    state, actions = begun(n=1, memory_bytes=200 * MIB)
    chunk = of(SubmitChunk, actions)[0]
    again = of(SubmitChunk, state.handle(killed(chunk, used_bytes=1)))[0]
    assert (chunk.positions, chunk.limit_bytes) == (again.positions, again.limit_bytes)
    third = of(SubmitChunk, state.handle(killed(again, used_bytes=1)))[0]
    assert third.limit_bytes >= 300 * MIB


def test_an_overrun_at_the_largest_node_is_a_failure_that_says_how_much_it_wanted():
    """There is nothing larger to ask for."""
    state, actions = begun(n=1, memory_bytes=7 * GIB)
    for _ in range(5):
        chunks = of(SubmitChunk, actions)
        if not chunks:
            break
        actions = state.handle(killed(chunks[0], used_bytes=chunks[0].request_bytes + 1))
    failure = of(WritePart, actions)[0].failures[0]
    assert Cause.OUT_OF_MEMORY == failure.cause
    assert "needs more than" in failure.message
    assert "the most there is here" in failure.message


def test_several_simulations_killed_together_are_tried_in_halves():
    """Whose fault it was cannot be told."""
    state, actions = begun(n=8, memory_bytes=100 * MIB, chunk=8)
    chunk = of(SubmitChunk, actions)[0]
    halves = of(SubmitChunk, state.handle(killed(chunk, Cause.CRASHED)))
    assert [chunk.positions[:4], chunk.positions[4:]] == [half.positions for half in halves]


def test_a_lost_node_costs_nothing_while_others_progress():
    """Twenty losses in a row do not make a failure."""
    state, actions = begun(n=4, memory_bytes=100 * MIB, attempts=2)
    chunk = of(SubmitChunk, actions)[0]
    for _ in range(20):
        chunk = of(SubmitChunk, state.handle(killed(chunk, Cause.NODE_LOST)))[0]
    assert (0, 20) == (state.counters.failed, state.counters.infrastructure_retries)


def test_a_crash_that_the_kernel_did_not_cause_keeps_its_request_and_spends_the_budget():
    """A segmentation fault does not need more memory."""
    state, actions = begun(n=1, memory_bytes=100 * MIB, attempts=3)
    for _ in range(3):
        chunk = of(SubmitChunk, actions)[0]
        assert 100 * MIB == chunk.limit_bytes
        actions = state.handle(killed(chunk, Cause.CRASHED, kernel_killed=False))
    assert [Cause.CRASHED] == [failure.cause for failure in of(WritePart, actions)[0].failures]


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


def test_a_lost_payload_makes_its_simulations_pending_again():
    """Nobody is to blame."""
    state, actions = begun(n=1, memory_bytes=100 * MIB)
    [chunk] = of(SubmitChunk, actions)
    state.handle(finished(chunk))
    state.handle(PayloadLost(2.0, chunk.chunk_id))
    assert (0, 0) == (state.counters.completed, state.counters.failed)


def test_what_no_node_has_is_refused_before_anything_is_submitted():
    """Too many CPUs, or too much memory, named with the option and the largest node."""
    for policy, option in (({"cpus": 8.0}, "--cpus 8"), ({"memory_bytes": 9 * GIB}, "--memory")):
        _, actions = begun(**policy)
        assert not of(SubmitChunk, actions)
        [finish] = of(Finish, actions)
        assert Ending.GAVE_UP == finish.ending
        assert option in finish.message


def test_a_chunk_that_no_remaining_node_can_hold_is_cancelled_and_repeated():
    """Its node is gone and did not come back within minutes; it would wait for ever."""
    state, _ = begun(capacity=Capacity((Node(4.0, 8 * GIB), Node(4.0, 64 * GIB))), memory_bytes=20 * GIB)
    actions = state.handle(CapacityChanged(1.0, Capacity((Node(4.0, 32 * GIB),))))
    assert not of(CancelChunk, actions)
    for now_s, is_over in ((2.0, False), (302.0, True)):
        actions = state.handle(CapacityChanged(now_s, Capacity((Node(4.0, 8 * GIB),))))
        assert is_over == bool(of(CancelChunk, actions))


def test_a_large_node_that_restarts_ends_nothing():
    """What only it can hold waits for it, and what it had is no less than before."""
    both, small = Capacity((Node(4.0, 8 * GIB), Node(8.0, 64 * GIB))), Capacity((Node(4.0, 8 * GIB),))
    state, _ = begun(capacity=both, memory_bytes=20 * GIB, cpus=6.0)
    for now_s, capacity in ((1.0, small), (200.0, small), (201.0, both), (250.0, small), (501.0, both)):
        assert [] == state.handle(CapacityChanged(now_s, capacity))


def test_a_node_that_no_request_fits_makes_none_larger():
    """A head with little memory joins; shares of what the others have in common stay what they were."""
    large = Node(4.0, 8 * GIB)
    shared = {"known_worker_bytes": 100 * MIB, "known_child_bytes": 10 * MIB, "known_shared_bytes": GIB}
    state, actions = begun(capacity=Capacity((large,)), memory_bytes=5 * GIB, **shared)
    assert of(SubmitChunk, actions)
    assert not state.handle(CapacityChanged(1.0, Capacity((Node(1.0, 2 * GIB), large))))
    assert not state.is_ending


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


@given(
    cpus=st.integers(1, 64),
    gib=st.integers(1, 32),
    cap_mib=st.none() | st.integers(60, 2000),
    peak_mib=st.integers(1, 50),
)
def test_a_task_of_several_leaves_each_what_it_was_measured_to_need(cpus, gib, cap_mib, peak_mib):
    """Neither the cap nor the size of a node is shared among them."""
    node, cap = Node(float(cpus), gib * GIB), None if cap_mib is None else cap_mib * MIB
    state, actions = begun(n=400, capacity=Capacity((node,)), max_memory_bytes=cap, supervised=True)
    queue = of(SubmitChunk, actions)
    for _ in range(60):
        if not queue:
            break
        chunk = queue.pop(0)
        assert cap is None or chunk.limit_bytes <= cap
        assert chunk.limit_bytes > peak_mib * MIB or chunk.request_bytes >= node.memory_bytes
        queue += of(SubmitChunk, state.handle(finished(chunk, peak_bytes=peak_mib * MIB)))


def test_nothing_moving_ends_the_run_with_what_it_waited_for():
    """Chunks, requests, capacity and the knob stand in the sentence."""
    state, _ = begun(memory_bytes=100 * MIB, timeout_s=10.0)
    assert not of(Finish, state.handle(Ticked(599.0)))
    [finish] = of(Finish, state.handle(Ticked(601.0)))
    assert Ending.GAVE_UP == finish.ending
    for word in ("nothing finished for 601 s", "tasks wait", "MiB", "1 nodes", "--memory", "--timeout"):
        assert word in finish.message


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
    assert finish.message.startswith("nothing could be committed for 60")


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


def test_two_simulations_that_kill_their_workers_do_not_keep_each_other_free_of_blame():
    """Nothing else is left that could make progress."""
    state, actions = begun(n=4, supervised=True, memory_bytes=100 * MIB, attempts=3)
    first, second, *others = of(SubmitChunk, actions)
    queue = [first, second]
    for chunk in others:
        state.handle(finished(chunk))
    for _ in range(20):
        if not queue:
            break
        queue += of(SubmitChunk, state.handle(killed(queue.pop(0), Cause.CRASHED)))
    assert (2, 2) == (state.counters.failed, state.counters.completed)


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


def test_what_earlier_runs_knew_of_a_worker_gives_way_to_what_is_measured():
    """They may have started an interpreter for every simulation."""
    overhead = Overhead(100 * MIB, 174 * MIB, 0)
    overhead.observe(ChunkReport((), base_bytes=90 * MIB, child_bytes=10 * MIB, shared_bytes=200 * MIB))
    assert (80 * MIB, 10 * MIB, 200 * MIB) == (overhead.worker_bytes, overhead.child_bytes, overhead.shared_bytes)


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


@pytest.mark.parametrize(
    ("cause", "error_type", "message", "traceback", "said"),
    [
        (Cause.BAD_OUTPUT, "BadOutput", "output 'r' is None", None, "BadOutput: output 'r' is None in the first"),
        (Cause.TIMEOUT, "Timeout", "it took longer than 2 s", None, "Timeout: it took longer than 2 s in the first"),
        (Cause.CRASHED, "SIGSEGV", "", None, "SIGSEGV in the first"),
        (
            Cause.MODEL_ERROR, "KeyError", "'beta'", 'File "/models/old.py", line 3\n  File "/models/sir.py", line 12',
            "KeyError: 'beta' in the first",
        ),
    ],
)  # fmt: skip
def test_failures_alike_of_any_cause_end_a_run_that_has_no_result(cause, error_type, message, traceback, said):
    """A model that returns nothing, or never ends, is as wrong as one that raises; the sentence says what happened."""
    is_over, n_failed, reason = ended_after(lambda at: Failure(at, cause, error_type, message, traceback))
    assert (True, True) == (is_over, 20 <= n_failed <= 22)
    place = " (sir.py line 12)" if traceback else ""
    told = f"{said} {n_failed} simulations{place}; fix the model, or continue anyway with --max-failures 100%"
    assert told == reason


def test_failures_of_two_causes_are_not_alike():
    """Those that follow may do better."""

    def failure_of(at):
        return Failure(at, Cause.TIMEOUT if at % 2 else Cause.BAD_OUTPUT, "Error", "")

    assert (False, 40) == ended_after(failure_of)[:2]


def test_simulations_that_are_simply_too_large_fail_one_by_one_with_their_size():
    """However many there are: nobody else uses the memory."""
    node = Capacity((Node(1.0, 8 * GIB),))
    state, actions = begun(n=250, memory_bytes=7 * GIB, capacity=node, max_failures=1000, chunk=1)
    queue = of(SubmitChunk, actions)
    while queue:
        chunk = queue.pop(0)
        queue += of(SubmitChunk, state.handle(killed(chunk, used_bytes=chunk.request_bytes + 1)))
    assert (250, False) == (state.counters.failed, state.is_ending)


def test_an_empty_rest_finishes_at_once():
    """Everything was done before."""
    state = CheckedRun(Policy())
    state.handle(CapacityChanged(0.0, ONE_NODE))
    assert [Finish(Ending.COMPLETE)] == state.handle(TasksAdded(0.0, (), last=True))


def test_a_forecast_says_how_many_the_memory_holds_and_how_many_without_a_server():
    """What a model's import takes is there once per node, and not once per simulation; it is shared by all requests."""
    known = {"known_worker_bytes": 100 * MIB, "known_child_bytes": 10 * MIB, "known_shared_bytes": 1000 * MIB}
    dispatch = Dispatch(Policy(**known), known_peaks={bin_of(50 * MIB): 100}, known_seconds=1.0)
    dispatch.update(Capacity((Node(64.0, 8 * GIB),)))
    expected = forecast(dispatch, n_simulations=100, n_sets=10, n_left=100)
    limit = with_margin(edge_of(bin_of(50 * MIB)))
    assert (8 * GIB) // (1100 * MIB + limit) == expected.fit_unshared
    assert 5 * expected.fit_unshared < expected.fit_in_memory <= (8 * GIB - 1000 * MIB) // (10 * MIB + limit)
    assert expected.concurrency <= expected.fit_in_memory
    assert not any(key.startswith("fit_") for key in expected.values())


@pytest.mark.parametrize("cause", [Cause.CRASHED, Cause.OUT_OF_MEMORY])
def test_the_end_of_a_worker_that_only_supervises_costs_a_simulation_nothing(cause):
    """It ran in a process of its own: another worker repeats it with what it had, while others make progress."""
    state, actions = begun(n=4, supervised=True, memory_bytes=100 * MIB, attempts=2, window=10)
    (first, *others) = of(SubmitChunk, actions)
    for now_s in range(1, 6):
        actions = state.handle(ChunkFailed(float(now_s), first.chunk_id, cause, "Killed", "the worker died"))
        (again,) = of(SubmitChunk, actions)
        assert (first.positions, first.request_bytes) == (again.positions, again.request_bytes)
        first = again
    assert others
    assert 0 == state.counters.failed


def test_not_even_a_probe_may_use_more_than_the_cap():
    """It asks for plenty, and plenty ends there."""
    _, actions = begun(n=8, max_memory_bytes=100 * MIB)
    assert {100 * MIB} == {chunk.limit_bytes for chunk in of(SubmitChunk, actions)}


def test_what_an_earlier_run_took_makes_no_chunk_larger():
    """It may have been another machine; nodes that join would find nothing left."""
    state = CheckedRun(Policy(memory_bytes=100 * MIB), known_seconds=1e-5)
    state.handle(CapacityChanged(0.0, ONE_NODE))
    chunks = of(SubmitChunk, state.handle(TasksAdded(0.0, (Segment(0, 0, 64),), last=True)))
    assert 4 == max(len(chunk.positions) for chunk in chunks)
