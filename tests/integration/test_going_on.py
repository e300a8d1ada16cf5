"""A study that grew goes on in its folder, a part of one leaves the rest alone, and both say so."""

import pytest
from support.commands import enter, run_locally, summary_of, tree, write_model, write_study

import modelops_ray as mr


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a good model and a study of two parameter sets."""
    return enter(monkeypatch, tmp_path / "work")


def ran(*options):
    """The summary of a run, and what was said."""
    result = run_locally(*options)
    assert 0 == result.exit_code, result.stderr
    return summary_of(result), result.stderr


def keys(folder):
    """Each simulation that has a row, by what it is."""
    table = mr.open_run(folder).simulations()
    return set(zip(table["param_id"].to_pylist(), table["seed"].to_pylist(), strict=True))


@pytest.mark.parametrize("out", [(), ("--out", "named")])
def test_more_replicates_and_more_sets_go_on_in_the_same_folder(work, out):
    """By default, and where the folder is named."""
    first, _ = ran("--replicates", 2, *out)
    second, said = ran("--replicates", 5, *out)
    write_study(work, [{"beta": 0.5}, {"beta": 1.5}, {"beta": 2.5}])
    third, also_said = ran("--replicates", 5, *out)

    assert first["run_dir"] == second["run_dir"] == third["run_dir"]
    assert [(4, 0), (10, 4), (15, 10)] == [(each["completed"], each["resumed"]) for each in (first, second, third)]
    assert f"{first['run_dir']} goes on with a study that grew from 4 to 10 simulations" in said
    assert "grew from 10 to 15 simulations" in also_said
    assert 15 == len(keys(first["run_dir"]))


@pytest.mark.parametrize("out", [(), ("--out", "named")])
def test_fewer_leave_the_rest_alone(work, out):
    """They are there already: nothing is run, and nothing is written but that."""
    larger, _ = ran("--replicates", 5, *out)
    before = tree(work / larger["run_dir"] / "simulations")
    fewer, said = ran("--replicates", 2, *out)

    assert (larger["run_dir"], 0) == (fewer["run_dir"], fewer["attempts"])
    assert f"{larger['run_dir']} is of a larger study: its other 6 simulations are left alone" in said
    assert before == tree(work / larger["run_dir"] / "simulations")


def test_a_part_of_a_larger_study_that_is_not_done_is_run_alone(work):
    """The rest stays to be done."""
    ran("--replicates", 5, "--sets", "0:1")
    write_study(work, [{"beta": 1.5}])
    part, _ = ran("--replicates", 2)

    assert (10, 7, 5, 2) == tuple(part[key] for key in ("simulations", "completed", "resumed", "attempts"))


def test_what_is_asked_in_part_and_done_starts_nothing(work):
    """Also where other simulations of the study have no row yet."""
    ran("--replicates", 5, "--sets", "0:1")
    again, _ = ran("--replicates", 5, "--sets", "0:1")

    assert (5, 0, 0) == (again["completed"], again["attempts"], again["wall_seconds"])


def test_another_study_has_a_folder_of_its_own(work):
    """Neither contains the other."""
    first, _ = ran()
    write_study(work, [{"beta": 0.5}, {"beta": 9.5}])
    other, _ = ran()

    assert first["run_dir"] != other["run_dir"]
    assert 2 == other["attempts"]


def test_the_run_that_has_most_in_common_is_gone_on_with(work):
    """Where several runs of the name are a part of what is asked."""
    write_study(work, [{"beta": 0.5}])
    ran()
    write_study(work, [{"beta": 1.5}])
    ran("--replicates", 3)
    write_study(work, [{"beta": 0.5}, {"beta": 1.5}])
    both, _ = ran("--replicates", 3)

    assert (6, 3) == (both["completed"], both["resumed"])


def test_starting_over_answers_what_is_asked_and_no_more(work):
    """The larger run is moved aside."""
    larger, _ = ran("--replicates", 5)
    fewer, _ = ran("--replicates", 2, "--fresh")

    assert larger["run_dir"] == fewer["run_dir"]
    assert 4 == len(keys(fewer["run_dir"]))


def test_a_model_that_changed_since_a_study_grew_is_told(work):
    """Its results are stale in the folder that the study has grown in, as in any other."""
    ran("--replicates", 2)
    ran("--replicates", 3)
    write_model(work, "def simulate(params, seed):\n    return {'x': 1}\n")
    result = run_locally("--replicates", 4)

    assert 1 == result.exit_code
    assert "model.py has changed" in result.stderr


def test_a_model_of_the_same_name_elsewhere_has_a_folder_of_its_own(work):
    """Its study is no part of the other's."""
    first, _ = ran("--replicates", 2)
    write_model(work / "other")
    other, _ = ran("--replicates", 3, "--model", "other/model.py:simulate")

    assert first["run_dir"] != other["run_dir"]
    assert 6 == other["attempts"]
