"""A few parameter sets stand for all: the corners and every level are among them, and no axis of a grid can hide."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.ranges import Ranges
from modelops_ray.study.sample import sample_positions, sample_sets
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

AXES = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.integers(-9, 9) | st.floats(-9, 9, allow_nan=False), min_size=1, max_size=7, unique=True),
    min_size=1,
)


def grid(axes):
    """All combinations, the last axis fastest."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def study_of(sets, replicates=1):
    """The simulations of a study of these sets."""
    document = {"model": "m.py:f", "scenario": "s", "n_replicates": replicates}
    return Simulations(Study.from_dict(document | {"parameter_sets": [{"params": one} for one in sets]}, source="s"))


@given(AXES, st.integers(1, 80), st.text(max_size=3))
def test_a_sample_is_of_the_size_asked_for_of_different_sets_and_the_same_for_the_same_seed(axes, n, seed):
    """However many there are."""
    sets = grid(axes)
    chosen = sample_sets(sets, n, seed)

    assert min(n, len(sets)) == len(chosen) == len(set(chosen))
    assert set(chosen) <= set(range(len(sets)))
    assert chosen == sample_sets(sets, n, seed)


@given(AXES, st.text(max_size=3))
def test_every_corner_of_a_grid_is_in_a_sample_of_twice_as_many(axes, seed):
    """Where needs are largest as a rule."""
    sets = grid(axes)
    corners = [one for one in sets if all(value in (min(axes[name]), max(axes[name])) for name, value in one.items())]
    chosen = [sets[at] for at in sample_sets(sets, 2 * len(corners), seed)]

    assert all(corner in chosen for corner in corners)


@given(AXES, st.text(max_size=3))
def test_every_level_of_every_parameter_is_in_a_sample_that_has_the_room(axes, seed):
    """Also one in the middle, of which corners have nothing."""
    sets = grid(axes)
    n = 2 * (2 ** len(axes) + sum(map(len, axes.values())))
    chosen = [sets[at] for at in sample_sets(sets, n, seed)]

    assert all({one[name] for one in chosen} == set(levels) for name, levels in axes.items())


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=8, max_size=40, unique=True), st.text(max_size=3))
def test_without_a_grid_the_sample_has_what_is_closest_to_all_least_and_all_most(points, seed):
    """By rank: a design that fills a space has no set in a corner."""
    sets = [{"x": x, "y": y} for x, y in points]
    levels = {name: sorted({one[name] for one in sets}) for name in "xy"}
    places = [
        sum(levels[n].index(one[n]) / max(1, len(levels[n]) - 1) for n in "xy" if len(levels[n]) > 1) for one in sets
    ]
    chosen = [places[at] for at in sample_sets(sets, 2, seed)]

    assert pytest.approx([min(places), max(places)]) == chosen


@pytest.mark.parametrize("n_samples", [16, 64])
@pytest.mark.parametrize("n_levels", [4, 8, 16])
def test_no_axis_of_a_grid_hides_from_a_sample(n_samples, n_levels):
    """Of a stride of 16 sets, the last axis of 4, 8 or 16 shows one level: here a quarter of the sets is large."""
    sets = grid({"beta": range(1024 // n_levels), "large": range(n_levels)})
    large = [sets[at]["large"] % 4 == 2 for at in sample_sets(sets, n_samples, "seed")]

    assert n_samples / 16 <= sum(large) <= n_samples / 2


def test_texts_and_truths_have_levels_too_and_a_set_may_lack_a_name():
    """Some parameters are no numbers."""
    sets = grid({"where": ["north", "south", "west"], "closed": [False, True], "n": [1, 2.5, 10**400]})
    sets.append({"where": "north", "closed": True})

    assert list(range(19)) == sorted(sample_sets(sets, 99, ""))
    assert {"north", "south", "west"} == {sets[at]["where"] for at in sample_sets(sets, 9, "")}


def test_sets_that_are_all_alike_are_drawn_from():
    """There is no corner where nothing differs."""
    assert 3 == len(set(sample_sets([{"n": 1}] * 9, 3, "")))
    assert [] == sample_sets([], 3, "")


def test_simulations_are_of_different_sets_first_and_of_any_replicate():
    """Replicates need about the same."""
    simulations = study_of(grid({"x": range(4), "y": range(3)}), replicates=10)
    chosen = [simulations[at] for at in sample_positions(simulations, 12, "a")]

    assert list(range(12)) == sorted(one.set_index for one in chosen)
    assert len({one.replicate for one in chosen}) > 1
    assert 30 == len(sample_positions(simulations, 30, "a"))
    assert Ranges([(0, 120)]) == sample_positions(simulations, 1000, "a")


def test_simulations_can_be_chosen_among_some():
    """Those that completed, for one."""
    simulations = study_of(grid({"x": range(4), "y": range(3)}), replicates=10)
    some = Ranges([(15, 18), (70, 71), (99, 101)])

    assert some == sample_positions(simulations, 9, "a", some)
    assert 3 == len(chosen := list(sample_positions(simulations, 3, "a", some)))
    assert all(at in some for at in chosen)
    assert 3 == len({simulations[at].set_index for at in chosen})
