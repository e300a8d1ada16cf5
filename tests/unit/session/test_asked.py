"""What a user named becomes a study with a name: a study, its file, or a model with a table."""

import json

import numpy as np
import pytest

from modelops_ray.errors import StudyError, UsageError
from modelops_ray.session.asked import ask_about
from modelops_ray.session.run_config import RunConfig
from modelops_ray.study.study import Study


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, a study and a table of ten parameter sets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sir.py").write_text("def simulate(params, seed):\n    return {}\n")
    sets = [{"params": {"beta": n / 10, "kind": "a" if n % 2 else "b"}} for n in range(10)]
    study = {"model": "sir.py:simulate", "scenario": "baseline", "parameter_sets": sets, "n_replicates": 3}
    (tmp_path / "study.json").write_text(json.dumps(study))
    (tmp_path / "sets.csv").write_text("beta\n" + "".join(f"{n / 10}\n" for n in range(10)))
    return tmp_path


def asked(given, **options):
    """Ask with options."""
    return ask_about(given, None, RunConfig(**options))


def refusal(given, **options):
    """The one line with which it is refused."""
    with pytest.raises((UsageError, StudyError)) as caught:
        asked(given, **options)
    return str(caught.value)


def chosen(**options):
    """The simulations of the study that are to run, as set and replicate."""
    question = asked("study.json", **options)
    return [(one.set_index, one.replicate) for one in question.simulations.take(list(question.only))]


@pytest.mark.usefixtures("here")
def test_a_model_with_a_table_is_a_study_named_after_the_model():
    """Its run directory is called like the model."""
    question = asked("sir.py:simulate", params="sets.csv", replicates=2)

    assert (20, 10) == (question.n_simulations, question.n_parameter_sets)
    assert question.out.name.startswith("sir-")
    assert "sir.py:simulate" == question.model.label


@pytest.mark.usefixtures("here")
def test_a_number_of_replicates_goes_for_that_of_a_study_file():
    """NumPy's numbers are numbers."""
    assert 50 == asked("study.json", replicates=np.int64(5)).n_simulations
    assert 30 == asked("study.json").n_simulations


@pytest.mark.usefixtures("here")
def test_parameter_sets_are_chosen_by_number_and_by_condition():
    """All of their replicates run; where several are given, all have to hold."""
    assert [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)] == chosen(sets="2:4")
    assert {8, 9} == {one for one, _ in chosen(sets="8:")}
    assert {0, 1} == {one for one, _ in chosen(sets=":2")}
    assert {1, 3} == {one for one, _ in chosen(where="beta<0.5 and kind==a")}
    assert [(3, 0)] == chosen(where="beta<0.5 and kind==a", sets="2:10", replicates=1)
    assert asked("study.json").only is None


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ("study.json", {"sets": "10:12"}, "--sets 10:12: the study has 10 parameter sets, counted from 0"),
        ("study.json", {"where": "beta>2"}, "--where 'beta>2': holds for none of the 10 parameter sets"),
        (
            "study.json",
            {"where": "beta>0.5", "sets": "0:2"},
            "no simulation of the study is in all of --shard, --only, --sets and --where that are given",
        ),
        (
            "study.json",
            {"params": "sets.csv"},
            "--params goes with a model, as in model.py:simulate; study.json is none",
        ),
        (
            "sir.py:simulate",
            {},
            "sir.py:simulate is a model; give its parameter sets, as in --params sets.csv, or a study file",
        ),
        (
            "sir.py:simulate",
            {"params": "sets.csv", "model": "x.py:f"},
            "sir.py:simulate is the model already; leave out --model",
        ),
        ("sir.py:simulate", {"params": "no.csv"}, ("no.csv: no such file; give the path of a table of parameter sets "
         "(.csv, .parquet or .arrow)")),
        (
            Study.grid({"a": [1]}),
            {"params": "sets.csv"},
            "--params: the study has parameter sets already; use Study.table in its place",
        ),
        (
            Study.from_dict({"scenario": "a", "parameter_sets": [{"params": {}, "seed": 1}]}),
            {"replicates": 2},
            "--replicates 2: every parameter set of the study names its one seed; drop it",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(given, options, expected):
    """Before anything is made."""
    assert expected == refusal(given, **options)


def test_a_study_file_without_a_model_takes_that_of_the_option(here):
    """Without one it is refused, with the place in the file."""
    Study.grid({"a": [1]}).save(here / "bare.json")

    assert "sir.py:simulate" == asked("bare.json", model="sir.py:simulate").model.label
    told = "bare.json: /model: found nothing; expected the model, such as sir.py:simulate, here or by --model"
    assert told == refusal("bare.json")


@pytest.mark.parametrize("sets", ["", ":", "3", "3:3", "4:3", "-1:2", "a:b", "0:2:4"])
def test_what_is_no_span_is_refused(sets):
    """The message has the right form."""
    with pytest.raises(UsageError, match="must be FIRST:LAST, counted from 0 and without LAST, such as 0:10"):
        RunConfig(sets=sets)


def test_a_condition_is_checked_with_the_other_options():
    """Before a study is read."""
    with pytest.raises(UsageError, match="no comparison at 'beta'"):
        RunConfig(where="beta")
