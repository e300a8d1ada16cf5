"""A model that cannot work costs one simulation, and one that is not a function of its seed is told at once."""

import pytest
from support.commands import enter, run_locally, summary_of, write_model, write_study

HEAD = "import numpy as np\n\n\ndef simulate(params, seed):\n"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a study of sixty simulations."""
    folder = enter(monkeypatch, tmp_path / "work")
    write_study(folder, [{"beta": float(at)} for at in range(60)])
    return folder


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("    x = params['beta']\n", "BadOutput: output 'result' is None"),
        (
            "    return {'x': parms['beta']}\n",
            "NameError: name 'parms' is not defined in the first simulation (model.py",
        ),
        (
            "    return {'x': params['betta']}\n",
            "KeyError: 'betta' in the first simulation (model.py line 5), so that no",
        ),
    ],
)
@pytest.mark.parametrize("isolation", ["none", "fork"])
def test_a_plain_error_costs_one_simulation(work, body, told, isolation):
    """Not twenty, and not all; it is kept, and the last line says how to go on."""
    write_model(work, HEAD + body)
    result = run_locally("--out", "run", "--isolation", isolation)

    assert 1 == result.exit_code
    assert (60, 1, 1) == tuple(summary_of(result)[key] for key in ("simulations", "failed", "attempts"))
    assert told in result.stderr
    assert "continue anyway with --max-failures 100%" in result.stderr


def test_an_error_that_depends_on_parameters_costs_no_run(work):
    """The first one may have failed for its own."""
    write_model(
        work, HEAD + "    if params['beta'] < 15:\n        raise ValueError('too small')\n    return {'x': 1}\n"
    )
    result = run_locally()

    assert 3 == result.exit_code
    assert (45, 15) == tuple(summary_of(result)[key] for key in ("completed", "failed"))


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
def test_an_unseeded_generator_is_told_once_with_the_sentence_of_the_leak_check(work, isolation):
    """The results are kept: it may be meant."""
    write_model(work, HEAD + "    return {'out': {'x': np.random.default_rng().random()}}\n")
    result = run_locally("--isolation", isolation)

    assert 0 == result.exit_code
    assert 60 == summary_of(result)["attempts"]
    assert 1 == result.stderr.count(
        "model model.py:simulate is not a function of its parameters and its seed: simulation "
    )
    assert "(column 'x' of output 'out') came out differently in two new processes; seed every" in result.stderr


def test_nothing_is_said_of_a_model_that_is_a_function_of_its_seed(work):
    """What it draws from its seed, or from the global generators, is the same in both processes."""
    write_model(work, HEAD + "    return {'x': np.random.default_rng(seed).random(), 'y': np.random.random()}\n")
    result = run_locally("--isolation", "fork")

    assert 0 == result.exit_code
    assert "not a function" not in result.stderr
