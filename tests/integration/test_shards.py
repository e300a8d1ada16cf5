"""A study in shards: together they are the same run, any may die, and no simulation is in two places."""

import json
import shutil

import pytest
from support.commands import enter, invoke, run_locally, summary_of, write_model, write_study
from support.studies import assert_equal_bits, assert_equal_datasets, wait_for_commits

import modelops_ray as mr
from modelops_ray.store import shards

# Integers in one shard and floats in another, nothing at all in a third; NaN of odd bits; a failure.
MODEL = '''\
"""A model whose columns depend on where in the study one is."""

import struct


def simulate(params, seed):
    beta = params["beta"]
    if beta == 3:
        raise ValueError("three")
    odd = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000000 + seed % 1000))[0]
    x = [None, None] if beta == 0 else [seed % 7, 1] if beta < 4 else [seed % 7 + 0.5, odd]
    return {"rows": {"x": x, "day": [2, 1]}, "sum": {"twice": 2 * beta}}
'''
SETS = [{"beta": beta} for beta in (0, 1, 2, 3, 4, 5.5, 6)]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a study of seven parameter sets of three replicates."""
    folder = enter(monkeypatch, tmp_path / "work")
    write_model(folder, MODEL)
    write_study(folder, SETS, n_replicates=3)
    return folder


def run_shard(shard, out="run", *options, **how):
    """Run one shard and return its summary."""
    return summary_of(run_locally("--out", out, "--shard", shard, "--tolerate-failures", *options, **how))


def refused(*options, out="run", code=1, study="study.json"):
    """The one line that a run is refused with."""
    result = run_locally("--out", out, *options, study=study)
    assert (code, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines())), result.stderr
    return result.stderr


@pytest.mark.parametrize("new_place", ["local", "s3"], indirect=True)
def test_shards_together_are_the_run_without_shards(work, new_place):
    """To the bit and in study order, although they ran in another order, on disk and in a bucket."""
    out = new_place("run")
    summaries = [run_shard(f"{number}/3", out) for number in (2, 3, 1)]
    run_locally("--out", "undivided")

    assert [(6, 6), (6, 6), (9, 6)] == [(each["simulations"], each["completed"]) for each in summaries]
    assert f"{out}/shards/2-of-3" == summaries[0]["run_dir"]
    assert_equal_datasets("undivided", out)
    whole = mr.open_run(out)
    assert (21, 18, 3) == tuple(whole.summary[key] for key in ("simulations", "completed", "failed"))
    assert_equal_bits(whole.output("sum"), mr.open_run("undivided").output("sum"))


def test_a_shard_is_a_run_directory_of_its_own(work):
    """It shows its own part, and is done when that is."""
    run_shard("1/3")

    one = mr.open_run("run/shards/1-of-3")
    assert (9, 6, 3) == tuple(one.summary[key] for key in ("simulations", "completed", "failed"))
    assert one.simulations().equals(mr.open_run("run").simulations())
    assert "resumed" in run_shard("1/3")
    assert 9 == run_shard("1/3")["resumed"]


def test_status_shows_the_whole_and_which_shards_are_missing(work):
    """For people, and for programs."""
    run_shard("2/3")

    found = json.loads(invoke("status", "run", "--json").stdout)
    assert (21, 6, ["1/3", "3/3"]) == (found["simulations"], found["completed"], found["shards_missing"])
    assert {"2/3": 6} == {shard: each["completed"] for shard, each in found["shards"].items()}
    text = invoke("status", "run").stdout
    assert "6 of 21 simulations (29%) committed" in text
    assert "shards     1 finished, 2 not begun" in text
    assert "run the study with --shard 1/3, 3/3" in text


def test_failures_of_all_shards_are_repeated_and_shown(work):
    """Each in its own shard."""
    for number in (1, 2, 3):
        run_shard(f"{number}/3")

    assert "{'model_error': 3}" == str(json.loads(invoke("status", "run", "--json").stdout)["causes"])
    assert 3 == mr.open_run("run")._reader.failures().num_rows
    assert (3, 6) == tuple(run_shard("1/3", "run", "--retry-failed")[key] for key in ("attempts", "completed"))


def test_options_say_what_is_in_which_shard(work):
    """`plan` counts it, `--only` must be in it."""
    run_shard("2/3")
    task_id = mr.open_run("run").simulations()["task_id"][0].as_py()

    assert "6 of 2 parameter sets" in invoke("plan", "study.json", "--backend", "local", "--shard", "3/3").stdout
    assert 1 == run_shard("2/3", "other", "--only", task_id)["completed"]
    assert "this simulation is in another shard" in refused("--shard", "1/3", "--only", task_id, out="new", code=2)
    assert "must be I/N" in refused("--shard", "4/3", code=2)
    assert not (work / "new").exists()


# One place for every simulation


def test_a_run_is_in_shards_or_it_is_not(work):
    """Neither may be begun beside the other."""
    run_shard("1/3")
    run_locally("--out", "undivided")

    assert "run: run in 3 shards; go on with --shard 1/3 to 3/3, give another --out, or --fresh" in refused()
    assert "run: run in 3 shards, this is one of 2; go on with --shard I/3" in refused("--shard", "1/2")
    assert "undivided: run without shards; go on without --shard" in refused("--shard", "1/2", out="undivided")
    (work / "full").mkdir()
    (work / "full" / "thesis.tex").touch()
    assert "full: not a run directory, it holds thesis.tex" in refused("--shard", "1/2", out="full")


def test_all_shards_of_a_run_answer_one_question(work):
    """Another model or study beside them is refused before anything runs."""
    run_shard("1/3")
    write_study(work, [{"beta": 8}, {"beta": 9}, {"beta": 10}], name="else.json")
    assert "run/shards/1-of-3: run with study" in refused("--shard", "2/3", study="else.json")
    write_model(work, MODEL + "\n# changed")

    line = refused("--shard", "2/3")
    assert "run/shards/1-of-3: model.py has changed since 6 results used it; --accept-changes keeps them" in line
    run_shard("2/3", "run", "--accept-changes")


def test_two_splits_that_begin_at_the_same_moment_do_not_both_go_on(work, monkeypatch):
    """Both saw an empty folder; the later one takes itself back."""
    run_shard("1/3")
    run_locally("--out", "undivided")
    monkeypatch.setattr(shards, "require_fit", lambda *_, **__: None)

    assert "run/shards/1-of-2: beside 1-of-3; a simulation may be in both" in refused("--shard", "1/2")
    line = refused("--shard", "1/2", out="undivided")
    assert "undivided/shards/1-of-2: beside a run of the whole study; a simulation may be in both" in line
    assert [9, 21] == [mr.open_run(name).simulations().num_rows for name in ("run", "undivided")]


@pytest.mark.parametrize("also", ["1-of-2", "../.."])
def test_a_simulation_that_may_be_in_two_places_is_shown_in_none(work, also):
    """The user who put them together has to say which counts."""
    run_shard("1/3")
    run_locally("--out", "undivided")
    shutil.copytree(
        "undivided", f"run/shards/1-of-3/{also}" if "." in also else f"run/shards/{also}", dirs_exist_ok=True
    )

    result = invoke("status", "run")
    assert (1, "") == (result.exit_code, result.stdout)
    assert "so that run is not read; move one of them elsewhere" in result.stderr


def test_fresh_moves_all_shards_aside_together(work):
    """A run of the whole study takes their place; a shard takes its own."""
    run_shard("1/3")
    run_shard("2/3")
    assert 6 == run_shard("2/3", "run", "--fresh")["attempts"]
    assert 15 == mr.open_run("run").simulations().num_rows
    run_locally("--out", "run", "--fresh")

    [old] = [path.name for path in work.glob("run.old-*")]
    assert [15, 21] == [mr.open_run(name).simulations().num_rows for name in (old, "run")]


def test_a_larger_study_goes_on_in_its_shards(work):
    """Each by itself; until all have, they are not read as one."""
    for number in (1, 2):
        run_shard(f"{number}/2")
    write_study(work, [*SETS, {"beta": 7}, {"beta": 8}], n_replicates=4)
    assert {"resumed": 12, "simulations": 20}.items() <= run_shard("1/2").items()
    result = invoke("status", "run")
    assert "run every shard with the same study, then they are read as one" in result.stderr
    assert {"resumed": 9, "simulations": 16}.items() <= run_shard("2/2").items()
    run_locally("--out", "undivided")

    assert_equal_datasets("undivided", "run")


def test_a_larger_study_that_splits_in_another_way_is_refused(work):
    """What is done in one shard would be run again in another."""
    run_shard("1/2")
    write_study(work, [{"beta": -1}, *SETS], n_replicates=3)

    assert "the larger study splits in another way" in refused("--shard", "1/2")


def test_shards_whose_columns_do_not_fit_are_named(work):
    """One session would have refused the second one's rows; none is guessed afterwards."""
    write_model(work, 'def simulate(p, seed):\n    return {"o": {"x": "text" if p["beta"] == 1 else 1}}\n')
    write_study(work, SETS[:2])
    for number in (1, 2):
        run_shard(f"{number}/2")

    result = invoke("results", "run", "--output", "o")
    assert "run: output 'o' is not the same in all shards (column 'x': found string, expected int64)" in result.stderr
    assert 2 == mr.open_run("run").simulations().num_rows


# Kills and real Ray


@pytest.mark.long
def test_a_shard_that_was_killed_is_repeated_and_the_whole_is_equal(place):
    """SIGKILL of its driver in the middle, while another shard is finished."""
    study = place.study([{"weight": weight, "sleep_s": 0.05} for weight in range(6)], replicates=6)
    out = place.folder / "run"
    local = ("--backend", "local")
    assert 0 == place.run(study, out, *local, "--shard", "2/2").code
    command = place.start(study, out, *local, "--shard", "1/2", "--chunk", "1")
    wait_for_commits(command, out / "shards" / "1-of-2", 1)
    command.kill_alone()
    assert 18 < len(mr.open_run(out).simulations()) <= 36
    ended = place.run(study, out, *local, "--shard", "1/2")
    assert (0, 18) == (ended.code, ended.summary["completed"])
    assert ended.summary["resumed"] > 0
    assert 0 == place.run(study, place.folder / "undivided", *local).code

    assert_equal_datasets(place.folder / "undivided", out)


@pytest.mark.long
def test_shards_on_ray_are_equal_to_the_run_without_shards(place):
    """Three sessions, each with a Ray of its own, one after the other."""
    study = place.study([{"weight": weight, "touch_mb": 10 * weight} for weight in range(5)], replicates=4)
    out = place.folder / "run"
    small = {"limit_memory": "1Gi", "limit_cpus": "2"}
    codes = [place.run(study, out, "--shard", f"{number}/2", **small).code for number in (1, 2)]
    codes.append(place.run(study, place.folder / "undivided", **small).code)

    assert [0, 0, 0] == codes
    assert_equal_datasets(place.folder / "undivided", out)


def _adopt(work, other, name, shard):
    """Put a shard of another run beside those of `run`, as a copy by hand would."""
    shutil.copytree(work / other / "shards" / name, work / "run" / "shards" / shard)


def test_shards_of_different_questions_are_not_read_as_one(work):
    """Seeds, model, study: each of them makes the same position another simulation."""
    run_shard("1/3")
    run_shard("2/3", "seeds", "--seeds", "dask-compatible")
    run_shard("3/3", "copy")
    shutil.copytree(work / "run", work / "renamed")
    shutil.copytree(work / "run" / "shards" / "1-of-3", work / "renamed" / "shards" / "2-of-3")

    _adopt(work, "seeds", "2-of-3", "2-of-3")
    for command in ("results", "status"):
        line = invoke(command, "run").stderr
        assert "run/shards/2-of-3: run with seed policy dask-compatible, 1-of-3 is job-file; move the shards" in line
    line = invoke("results", "renamed").stderr
    assert "renamed/shards/2-of-3: its run.json says that it is shard 1/3; a simulation may be in both" in line


def test_a_run_that_is_no_shard_is_not_read_as_one(work):
    """It holds all simulations, although its folder is called like a shard."""
    run_locally("--out", "undivided")
    shutil.copytree(work / "undivided", work / "run" / "shards" / "1-of-1")

    assert "its run.json says that it is the whole study" in invoke("results", "run").stderr
