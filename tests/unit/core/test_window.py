"""How many chunks are submitted at a time: slots of the nodes, and the window above them."""

from __future__ import annotations

import pytest

from modelops_ray.core.events import Node
from modelops_ray.core.window import slots, window_size

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
