"""Sets of positions as ranges, against plain sets of integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.ranges import Ranges, runs

POSITIONS = st.sets(st.integers(0, 40))


@given(POSITIONS, POSITIONS)
def test_ranges_unite_and_hold_as_sets_do(left, right):
    """However the positions lie."""
    one, both = Ranges.of(left), Ranges.of(left) | Ranges.of(right)
    assert (sorted(left), len(left)) == (list(one), len(one))
    assert Ranges.of(left | right) == both
    assert [position in left for position in range(42)] == [position in one for position in range(42)]
    assert hash(both) == hash(Ranges.of(left | right))


@given(POSITIONS, st.integers(0, 40), st.integers(0, 40))
def test_gaps_are_what_is_missing_between_two_positions(positions, start, stop):
    """In order, and each as long as it can be."""
    gaps = list(Ranges.of(positions).gaps(start, stop))
    missing = [position for position in range(start, stop) if position not in positions]
    assert list(runs(missing)) == gaps
    assert [position for position in range(stop) if position not in positions] == list(
        Ranges.of(positions).complement(stop)
    )


def test_ranges_that_touch_or_overlap_become_one():
    """So that two equal sets are written alike."""
    assert [(0, 9), (12, 13)] == list(Ranges([(4, 9), (0, 2), (2, 5), (12, 13), (10, 10)]).pairs())


@pytest.mark.parametrize("pair", [(-1, 2), (3, 2)])
def test_what_is_no_range_of_positions_is_refused(pair):
    """A damaged file must not be taken for a small one."""
    with pytest.raises(ValueError, match=r"not a range of positions: \["):
        Ranges([pair])


def test_two_sets_have_in_common_what_is_in_both():
    """Also where the ranges of one are cut by those of the other."""
    assert Ranges([(2, 3), (5, 6), (8, 9)]) == Ranges([(0, 3), (5, 9)]) & Ranges([(2, 4), (5, 6), (8, 20)])
    assert Ranges() == Ranges([(0, 3)]) & Ranges([(3, 5)])
