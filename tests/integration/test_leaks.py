"""`--check-leaks`: models that keep state between simulations are named, others are left in peace."""

from __future__ import annotations

import pytest

MODEL = '''
"""Remembers, draws from nowhere, or is a function of its parameters and its seed."""

import os

import numpy as np

SEEN = []


def simulate(params, seed):
    SEEN.append(seed)
    rng = np.random.default_rng(seed)
    if params["what"] == "nothing":
        return {}
    extra = {"pure": 0.0, "remembers": float(len(SEEN)), "draws": int.from_bytes(os.urandom(4), "big")}
    x, nested = [float("nan"), rng.random() + extra[params["what"]]], [[float("nan"), None, 1.0], []]
    return {"r": {"day": [0, 1], "x": x, "nested": nested, "whole": [1, seed % 3]}}
'''


@pytest.fixture
def here(place):
    """A place with that model in it."""
    (place.folder / "model.py").write_text(MODEL)
    return place


def check(here, out, what, isolation="reuse", n_sets=1):
    """Run three simulations of each set and check them."""
    study = here.study([{"what": what, "set": i} for i in range(n_sets)], 3)
    return here.run(study, out, "--backend", "local", "--isolation", isolation, "--check-leaks")


def test_a_model_that_keeps_state_is_named_with_a_simulation_and_what_to_do(here, tmp_path):
    """After the results, which stay."""
    ended = check(here, tmp_path / "run", "remembers")
    assert (1, 3) == (ended.code, ended.summary["completed"])
    last = ended.stderr.splitlines()[-1]
    assert "model.py:simulate keeps state between simulations" in last
    assert "column 'x' of output 'r'" in last
    assert "--isolation fresh" in last


def test_a_model_that_is_not_reproducible_is_told_from_one_that_keeps_state(here, tmp_path):
    """Because another level of isolation would not help it."""
    ended = check(here, tmp_path / "run", "draws")
    assert 1 == ended.code
    assert "is not a function of its parameters and its seed" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("what", "isolation", "n_sets", "n_checked"),
    [
        ("pure", "fork", 4, "8 simulations"),
        ("pure", "none", 1, "3 simulations"),
        ("nothing", "none", 1, "3 simulations"),
    ],
)
def test_a_pure_model_passes(here, tmp_path, what, isolation, n_sets, n_checked):
    """NaN, lists with NaN in them, and a model without outputs; of many simulations some are checked."""
    ended = check(here, tmp_path / "run", what, isolation, n_sets)
    assert 0 == ended.code, ended.stderr
    assert f"no leaks: {n_checked} came out the same" in ended.stderr


def test_forks_keep_what_a_model_remembers_from_the_next_child(here, tmp_path):
    """One simulation per child, and nothing is left to remember."""
    study = here.study([{"what": "remembers"}], 3)
    options = ("--backend", "local", "--isolation", "fork", "--per-child", "1", "--check-leaks")
    assert 0 == here.run(study, tmp_path / "run", *options).code
