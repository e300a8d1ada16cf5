"""What those outside of the core see of a run."""

from __future__ import annotations

from modelops_ray.core.events import PartCommitted, SubmitChunk, WritePart
from modelops_ray.core.memory import bin_of
from tests.support.decisions import GIB, MIB, ONE_NODE, begun, finished, of


def test_a_view_is_of_one_moment():
    """What happens later does not change it."""
    state, actions = begun(memory_bytes=GIB, chunk=1)
    first, *_ = of(SubmitChunk, actions)
    before = state.view()
    [write] = of(WritePart, state.handle(finished(first, peak_bytes=300 * MIB)))
    state.handle(PartCommitted(2.0, write.chunk_ids))
    after = state.view()
    assert (0, 0, 0) == (before.completed, before.committed, before.peak_bytes_max)
    assert (1, 1, 300 * MIB, 1) == (after.completed, after.committed, after.peak_bytes_max, after.attempts)
    assert (ONE_NODE, first.request_bytes) == (after.capacity, after.request_bytes_max)


def test_no_more_are_said_to_run_than_the_nodes_run_at_once():
    """The rest of what was submitted waits in the cluster's queue."""
    state, _ = begun(n=100, memory_bytes=GIB, chunk=1)
    view = state.view()
    assert (9, 4) == (view.outstanding, view.running)
    assert view.outstanding * view.request_bytes_max == view.requested_bytes


def test_what_was_learned_is_for_later_runs_of_the_model():
    """Peaks by bin, the mean run time, and what a worker took; no time before the first has ended."""
    state, actions = begun(memory_bytes=GIB, chunk=1)
    assert state.learned().mean_seconds is None
    for chunk, seconds in zip(of(SubmitChunk, actions)[:2], (1.0, 3.0), strict=True):
        state.handle(finished(chunk, peak_bytes=300 * MIB, seconds=seconds, child_bytes=10 * MIB))
    learned = state.learned()
    assert ({bin_of(300 * MIB): 2}, 2.0) == (learned.peaks, learned.mean_seconds)
    assert (54 * MIB, 10 * MIB, 0) == (learned.worker_bytes, learned.child_bytes, learned.shared_bytes)
