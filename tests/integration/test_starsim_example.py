"""The Starsim example, called directly and run on Ray: needs the extra, and several seconds to import it."""

import runpy
from importlib.resources import files

import numpy as np
import pyarrow.compute as pc
import pytest
from support.studies import rows

import modelops_ray as mr

EXAMPLES = files("modelops_ray") / "examples"


@pytest.fixture(scope="module")
def simulate():
    """The model of the example."""
    pytest.importorskip("starsim", reason="the extra starsim is not installed")
    return runpy.run_path(str(EXAMPLES / "starsim_sir.py"))["simulate"]


def columns_of(result):
    """All columns of a result as plain lists."""
    return {(table, name): np.asarray(column).tolist() for table in result for name, column in result[table].items()}


PARAMS = {"beta": 0.08, "dur_inf": 6.0, "n_agents": 1_000, "n_contacts": 4}


def test_a_starsim_epidemic_depends_on_parameters_and_seed_alone(simulate):
    """Neither an earlier simulation nor NumPy's global generator changes it."""
    np.random.seed(1)  # noqa: NPY002
    first = columns_of(simulate(PARAMS, 7))
    other = columns_of(simulate(PARAMS, 8))
    np.random.seed(2)  # noqa: NPY002

    assert first == columns_of(simulate(PARAMS, 7))
    assert first != other


def test_a_starsim_epidemic_adds_up(simulate):
    """Cumulative infections are the sum of the new ones, day by day."""
    result = simulate(PARAMS, 7)

    assert result["incidence"]["new_infections"].cumsum().tolist() == result["cumulative"]["infections"].tolist()
    assert result["cumulative"]["infections"][-1] > 100


def test_a_starsim_simulation_is_silent(simulate, capfd):
    """Thousands of them share one log."""
    simulate(PARAMS, 7)

    assert ("", "") == tuple(capfd.readouterr())


def test_a_seed_that_starsim_cannot_take_is_refused(simulate):
    """Cutting it to 32 bits would make copies of other replicates."""
    with pytest.raises(ValueError, match=r"seeds below 2\*\*32, not 4294967296"):
        simulate(PARAMS, 2**32)


@pytest.mark.long
def test_the_starsim_study_on_ray_gives_what_the_model_gives(place, tmp_path, simulate):
    """Every simulation completes, and every value equals that of a direct call with the same parameters and seed."""
    study = EXAMPLES / "starsim_grid.json"
    ended = place.run(study, tmp_path / "run", limit_memory="4Gi")
    assert (0, 36) == (ended.code, ended.summary["completed"]), ended.stderr
    params = [entry.params for entry in mr.Study.load(study).parameter_sets for _ in range(4)]
    run = mr.open_run(tmp_path / "run")
    for given, row in zip(params, rows(tmp_path / "run"), strict=True):
        assert given == {name: row[f"param_{name}"] for name in given}
        for (name, column), values in columns_of(simulate(given, row["seed"])).items():
            assert values == _of(run.output(name), row["task_id"])[column].to_pylist(), (name, column, given)


def _of(table, task_id):
    """The rows of one simulation."""
    return table.filter(pc.field("task_id") == task_id)
