"""The Starsim example, run directly: needs the extra, and several seconds to import it."""

import runpy
from importlib.resources import files

import numpy as np
import pytest

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
