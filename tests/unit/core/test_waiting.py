"""What waits, and for what: nodes that are away, tasks that fit no node, and losses of what had run for long."""

from __future__ import annotations

from itertools import chain

import pytest

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
    Segment,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Measured

MIB = 2**20
GIB = 2**30


def begun(nodes, n=40, **policy):
    """A state that was fed a study, and the chunks it submitted."""
    state = CheckedRun(Policy(**policy))
    actions = state.handle(CapacityChanged(0.0, Capacity(nodes)))
    actions += state.handle(TasksAdded(0.0, (Segment(0, 0, n),), last=True))
    return state, of(SubmitChunk, actions)


def of(kind, actions):
    """The actions of a kind."""
    return [action for action in actions if isinstance(action, kind)]


def finished(chunk, now_s=1.0, peak_bytes=10 * MIB):
    """A chunk in which everything completed."""
    done = tuple(Measured(position, 1.0, peak_bytes) for position in chunk.positions)
    return ChunkFinished(now_s, chunk.chunk_id, ChunkReport(done, base_bytes=100 * MIB, child_bytes=10 * MIB))


def died(chunk, now_s, cause=Cause.WORKER_LOST, **how):
    """A chunk whose task died."""
    return ChunkFailed(now_s, chunk.chunk_id, cause, "Died", "it died", **how)


def settled(state, actions, now_s):
    """The same actions, and those that follow once what they commit is durable."""
    later = [state.handle(PartCommitted(now_s, write.chunk_ids)) for write in of(WritePart, actions)]
    return [*actions, *chain.from_iterable(later)]


def test_a_task_asks_for_no_more_cpus_than_the_node_has_that_alone_can_hold_its_memory():
    """It is away for a while; what is there has the CPUs for several at a time, and not the memory."""
    small, large = Node(8.0, GIB // 2), Node(1.0, 16 * GIB)
    state, chunks = begun((small, large), supervised=True, max_memory_bytes=800 * MIB)
    state.handle(CapacityChanged(5.0, Capacity((small,))))
    while chunks:
        actions = state.handle(finished(chunks.pop(0), 6.0, peak_bytes=600 * MIB))
        chunks += of(SubmitChunk, actions)
        for chunk in chunks:
            assert any(node.cpus >= chunk.width and node.memory_bytes >= chunk.request_bytes for node in (small, large))
        for write in of(WritePart, actions):
            state.handle(PartCommitted(6.0, write.chunk_ids))
    assert 40 == state.counters.completed


def test_a_task_that_fits_the_memory_of_one_node_and_the_cpus_of_another_is_cancelled():
    """It would wait for ever: there is no node that has both."""
    both, memory, cpus = Node(16.0, 64 * GIB), Node(1.0, 64 * GIB), Node(16.0, GIB)
    state, chunks = begun((both,), n=400, supervised=True, memory_bytes=300 * MIB)
    assert max(chunk.width for chunk in chunks) > 1
    assert not of(CancelChunk, state.handle(CapacityChanged(5.0, Capacity((memory, cpus)))))
    actions = state.handle(CapacityChanged(400.0, Capacity((memory, cpus))))
    wide = {chunk.chunk_id for chunk in chunks if chunk.width > 1 and chunk.request_bytes > GIB}
    assert wide
    assert wide == {action.chunk_id for action in of(CancelChunk, actions)}
    assert all(chunk.width == 1 or chunk.request_bytes <= GIB for chunk in of(SubmitChunk, actions))


@pytest.mark.parametrize("spare_mib", [100, 110, 127])
def test_memory_is_not_refused_for_what_a_worker_is_only_guessed_to_take(spare_mib):
    """The first report tells; until then the whole node is given."""
    state, chunks = begun((Node(4.0, 8 * GIB),), n=3, memory_bytes=8 * GIB - spare_mib * MIB, supervised=True)
    while chunks:
        assert 8 * GIB == chunks[0].request_bytes
        chunks += of(SubmitChunk, state.handle(finished(chunks.pop(0), peak_bytes=7 * GIB)))
        assert not of(Finish, state.handle(CapacityChanged(5.0, Capacity((Node(4.0, 8 * GIB),)))))
    assert 3 == state.counters.completed


def test_simulations_that_fail_for_good_one_after_the_other_are_progress():
    """Each has its row, although no task returns."""
    state, chunks = begun((Node(1.0, GIB),), n=30, memory_bytes=900 * MIB, timeout_s=10.0, chunk=1, attempts=1)
    now_s = 0.0
    while chunks:
        now_s += 100.0
        actions = state.handle(died(chunks.pop(0), now_s, Cause.OUT_OF_MEMORY, used_bytes=2 * GIB))
        assert not state.is_ending
        chunks += of(SubmitChunk, actions)
        for write in of(WritePart, actions):
            chunks += of(SubmitChunk, state.handle(PartCommitted(now_s, write.chunk_ids)))
    assert 30 == state.counters.failed


def test_what_was_lost_after_a_long_time_has_the_time_to_run_again():
    """A limit of 600 s allows for 900 s in which nothing finishes, and it began anew after 500."""
    state, [chunk] = begun((Node(1.0, GIB),), n=1, memory_bytes=100 * MIB, timeout_s=600.0)
    state.handle(Ticked(0.0))
    [again] = of(SubmitChunk, state.handle(died(chunk, 500.0)))
    assert not of(Finish, settled(state, state.handle(Ticked(1050.0)), 1051.0))
    actions = state.handle(finished(again, 1099.0))
    assert 1 == state.counters.completed
    assert of(WritePart, actions)


def test_what_is_lost_again_and_again_ends_the_run():
    """Every loss is waited for a few times, and not for ever."""
    state, [chunk] = begun((Node(1.0, GIB),), n=1, memory_bytes=100 * MIB, timeout_s=600.0, attempts=1000)
    state.handle(Ticked(0.0))
    now_s = 0.0
    while now_s < 10_000.0 and not state.is_ending:
        now_s += 500.0
        actions = settled(state, state.handle(died(chunk, now_s)), now_s)
        [chunk] = of(SubmitChunk, actions) or [chunk]
    assert 2000.0 <= now_s <= 4000.0
    assert [Ending.GAVE_UP] == [finish.ending for finish in of(Finish, actions)]


@pytest.mark.parametrize("bound", [{"window": 1}, {"window": 2}, {"payload_budget_bytes": 8 * MIB}])
def test_what_waits_for_a_node_that_is_away_leaves_a_place_for_what_can_run(bound):
    """Where little may be in flight, all that is there would idle."""
    small, large = Node(2.0, 8 * GIB), Node(2.0, 64 * GIB)
    state = CheckedRun(Policy(memory_bytes=GIB, chunk=1, payload_budget_per_node_bytes=0, **bound))
    state.handle(CapacityChanged(0.0, Capacity((small,), reachable=(small, large))))
    chunks = of(SubmitChunk, state.handle(TasksAdded(0.0, (Segment(0, 0, 1), Segment(1, 1, 20)), last=True)))
    n_runs = 0
    while runs := [chunk for chunk in chunks if chunk.request_bytes <= 8 * GIB]:
        chunks.remove(runs[0])
        n_runs += 1
        if 0 in runs[0].positions:
            event = died(runs[0], 1.0, Cause.OUT_OF_MEMORY, used_bytes=20 * GIB)
        else:
            report = ChunkReport((Measured(runs[0].positions[0], 1.0, MIB),), base_bytes=2**26, payload_bytes=6 * MIB)
            event = ChunkFinished(1.0, runs[0].chunk_id, report)
        actions = state.handle(event)
        chunks += of(SubmitChunk, actions)
        for write in of(WritePart, actions):
            chunks += of(SubmitChunk, state.handle(PartCommitted(1.0, write.chunk_ids)))
    assert (20, 19) == (n_runs, state.counters.completed)
    assert [(0,)] == [chunk.positions for chunk in chunks]


def test_to_find_out_which_of_many_kills_its_task_is_progress():
    """Every death halves what it may have been, however long that takes."""
    state, [chunk] = begun((Node(1.0, 8 * GIB),), n=64, memory_bytes=GIB, timeout_s=600.0, chunk=64, window=1)
    chunks, now_s, n_deaths = [chunk], 0.0, 0
    while chunks:
        chunk, now_s = chunks.pop(0), now_s + 400.0
        is_bad = 17 in chunk.positions
        n_deaths += is_bad
        event = died(chunk, now_s, Cause.CRASHED, kernel_killed=False) if is_bad else finished(chunk, now_s)
        actions = state.handle(event)
        chunks += of(SubmitChunk, actions)
        for write in of(WritePart, actions):
            chunks += of(SubmitChunk, state.handle(PartCommitted(now_s, write.chunk_ids)))
        assert not state.is_ending
    assert (63, 1) == (state.counters.completed, state.counters.failed)
    assert 6 + 5 == n_deaths


def test_tasks_of_several_that_are_killed_for_what_they_use_do_not_say_that_others_use_the_memory():
    """They were over their request."""
    state, chunks = begun((Node(8.0, 8 * GIB),), n=1000, memory_bytes=GIB, chunk=2, attempts=1, max_failures=10**9)
    while chunks:
        actions = state.handle(died(chunks.pop(0), 1.0, Cause.OUT_OF_MEMORY, used_bytes=9 * GIB))
        chunks += of(SubmitChunk, actions)
        for write in of(WritePart, actions):
            chunks += of(SubmitChunk, state.handle(PartCommitted(1.0, write.chunk_ids)))
        assert not state.is_ending
    assert 1000 == state.counters.failed
