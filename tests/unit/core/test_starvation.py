"""Small requests are held back for a large one that they overtook too often."""

from __future__ import annotations

from modelops_ray.core.starvation import HoldBack

GIB = 2**30


def test_others_are_held_back_for_the_one_that_was_overtaken_too_often():
    """More than two per slot, and until it begins."""
    queue = HoldBack()
    queue.join(1, 8 * GIB)
    for chunk_id in range(2, 7):
        assert not queue.is_held_back(GIB)
        queue.end(chunk_id, 2)
    assert queue.is_held_back(GIB)
    assert not queue.is_held_back(8 * GIB)
    queue.leave(1)
    assert not queue.is_held_back(GIB)
