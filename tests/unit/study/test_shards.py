"""A study splits into shards that are disjoint, complete, even, and the same wherever it is split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import grid

from modelops_ray.config import Shard
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import UsageError
from modelops_ray.study.simulations import Simulations, scope_of, split
from modelops_ray.study.study import Study

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@settings(deadline=None)
@given(SIZES, st.integers(1, 12))
def test_shards_differ_by_at_most_the_largest_parameter_set(sizes, n_shards):
    """No shard waits for another much longer than it must."""
    shards = split(sizes, n_shards)
    loads = np.bincount(shards, weights=sizes, minlength=n_shards)

    assert len(sizes) == len(shards)
    assert max(sizes) >= loads.max() - loads.min()


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(1, 12))
def test_parameter_sets_that_are_added_at_the_end_move_no_other(sizes, more, n_shards):
    """A larger study goes on in the shards it has."""
    assert split(sizes, n_shards).tolist() == split(sizes + more, n_shards)[: len(sizes)].tolist()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 30), st.integers(1, 30))
def test_replicates_that_are_added_to_all_move_no_parameter_set(n_sets, n_shards, before, after):
    """The most usual way to enlarge a study."""
    assert split([before] * n_sets, n_shards).tolist() == split([after] * n_sets, n_shards).tolist()


def test_neighbours_in_a_grid_are_in_different_shards():
    """They take about the same time."""
    assert [0, 1, 2, 0, 1, 2, 0] == split([5] * 7, 3).tolist()


def test_shards_are_disjoint_and_together_the_study():
    """Every simulation is in one of them, with all replicates of its parameter set."""
    sets = [{"params": {"beta": beta}, "seed": seed} for seed, beta in enumerate([1, 2, 1, 3, 4, 1, 5, 2, 2])]
    document = {"model": "m.py:f", "scenario": "s", "parameter_sets": [*sets, sets[0]], "n_replicates": 1}
    simulations = Simulations(Study.from_dict(document, source="study"))
    scopes = [scope_of(simulations, Shard(number, 3)) for number in (1, 2, 3)]

    assert list(range(9)) == sorted(position for scope in scopes for position in scope)
    of_sets = [{simulations[position].param_id for position in scope} for scope in scopes]
    assert 5 == sum(map(len, of_sets)) == len(set.union(*of_sets))


def test_one_shard_is_the_whole_study():
    """The edge."""
    assert Ranges([(0, 20)]) == scope_of(Simulations(grid(4, 5)), Shard(1, 1))


def test_more_shards_than_parameter_sets_are_refused():
    """An empty shard is a mistake in a job, not a success."""
    with pytest.raises(UsageError, match="--shard 2/5: the study has 4 parameter sets, so it splits into at most 4"):
        scope_of(Simulations(grid(4, 5)), Shard(2, 5))


def test_what_a_shard_has_to_do_is_its_parameter_sets_one_by_one():
    """Also where there are many of them."""
    simulations = Simulations(grid(20_000, 1))
    scope = scope_of(simulations, Shard(2, 4))
    segments = list(simulations.segments(scope.complement(len(simulations))))

    assert [(each.start, each.stop) for each in segments] == list(scope.pairs())
    assert [each.set_index for each in segments] == list(range(1, 20_000, 4))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "1-of-4", "a/b", "-1/4", "1/4/2", "", "1/20000"])
def test_a_shard_is_written_as_i_of_n(text):
    """From 1, as people count."""
    with pytest.raises(UsageError, match="must be I/N with I from 1 to N"):
        Shard.parse(text)


def test_a_shard_is_read_and_written():
    """As an option, and as a folder."""
    assert ("2/8", "2-of-8") == (str(Shard.parse(" 2/8")), Shard.parse("2/8").name)
