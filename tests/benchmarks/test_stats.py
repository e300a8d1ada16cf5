"""What is computed from what was measured."""

import pytest

from benchmarks.stats import per_further, per_second, spread, thinned


def test_a_rate_counts_from_the_first_result_until_the_last_is_kept():
    """Ten seconds of start-up do not count; what was done and never kept does not either."""
    progress = [
        (0.0, 0, 0, 0),
        (10.0, 4, 0, 0),
        (12.0, 20, 0, 0),
        (16.0, 60, 40, 0),
        (22.0, 102, 100, 0),
        (30.0, 102, 100, 0),
    ]
    assert 8.0 == per_second(progress)


@pytest.mark.parametrize("progress", [[], [(0.0, 0, 0, 0)], [(0.0, 0, 0, 0), (5.0, 3, 3, 0)]])
def test_where_nothing_follows_the_first_result_there_is_no_rate(progress):
    """Stuck engines have none."""
    assert per_second(progress) is None


def test_equal_repeats_are_stable():
    """The median and the extremes are said."""
    assert (10.0, 9.9, 10.1, False) == tuple(spread([10.0, 9.9, 10.1]))


@pytest.mark.parametrize("values", [[10.0, 13.0, 8.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.6]])
def test_repeats_that_differ_are_unstable(values):
    """By their sigma, or by one that is half off."""
    assert spread(values).is_unstable


def test_one_repeat_has_no_spread():
    """It is not called unstable for that."""
    assert (3.0, 3.0, 3.0, False) == tuple(spread([3.0]))


def test_what_each_further_one_adds_is_the_slope():
    """A fixed part does not count."""
    assert 7.0 == pytest.approx(per_further([1, 2, 10], [107, 114, 170]))


def test_thinning_keeps_the_first_and_the_last():
    """And no more than was asked for."""
    assert [0, 33, 66, 99] == thinned(range(100), 4)
    assert [1, 2] == thinned([1, 2], 4)
