"""The examples of the package are studies that load and models that run."""

import runpy
from importlib.resources import files

import numpy as np
import pytest

from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

EXAMPLES = files("modelops_ray") / "examples"
simulate = runpy.run_path(str(EXAMPLES / "sir.py"))["simulate"]


@pytest.mark.parametrize(
    ("name", "n_simulations", "n_sets"),
    [("sir_grid.json", 80, 16), ("starsim_grid.json", 36, 9), ("incident.json", 12_000, 400)],
)
def test_an_example_study_has_the_size_it_promises(name, n_simulations, n_sets):
    """incident.json is the study of the incident: 20 x 20 sets of 30 replicates."""
    study = Study.load(EXAMPLES / name)
    simulations = Simulations(study)

    assert (n_simulations, n_sets, 0) == (len(simulations), simulations.n_parameter_sets, simulations.repeats)
    assert (EXAMPLES / study.model.split(":")[0]).is_file()


def columns_of(result):
    """All columns of a result as plain lists."""
    return {(table, name): np.asarray(column).tolist() for table in result for name, column in result[table].items()}


def test_an_sir_depends_on_parameters_and_seed_alone():
    """The state of NumPy's global generator plays no part; the seed does, with all of its bits."""
    params = {"beta": 0.05, "gamma": 0.1, "n_agents": 1_000}
    np.random.seed(1)  # noqa: NPY002
    first = columns_of(simulate(params, 2**63 + 1))
    np.random.seed(2)  # noqa: NPY002

    assert first == columns_of(simulate(params, 2**63 + 1))
    assert first != columns_of(simulate(params, 1))


def test_an_sir_counts_everyone_once():
    """A person who was infected was susceptible before, and prevalence never exceeds what incidence brought."""
    result = simulate({"beta": 0.05, "gamma": 0.1, "n_agents": 1_000}, 1)
    infections = 10 + result["incidence"]["new_infections"].cumsum()

    assert infections[-1] == round(1_000 * result["summary"]["attack_rate"])
    assert (result["prevalence"]["infected"] <= infections).all()
    assert result["summary"]["peak_infected"] == result["prevalence"]["infected"].max()


def test_a_more_infectious_sir_infects_more():
    """Below the threshold an epidemic dies out, far above it nearly everyone is reached."""
    rates = [simulate({"beta": beta, "gamma": 0.1}, 1)["summary"]["attack_rate"] for beta in (0.005, 0.02, 0.1)]

    assert rates == sorted(rates)
    assert (True, True) == (rates[0] < 0.05, rates[2] > 0.9)
