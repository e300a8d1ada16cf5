"""The distinct simulations of a study: order, seeds, repeats, look-up and memory."""

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.events import Segment
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import StudyError
from modelops_ray.study.identity import derived_seed, param_id
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

BETA = {"beta": 0.08, "dur_inf": 5.0}


def study_of(*sets, n_replicates=1):
    """A study of (params, seed) pairs; None derives the seed."""
    rows = [{"params": params, "seed": seed} for params, seed in sets]
    document = {"model": "m.f", "scenario": "baseline", "parameter_sets": rows, "n_replicates": n_replicates}
    return Study.from_json(json.dumps(document))


def listed(study, seed_policy):
    """What the format says is run, the plain way: (param_id, seed, params) of everything listed, in order."""
    everything, counts, first_seeds = [], {}, {}
    for params, seed in study.parameter_sets:
        identifier = param_id(params)
        seeds = [derived_seed(identifier, i) for i in range(study.n_replicates)] if seed is None else [seed]
        for each in seeds:
            first_seed = first_seeds.setdefault(identifier, each)
            count = counts[identifier] = counts.get(identifier, -1) + 1
            everything.append((identifier, each if seed_policy == "job-file" else first_seed + count, params))
    return everything


params = st.fixed_dictionaries({"x": st.sampled_from([0, 1, 1.0, 0.0, -0.0])})
sets = st.lists(st.tuples(params, st.none() | st.integers(0, 3) | st.just(2**63)), min_size=1, max_size=12)
policies = st.sampled_from(["job-file", "dask-compatible"])


@given(rows=sets, n_replicates=st.integers(1, 3), seed_policy=policies)
def test_every_listed_simulation_exists_once_in_study_order(rows, n_replicates, seed_policy):
    """Positions, sets and replicates count in the order of first mention, however sets and seeds are interleaved."""
    study = study_of(*rows, n_replicates=n_replicates)
    simulations = Simulations(study, seed_policy)
    everything = listed(study, seed_policy)
    distinct = list(dict.fromkeys((identifier, seed) for identifier, seed, _ in everything))
    identifiers = list(dict.fromkeys(identifier for identifier, _ in distinct))

    assert distinct == [(each.param_id, each.seed) for each in simulations]
    assert list(range(len(distinct))) == [each.position for each in simulations]
    assert [identifiers.index(identifier) for identifier, _ in distinct] == [each.set_index for each in simulations]
    assert [sum(other == identifier for other, _ in distinct[:at]) for at, (identifier, _) in enumerate(distinct)] == [
        each.replicate for each in simulations
    ]
    assert (len(identifiers), len(everything) - len(distinct)) == (simulations.n_parameter_sets, simulations.repeats)
    assert all(each.param_id == param_id(each.params) for each in simulations)


@given(rows=sets, n_replicates=st.integers(1, 3), done=st.sets(st.integers(0, 40)))
def test_segments_are_the_maximal_runs_of_what_is_pending(rows, n_replicates, done):
    """Together they are all that is not done; none spans two sets, and no two could be one."""
    simulations = Simulations(study_of(*rows, n_replicates=n_replicates))
    segments = list(simulations.segments(Ranges.of(done)))

    pending = [each.position for each in simulations if each.position not in done]
    assert pending == [position for _, start, stop in segments for position in range(start, stop)]
    assert all(simulations[position].set_index == index for index, *ends in segments for position in range(*ends))
    assert not [a for a, b in pairwise(segments) if (a[0], a[2]) == b[:2]]


@given(rows=sets, n_replicates=st.integers(1, 3), seed_policy=policies)
def test_every_simulation_is_found_by_its_identity(rows, n_replicates, seed_policy):
    """Looking up is the inverse of indexing."""
    simulations = Simulations(study_of(*rows, n_replicates=n_replicates), seed_policy)

    assert list(range(len(simulations))) == [simulations.position_of(each.param_id, each.seed) for each in simulations]


@pytest.mark.parametrize(
    ("identifier", "seed"),
    [(param_id({"x": 1}), 8), (param_id({"x": 1.0}), 7), (param_id({"x": 1})[:-2], 7), ("no id", 7), ("", 7)],
)
def test_what_the_study_does_not_have_is_not_found(identifier, seed):
    """Neither another seed nor another spelling nor half an identifier."""
    simulations = Simulations(study_of(({"x": 1}, 7), ({"x": 2}, 8)))

    assert simulations.position_of(identifier, seed) is None


def test_a_segment_names_its_parameter_set():
    """Two sets of three replicates of which the middle is done are two segments."""
    simulations = Simulations(study_of(({"x": 1}, None), ({"x": 2}, None), n_replicates=3))

    assert [Segment(0, 0, 2), Segment(1, 4, 6)] == list(simulations.segments(Ranges([(2, 4)])))
    assert [] == list(simulations.segments(Ranges([(0, 6)])))


def test_the_same_simulation_listed_twice_exists_once():
    """Repeats are counted; what is left keeps its order."""
    simulations = Simulations(study_of(({"x": 1}, 5), ({"x": 2}, 5), ({"x": 1}, 5), ({"x": 1}, 6)))

    assert (3, 1, 2) == (len(simulations), simulations.repeats, simulations.n_parameter_sets)
    assert [(0, 0, 5), (1, 0, 5), (0, 1, 6)] == [(each.set_index, each.replicate, each.seed) for each in simulations]


def test_the_dask_compatible_policy_runs_consecutive_seeds():
    """What the Dask executor runs where the file says 1329704202, 1178940121, 720726679."""
    study = study_of((BETA, None), n_replicates=3)

    assert [1329704202, 1178940121, 720726679] == [each.seed for each in Simulations(study)]
    assert [1329704202, 1329704203, 1329704204] == [each.seed for each in Simulations(study, "dask-compatible")]


def test_the_dask_compatible_policy_counts_across_interleaved_sets():
    """All simulations with the same parameters are one group, so a repeat is one more seed."""
    study = study_of(({"x": 1}, 50), ({"x": 2}, 9), ({"x": 1}, 50), ({"x": 1}, 3))
    simulations = Simulations(study, "dask-compatible")

    assert ([50, 9, 51, 52], 0) == ([each.seed for each in simulations], simulations.repeats)


def test_a_consecutive_seed_above_64_bits_is_refused():
    """The largest seed can be run once, not followed by another."""
    study = study_of(({"x": 1}, 2**64 - 2), ({"x": 1}, 0), ({"x": 1}, 0))

    with pytest.raises(StudyError, match=r"18446744073709551614 \+ 2 is above 2\^64-1; give a smaller seed") as caught:
        Simulations(study, "dask-compatible")
    assert 1 == len(str(caught.value).splitlines())
    assert 2**64 - 1 == Simulations(study_of(({"x": 1}, 2**64 - 2), ({"x": 1}, 0)), "dask-compatible")[1].seed


def test_seeds_keep_all_of_their_64_bits():
    """Beside a small seed a large one must not become a float."""
    seeds = [2**64 - 1, 0, 2**53 + 1, 2**63]
    simulations = Simulations(study_of(*(({"x": 1}, seed) for seed in seeds)))

    assert seeds == [each.seed for each in simulations]


def test_simulations_are_taken_in_the_order_asked_for():
    """Positions may be any integers, NumPy's too; what comes back is plain Python."""
    simulations = Simulations(study_of(({"x": 1}, None), n_replicates=5))
    taken = simulations.take(np.array([3, 0]))

    assert (simulations[3], simulations[0]) == taken
    assert {int} == {type(value) for each in taken for value in (each.position, each.seed, each.replicate)}


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_out_of_range_is_an_error(position):
    """A negative position is a mistake, not the end."""
    simulations = Simulations(study_of(({"x": 1}, None), n_replicates=5))

    with pytest.raises(IndexError, match=f"position {position} of 5 simulations"):
        simulations[position]


def test_what_a_simulation_receives_keeps_the_spelling_of_the_file():
    """1 stays an integer beside 1.0."""
    simulations = Simulations(study_of(({"x": 1}, 0), ({"x": 1.0}, 0)))

    assert [int, float] == [type(each.params["x"]) for each in simulations]


def bytes_of(study):
    """What the simulations of a study hold beside the study itself."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        simulations = Simulations(study)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(simulations) > 0
    return after - before


def test_a_simulation_costs_at_most_30_bytes():
    """A million simulations are a few arrays of integers, not a million objects."""
    study = Study.grid({"x": range(2_000)}, replicates=100)

    assert bytes_of(study) <= 30 * 200_000


def test_a_parameter_set_costs_at_most_100_bytes_more():
    """That includes its identifier and what finds it again."""
    study = Study.grid({"x": range(20_000)}, replicates=1)

    assert bytes_of(study) <= (30 + 100) * 20_000
