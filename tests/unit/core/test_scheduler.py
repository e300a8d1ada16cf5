"""What is submitted next, and how much of it in one chunk."""

from __future__ import annotations

import math

import pytest

from modelops_ray.core.events import Capacity, CapacityChanged, Node, Segment, SubmitChunk, TasksAdded
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from tests.support.decisions import ONE_NODE, begun, finished, of

MIB = 2**20
GIB = 2**30


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


def test_what_an_earlier_run_took_makes_no_chunk_larger():
    """It may have been another machine; nodes that join would find nothing left."""
    state = CheckedRun(Policy(memory_bytes=100 * MIB), known_seconds=1e-5)
    state.handle(CapacityChanged(0.0, ONE_NODE))
    chunks = of(SubmitChunk, state.handle(TasksAdded(0.0, (Segment(0, 0, 64),), last=True)))
    assert 4 == max(len(chunk.positions) for chunk in chunks)
