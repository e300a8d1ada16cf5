"""How many simulations a chunk holds."""

from __future__ import annotations

import pytest

from modelops_ray.core.backlog import chunk_size

MIB = 2**20


def size_of_next(seconds, n_pending, **changes):
    """Simulations in the next chunk, on four slots."""
    rules = {"target_s": 1.0, "least_s": 0.05, "target_bytes": 16 * MIB, "most": 2000} | changes
    return chunk_size(seconds, 100.0, n_pending / 4, **rules)


def test_the_last_chunks_shrink_so_that_all_end_together_but_not_below_what_a_task_is_worth():
    """A task costs milliseconds, however little it runs."""
    assert [100, 63, 6, 5, 5] == [size_of_next(0.01, n) for n in (10_000, 1_000, 96, 70, 3)]
    assert [2000, 2000] == [size_of_next(1e-5, n) for n in (100_000, 10)]
    assert 1 == size_of_next(2.0, 8)


def test_the_last_chunks_hold_one_simulation_even_where_two_would_tell_more():
    """What there is to learn is not worth a slot that waits."""
    assert [2, 2, 1] == [size_of_next(2.0, n, target_s=4.0) for n in (80, 20, 16)]


@pytest.mark.parametrize("rule", [{"target_bytes": 300}, {"most": 3}, {"target_s": 0.03}])
def test_no_chunk_is_made_larger_for_being_worth_a_task_than_outputs_time_and_count_allow(rule):
    """Those are bounds of memory and of what is lost with a worker."""
    assert 3 == size_of_next(0.01, 3, **rule)
