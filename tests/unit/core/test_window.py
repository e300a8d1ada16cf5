"""How many chunks are submitted at a time: slots of the nodes, and the window above them."""

from __future__ import annotations

import pytest

from modelops_ray.core.events import Capacity, CapacityChanged, Node, Segment, SubmitChunk, TasksAdded
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.window import slots, window_size
from tests.support.decisions import of

GIB = 2**30


@pytest.mark.parametrize(
    ("n_slots", "reachable", "expected"), [(0, 0, 1), (4, 4, 9), (4, 100, 150), (0, 10_000, 4000), (8000, 8000, 16_001)]
)
def test_the_window_is_two_per_slot_and_up_to_half_more_than_can_be_reached(n_slots, reachable, expected):
    """The cap bounds what is asked of an autoscaler; slots that are there are kept busy."""
    assert expected == window_size(n_slots, reachable, 4000)


def test_slots_are_bounded_by_memory_and_by_cpus():
    """Node by node."""
    nodes = (Node(8.0, 4 * GIB), Node(2.0, 64 * GIB))
    assert 4 + 2 == slots(nodes, 1.0, GIB)
    assert 2 + 1 == slots(nodes, 2.0, 2 * GIB)


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
