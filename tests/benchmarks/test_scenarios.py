"""Cases as values: sizes, arithmetic, answers."""

import os

import pytest

from benchmarks import models
from benchmarks.calling import load, value_of
from benchmarks.ledger import attempt, tally
from benchmarks.scenarios import GIB, SCENARIOS, Layout, at_once


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_case_says_what_it_needs(name, size):
    """A limit, an answer, and something to do."""
    for case in SCENARIOS[name].cases(size):
        assert (name, size) == (case.scenario, case.size)
        assert case.simulations > 0
        assert case.stuck_s > case.limit_s > 0


def test_how_many_fit_is_arithmetic():
    """At most the slots, at least one, in all pods together."""
    layout = Layout(pods=2, pod_bytes=4 * GIB, slots=4)
    needs = [int(ratio * GIB) for ratio in (0.3, 0.7, 1.0, 1.3, 2.0, 9.0)]
    assert [8, 8, 6, 4, 2, 2] == [at_once(layout, need) for need in needs]


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("benchmarks.models:noop", {"x": 1.0}),
        ("benchmarks.models:busy", {"ms": 1.0}),
        ("benchmarks.fillers:need", {"mib": 3, "hold_s": 0.0, "ledger": "", "x": 0}),
        ("benchmarks.fillers:need", {"mib": 3, "hold_s": 0.0, "ledger": "", "x": 10, "every": 20, "tail": 8}),
        ("benchmarks.fillers:large", {"mib": 1}),
    ],
)
def test_a_model_returns_its_answer(model, params):
    """The same value from the same seed, on every engine."""
    assert value_of(load(model)(params, 12345)) == models.answer_of(model)(params, 12345)


def test_run_times_cover_three_decades_evenly():
    """A third of them in each."""
    times = models.three_decades(30)
    assert [10, 10, 10] == [sum(low <= ms < 10 * low for ms in times) for low in (3, 30, 300)]


def test_the_ledger_tells_repeats_and_wasted_time(tmp_path):
    """One attempt ended, one was killed after five seconds and tried again."""
    with attempt(str(tmp_path), 1, 7):
        pass
    killed = tmp_path / "2-7-1000000000"
    killed.touch()
    os.utime(killed, (6.0, 6.0))
    with attempt(str(tmp_path), 2, 7):
        pass
    assert (3, 2, 1, 5.0) == tuple(tally(tmp_path))
