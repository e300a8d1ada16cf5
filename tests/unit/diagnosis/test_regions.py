"""The rule that is named is the one by which simulations failed; where there is none, that is said."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelops_ray.diagnosis.regions import by_set, least_digits, regions_of

SIZES = st.sampled_from([60, 100, 200, 1000])


def design(seed, n_sets, names=("beta", "gamma", "delta")):
    """Parameter sets all over the unit cube."""
    drawn = np.random.default_rng(seed).random((len(names), n_sets))
    return dict(zip(names, drawn, strict=True))


def found(parameters, fails, replicates=1):
    """The regions where simulations fail, where a set fails as a whole or not at all."""
    failed = np.asarray(fails).astype(np.int64) * replicates
    return regions_of(parameters, failed, np.full(len(failed), replicates, dtype=np.int64))


def names_of(region):
    """Which comparisons a rule makes."""
    return [(each.name, each.operator) for each in region.conditions]


def assert_holds(regions, fails):
    """One rule says which simulations failed, and which did not."""
    [region] = regions.regions
    assert (sum(fails), sum(fails)) == (region.n_failed, region.n_of)
    assert (0, len(fails) - sum(fails)) == (regions.n_failed, regions.n_of)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n_sets=SIZES, share=st.floats(0.08, 0.9), upper=st.booleans())
def test_a_half_space_is_one_comparison(seed, n_sets, share, upper):
    """With a threshold between the last that failed and the first that did not."""
    parameters = design(seed, n_sets)
    fails = parameters["beta"] >= 1 - share if upper else parameters["beta"] <= share
    # Two of sixty are at the end of some parameter by chance.
    assume(3 <= sum(fails) <= n_sets - 3)

    regions = found(parameters, fails)

    assert_holds(regions, fails)
    assert [("beta", ">=" if upper else "<=")] == names_of(regions.regions[0])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n_sets=st.sampled_from([100, 200, 1000]), share=st.floats(0.35, 0.7))
def test_a_corner_is_two_comparisons(seed, n_sets, share):
    """Of two parameters, whichever order they are in."""
    parameters = design(seed, n_sets)
    fails = (parameters["beta"] >= 1 - share) & (parameters["gamma"] <= share)

    regions = found(parameters, fails)

    assert_holds(regions, fails)
    assert [("beta", ">="), ("gamma", "<=")] == names_of(regions.regions[0])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n_sets=st.sampled_from([100, 200, 1000]), low=st.floats(0.1, 0.6))
def test_a_band_has_two_ends(seed, n_sets, low):
    """Of one parameter."""
    parameters = design(seed, n_sets)
    fails = (parameters["delta"] >= low) & (parameters["delta"] <= low + 0.25)

    regions = found(parameters, fails)

    assert_holds(regions, fails)
    assert [("delta", ">="), ("delta", "<=")] == names_of(regions.regions[0])


@pytest.mark.parametrize(("n_sets", "share"), [(40, 0.3), (100, 0.05), (400, 0.05), (1000, 0.3)])
def test_failures_at_random_are_in_no_region(n_sets, share):
    """In fifty studies there is not one in which chance has drawn a region."""
    for seed in range(50):
        fails = np.random.default_rng(seed + 10**6).random(n_sets) < share
        assert () == found(design(seed, n_sets), fails).regions


def test_a_word_or_a_truth_is_compared_too():
    """`!=` where all others fail."""
    words = np.array(["alpha", "delta", "omicron", "none"] * 25, dtype=object)
    truths = np.array([True, False] * 50, dtype=object)
    parameters = {"strain": words, "masks": truths, "beta": np.tile(np.linspace(0, 1, 10), 10)}

    assert "strain == delta: 25 of 25" == str(found(parameters, words == "delta").regions[0])
    assert "strain != none: 75 of 75" == str(found(parameters, words != "none").regions[0])
    assert "masks == true: 50 of 50" == str(found(parameters, truths == True).regions[0])  # noqa: E712 (of an array)


def test_a_threshold_of_a_grid_is_a_value_of_the_grid():
    """And one between drawn numbers has no more digits than it takes."""
    grid = {"beta": np.arange(1, 21) / 100}
    assert "beta >= 0.19: 10 of 10" == str(found(grid, grid["beta"] >= 0.185, replicates=5).regions[0])
    assert "beta == 0.05: 5 of 5" == str(found(grid, np.isclose(grid["beta"], 0.05), replicates=5).regions[0])
    assert 0.19 == least_digits(0.1812, 0.19234)
    assert 0.2 == least_digits(0.19, 0.2)
    assert 48_200 == least_digits(48_190, 48_213)
    assert -0.4 == least_digits(-0.41234, -0.35123)
    assert 0.0 == least_digits(-1.0, 0.0)


@given(low=st.floats(-1e9, 1e9), gap=st.floats(1e-6, 1e9))
def test_a_threshold_is_between_those_that_it_tells_apart(low, gap):
    """Above the one, and not above the other."""
    assert low < least_digits(low, low + gap) <= low + gap


def test_two_regions_are_two_rules():
    """Both ends of a parameter, each with its own count."""
    parameters = design(3, 300)
    beta = parameters["beta"]
    regions = found(parameters, (beta < 0.2) | (beta > 0.8))

    assert [[("beta", "<=")], [("beta", ">=")]] == sorted(map(names_of, regions.regions))
    assert 0 == regions.n_failed


def test_where_some_replicates_fail_the_region_says_how_many():
    """A share of its own, higher than elsewhere."""
    parameters = design(5, 100)
    n_failed = np.where(parameters["gamma"] > 0.6, 3, 0)
    regions = regions_of(parameters, n_failed, np.full(100, 10, dtype=np.int64))

    [region] = regions.regions
    assert [("gamma", ">=")] == names_of(region)
    assert (n_failed.sum(), n_failed.sum() * 10 // 3) == (region.n_failed, region.n_of)


def test_nothing_is_found_where_all_fail_or_none_or_there_is_one_set():
    """There is nothing to tell apart."""
    assert () == found(design(1, 50), np.ones(50)).regions
    assert () == found(design(1, 50), np.zeros(50)).regions
    assert () == found({"beta": np.array([0.5])}, [True]).regions
    assert () == found({}, [True, False]).regions


def test_a_set_without_a_parameter_is_in_no_region_of_it():
    """It has no value that could be compared."""
    values = np.where(np.arange(100) % 2, np.arange(100) / 100, np.nan)
    regions = found({"beta": values}, values > 0.5)

    assert "beta >= 0.51: 25 of 25" == str(regions.regions[0])
    assert 75 == regions.n_of


def test_simulations_are_counted_by_set():
    """In any order of rows."""
    first, n_failed, n_of = by_set(["b", "a", "b", "a", "b"], [True, False, True, False, False])
    assert ([1, 0], [0, 2], [2, 3]) == (first.tolist(), n_failed.tolist(), n_of.tolist())
