"""What the commands print, write and exit with, on whole studies that run in this process."""

import json
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import enter, invoke, run_locally, summary_of, write_model, write_study

import modelops_ray as mr
from modelops_ray.errors import UsageError
from modelops_ray.store.heartbeat import read_progress
from modelops_ray.store.storage.local import LocalFolder

RUN_KEYS = [
    "run_dir",
    "simulations",
    "completed",
    "failed",
    "resumed",
    "attempts",
    "oom_retries",
    "infrastructure_retries",
    "wall_seconds",
    "simulations_per_second",
    "seconds_to_first_commit",
    "peak_bytes_max",
    "request_bytes_max",
    "spilled_bytes",
    "driver_peak_rss_bytes",
]
PLAN_KEYS = [
    "simulations",
    "parameter_sets",
    "request_bytes",
    "seconds_per_simulation",
    "concurrency",
    "wall_seconds",
    "output_bytes",
    "warnings",
]
PICKY = '''\
"""A model that refuses large parameters."""


def simulate(params, seed):
    if params["beta"] > 1:
        raise ValueError(f"beta is {params['beta']}")
    return {"echo": {"x": params["beta"]}}
'''
ANGRY = '''\
"""A model that always fails."""


def simulate(params, seed):
    raise RuntimeError("not today")
'''

INTERRUPTING = '''\
"""A model that presses Ctrl-C."""

import os
import signal


def simulate(params, seed):
    os.kill(os.getpid(), signal.SIGINT)
    return {"echo": {"x": params["beta"]}}
'''
LARGE_FOR_SOME = '''\
"""A model of which a quarter needs 40 MiB."""

import numpy as np


def simulate(params, seed):
    held = np.ones((40 if params["large"] == 2 else 1) * 2**17)
    return {"echo": {"x": held[-1]}}
'''

SHRINKING = '''\
"""A model whose outputs take a hundredth on disk of what they take in memory."""

import numpy as np


def simulate(params, seed):
    return {"echo": {"x": np.full(100_000, params["beta"])}}
'''


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a good model and a good study."""
    return enter(monkeypatch, tmp_path / "work")


def status_of(folder):
    """What `status --json` says of a run."""
    return json.loads(invoke("status", folder, "--json").stdout)


# Output and exit codes


def test_json_is_all_of_stdout_and_has_the_promised_keys_in_order(work):
    """A script reads one line; people read stderr."""
    result = run_locally("--out", "run")
    summary = summary_of(result)

    assert 0 == result.exit_code
    assert RUN_KEYS == list(summary)
    assert ["run", 2, 2, 0, 0, 2] == [summary[key] for key in RUN_KEYS[:6]]
    assert all(summary[key] > 0 for key in ("wall_seconds", "request_bytes_max", "driver_peak_rss_bytes"))
    assert summary["wall_seconds"] >= summary["seconds_to_first_commit"] > 0


def test_json_stays_clean_of_what_a_model_prints(work):
    """What it writes at import goes to stderr, and what in a simulation is kept for the case that it fails."""
    write_model(
        work, 'print("importing")\n\ndef simulate(p, seed):\n    print("simulating")\n    return {"a": {"x": 1}}\n'
    )
    result = run_locally("--isolation", "fork")

    assert RUN_KEYS == list(summary_of(result))
    assert "importing" in result.stderr.splitlines()
    assert "simulating" not in result.stderr


@pytest.mark.parametrize("isolation", ["none", "fork"])
def test_a_model_that_changes_the_working_folder_does_not_move_the_run(work, isolation):
    """A relative run directory is where the command was called, also for what is written while a simulation is away."""
    (work / "data").mkdir()
    write_model(
        work,
        """import os
import time

os.chdir("data")


def simulate(p, seed):
    here = os.path.basename(os.getcwd())
    os.mkdir(f"away-{seed}")
    os.chdir(f"away-{seed}")
    time.sleep(1)
    return {"a": {"here": here}}
""",
    )
    write_study(work, n_replicates=2)

    result = run_locally("--out", "run", "--isolation", isolation)

    assert 0 == result.exit_code
    assert {"data"} == set(mr.open_run(work / "run").output("a")["here"].to_pylist())
    assert Path.cwd() == work
    assert [] == [path for path in (work / "data").rglob("*") if not path.name.startswith("away-")]


def test_a_run_ends_with_a_table_and_a_summary_for_people(work):
    """Means over replicates, how many results, and where they are."""
    write_study(work, n_replicates=3)
    result = invoke("run", "study.json", "--backend", "local", "--out", "run")

    assert 0 == result.exit_code
    assert "doubled: mean over replicates" in result.stdout
    assert re.search(r"^results +6 of 6 simulations$", result.stdout, re.MULTILINE)
    assert re.search(r"^run directory +run$", result.stdout, re.MULTILINE)
    assert 80 >= max(len(line) for line in result.stdout.splitlines())


def test_quiet_shows_nothing_on_stderr(work):
    """Not even that there are repeats."""
    write_study(work, [{"beta": 0.5}, {"beta": 0.5}])

    assert "" == run_locally("--quiet").stderr


def test_failures_make_the_exit_code_3_unless_they_are_tolerated(work):
    """The run ended, and some simulations have no result."""
    write_model(work, PICKY)

    assert 3 == run_locally("--out", "run").exit_code
    assert 0 == run_locally("--out", "run", "--tolerate-failures").exit_code


def test_why_simulations_failed_is_told_most_frequent_first(work):
    """One line for each kind, and how to repeat them."""
    write_model(
        work,
        "def simulate(params, seed):\n    if params['beta'] > 1:\n        raise ValueError('too large')\n"
        "    if params['beta'] < 0:\n        raise KeyError('below')\n    return {'a': {'x': 1}}\n",
    )
    write_study(work, [{"beta": b} for b in (-1.0, 0.5, 2.0, 3.0)])
    result = invoke("run", "study.json", "--backend", "local", "--out", "run")
    large, below = (result.stdout.index(text) for text in ("2 failed: ", "1 failed: "))

    assert 3 == result.exit_code
    assert large < below
    assert "2 failed: ValueError: too large (model.py line 3)" in result.stdout
    assert "modelops-ray why run" in result.stdout
    assert "--retry-failed" in result.stdout


def test_a_run_whose_first_20_simulations_all_fail_alike_stops(work):
    """A broken model is not run 40 times; the failures so far are kept."""
    write_model(work, ANGRY)
    write_study(work, n_replicates=20)
    result = run_locally("--out", "run", "--chunk", 5)
    summary = summary_of(result)

    assert 1 == result.exit_code
    assert 20 <= summary["failed"] < 40
    assert result.stderr.splitlines()[-1].startswith(
        f"modelops-ray: RuntimeError: not today in the first {summary['failed']} simulations (model.py line 5); fix"
    )


def test_a_run_goes_on_in_spite_of_failures_when_told_so(work):
    """The rule of the first 20 yields to a number of the user's."""
    write_model(work, ANGRY)
    write_study(work, n_replicates=15)
    result = run_locally("--max-failures", "100%")

    assert (1, 30) == (result.exit_code, summary_of(result)["failed"])


def test_a_run_stops_at_the_failures_it_may_have(work):
    """Stops at the number given, with the failures so far committed."""
    write_model(work, PICKY)
    write_study(work, [{"beta": 2.0 + i} for i in range(10)])
    result = run_locally("--out", "run", "--max-failures", 3, "--chunk", 1)

    assert 1 == result.exit_code
    assert result.stderr.splitlines()[-1].startswith("modelops-ray: 3 simulations failed, which --max-failures")
    assert 3 <= status_of("run")["failed"] < 10


# Going on


def test_the_same_question_has_the_same_folder(work):
    """The default run directory is named by study, model and seeds, and going on finds it."""
    first, second = summary_of(run_locally()), summary_of(run_locally())
    other_seeds = summary_of(run_locally("--seeds", "dask-compatible"))

    assert re.fullmatch(r"runs/study-[0-9a-f]{8}", first["run_dir"])
    assert (first["run_dir"], 2, 0) == (second["run_dir"], second["resumed"], second["attempts"])
    assert first["run_dir"] != other_seeds["run_dir"]


def test_a_run_that_is_complete_is_not_run_again(work):
    """Its summary has the same keys, and no first commit."""
    before = summary_of(run_locally("--out", "run"))
    result = run_locally("--out", "run")
    after = summary_of(result)

    assert (0, RUN_KEYS) == (result.exit_code, list(after))
    assert (2, 2, 0, None) == tuple(after[k] for k in ("completed", "resumed", "attempts", "seconds_to_first_commit"))
    assert before["peak_bytes_max"] == after["peak_bytes_max"]


def test_a_study_that_grew_goes_on_with_what_is_done(work):
    """Only the simulations that are new are run."""
    run_locally("--out", "run")
    write_study(work, [{"beta": 2.5}, {"beta": 0.5}, {"beta": 1.5}])
    summary = summary_of(run_locally("--out", "run"))

    assert (3, 3, 2, 1) == tuple(summary[k] for k in ("simulations", "completed", "resumed", "attempts"))
    assert [2.5, 0.5, 1.5] == mr.open_run("run").simulations()["param_beta"].to_pylist()


def test_failures_are_repeated_only_on_request(work):
    """A failure is a row like any other until `--retry-failed`."""
    (work / "limit.txt").write_text("1")
    write_model(
        work,
        "from pathlib import Path\n\ndef simulate(params, seed):\n"
        "    assert params['beta'] < float(Path('limit.txt').read_text())\n    return {'a': {'x': 1}}\n",
    )
    run_locally("--out", "run")
    (work / "limit.txt").write_text("2")

    assert 0 == summary_of(run_locally("--out", "run", "--accept-changes"))["attempts"]
    again = summary_of(run_locally("--out", "run", "--retry-failed"))
    assert (2, 0, 1, 1) == tuple(again[k] for k in ("completed", "failed", "resumed", "attempts"))


def test_fresh_moves_the_old_run_aside(work):
    """Nothing is lost by starting over, and another model may take the place."""
    run_locally("--out", "run")
    old = mr.open_run("run").simulations()
    write_model(work, PICKY)
    summary = summary_of(run_locally("--out", "run", "--fresh"))
    (aside,) = work.glob("run.old-*")

    assert (0, 1, 1) == tuple(summary[k] for k in ("resumed", "completed", "failed"))
    assert old == mr.open_run(aside).simulations()


def test_a_table_and_a_model_are_run_without_a_study_file(work):
    """Parts of it are tried first, and all of it goes on with what is done."""
    (work / "sets.csv").write_text("beta\n0.5\n1.5\n2.5\n")
    table = ("--params", "sets.csv", "--replicates", 2)
    tried = summary_of(run_locally(*table, "--sets", "0:1", study="model.py:simulate"))
    whole = summary_of(run_locally(*table, study="model.py:simulate"))

    assert (6, 2) == (tried["simulations"], tried["completed"])
    assert (6, 2, 4) == (whole["completed"], whole["resumed"], whole["attempts"])
    assert tried["run_dir"] == whole["run_dir"]
    assert (
        4 == summary_of(run_locally(*table, "--where", "beta<2", "--out", "b", study="model.py:simulate"))["completed"]
    )


def test_only_runs_one_simulation(work):
    """The task_id comes from another run of the same question; the rest stays undone, and can be run later."""
    run_locally("--out", "run")
    task_id = mr.open_run("run").simulations()["task_id"][1].as_py()
    summary = summary_of(run_locally("--out", "one", "--only", task_id))

    assert (2, 1, 1) == tuple(summary[k] for k in ("simulations", "completed", "attempts"))
    assert [task_id] == mr.open_run("one").simulations()["task_id"].to_pylist()
    assert 1 == summary_of(run_locally("--out", "one"))["attempts"]


@pytest.mark.parametrize("options", [(), ("--retry-failed",)])
def test_only_repeats_one_failure_and_leaves_the_others(work, options):
    """A failed simulation runs once more when it is asked for."""
    write_model(work, PICKY)
    write_study(work, [{"beta": beta} for beta in (0.5, 1.5, 2.5)])
    run_locally("--out", "run")
    failed = mr.open_run("run").simulations()["task_id"][1]
    summary = summary_of(run_locally("--out", "run", "--only", failed, *options))

    assert [1, 2, 1] == [summary[key] for key in ("completed", "failed", "attempts")]


def test_repeats_run_once_and_are_counted_in_a_warning(work):
    """`simulations` counts distinct ones."""
    write_study(work, [{"beta": 0.5}, {"beta": 1.5}, {"beta": 0.5}])
    result = run_locally()

    assert (2, 2) == tuple(summary_of(result)[k] for k in ("simulations", "completed"))
    assert "1 simulation is listed more than once and runs once" in result.stderr


# Large studies


def test_a_large_study_shows_its_plan_once_probes_are_done(work):
    """More than 1,000 simulations: how long, how much, and what could be done instead; then it goes on."""
    write_study(work, [{"beta": float(i)} for i in range(400)], n_replicates=3)
    result = run_locally()
    plans = [line for line in result.stderr.splitlines() if line.startswith("plan: ")]

    assert (0, 1200) == (result.exit_code, summary_of(result)["completed"])
    assert 1 == len(plans)
    assert re.fullmatch(
        r"plan: 1,200 simulations, 1 at a time, about [\d.]+ m?s, [\d.]+ MiB each, [\d.]+ [KM]iB of outputs", plans[0]
    )
    assert "fewer replicates, or an adaptive calibration" in result.stderr


def test_a_small_study_shows_no_plan(work):
    """A forecast of two simulations is of no use."""
    assert "plan:" not in run_locally().stderr


# plan and profile


def test_plan_says_what_is_not_known_and_how_to_find_out(work):
    """Null for what was not measured, with the command that measures it; nothing is run, nothing written."""
    result = invoke("plan", "study.json", "--backend", "local", "--json")
    plan = summary_of(result)

    assert (0, PLAN_KEYS) == (result.exit_code, list(plan))
    assert [2, 2, None, None, None, None, None] == [plan[key] for key in PLAN_KEYS[:-1]]
    assert any("modelops-ray profile STUDY" in warning for warning in plan["warnings"])
    assert not (work / "runs").exists()


def test_profile_measures_and_plan_knows(work):
    """What a few simulations took is kept for the next study of the model."""
    write_study(work, [{"beta": 0.1 * i} for i in range(20)])
    measured = summary_of(invoke("profile", "study.json", "--samples", 4, "--backend", "local", "--json"))
    plan = summary_of(invoke("plan", "study.json", "--backend", "local", "--json"))

    assert (4, 0) == (measured["simulations"], measured["failed"])
    assert measured["worker_bytes"] > 0
    assert measured["peak_bytes_max"] >= measured["peak_bytes_median"] >= 0
    assert (20, 20, 1, []) == tuple(plan[k] for k in ("simulations", "parameter_sets", "concurrency", "warnings"))
    assert all(plan[k] > 0 for k in ("request_bytes", "seconds_per_simulation", "wall_seconds", "output_bytes"))
    assert not (work / "runs").exists()


def test_profile_sees_what_an_even_stride_over_a_grid_does_not(work):
    """Of every fourth set, along the last axis, a stride of 16 sees one level; a quarter is large here."""
    write_model(work, LARGE_FOR_SOME)
    write_study(work, [{"beta": 0.1 * beta, "large": large} for beta in range(16) for large in range(4)])
    measured = summary_of(invoke("profile", "study.json", "--samples", 16, "--backend", "local", "--json"))

    assert 16 == measured["simulations"]
    assert measured["peak_bytes_max"] >= 38 * 2**20


def test_outputs_are_foreseen_as_large_as_they_are_on_disk(work):
    """Where they shrink to a hundredth of what they take in memory."""
    write_model(work, SHRINKING)
    write_study(work, [{"beta": 0.1 * i} for i in range(12)])
    invoke("profile", "study.json", "--samples", 4, "--backend", "local")
    foreseen = summary_of(invoke("plan", "study.json", "--backend", "local", "--json"))["output_bytes"]
    run_locally("--out", "run")
    on_disk = sum(path.stat().st_size for path in Path("run").rglob("*.parquet"))

    assert on_disk / 3 <= foreseen <= 3 * on_disk


def test_the_largest_peak_of_a_run_that_went_on_is_that_of_the_run(work):
    """Not of what was left to do; also where nothing was."""
    write_model(work, LARGE_FOR_SOME)
    write_study(work, [{"beta": 0.5, "large": 2}])
    first = summary_of(run_locally("--out", "run"))
    write_study(work, [{"beta": 0.5, "large": large} for large in range(4)])
    second, third = (summary_of(run_locally("--out", "run")) for _ in range(2))

    assert first["peak_bytes_max"] >= 38 * 2**20
    assert (1, 4) == (second["resumed"], third["resumed"])
    assert first["peak_bytes_max"] == second["peak_bytes_max"] == third["peak_bytes_max"]
    assert second["request_bytes_max"] >= first["request_bytes_max"]


def test_profile_that_cannot_go_on_says_why(work):
    """In the words of `run`."""
    write_model(work, ANGRY)
    write_study(work, [{"beta": 0.1 * i} for i in range(30)])
    result = invoke("profile", "study.json", "--samples", 30, "--backend", "local")

    assert 1 == result.exit_code
    assert "RuntimeError: not today in the first 20 simulations (model.py line 5)" in result.stderr


def test_profile_that_is_interrupted_ends_like_a_run(work):
    """Not with what the few simulations took that it had the time for."""
    write_model(work, INTERRUPTING)
    result = invoke("profile", "study.json", "--backend", "local", "--isolation", "none")

    assert (130, "") == (result.exit_code, result.stdout)


def test_profile_needs_a_simulation_to_measure(work):
    """Where a caller of the function asks for none."""
    with pytest.raises(UsageError, match="--samples 0 must be at least 1"):
        mr.profile("study.json", samples=0, backend="local")


def test_a_run_ends_well_where_its_profile_cannot_be_kept(work, monkeypatch):
    """The summary is there, the session is closed, and a line says what to do; `profile` itself is an error then."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    result = run_locally("--out", "run")

    assert (0, 2) == (result.exit_code, summary_of(result)["completed"])
    assert "the profile of the model is not kept: /proc/nowhere" in result.stderr
    assert "XDG_CACHE_HOME says where profiles are kept" in " ".join(result.stderr.split())
    assert "complete" == read_progress(LocalFolder(work / "run")).ending
    profiled = invoke("profile", "study.json", "--backend", "local")
    assert (1, True) == (profiled.exit_code, "what was measured could not be kept" in profiled.stderr)


def test_a_user_without_a_home_has_no_profiles(work, monkeypatch):
    """A container may run as a number that has no name."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)

    def unknown_user(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown_user)

    assert 0 == run_locally("--out", "run").exit_code


def test_a_damaged_profile_is_told_before_a_session_begins(work):
    """No directory is made, and none has to be taken over."""
    invoke("profile", "study.json", "--backend", "local")
    [profile] = (work / "cache").rglob("*.json")
    profile.write_text("{")
    result = run_locally("--out", "run")

    assert (1, False) == (result.exit_code, (work / "run").exists())
    assert "delete it, it is measured again" in result.stderr


def test_profile_of_a_model_that_fails_says_why(work):
    """One line with the model's own error."""
    write_model(work, ANGRY)
    result = invoke("profile", "study.json", "--backend", "local")

    assert 1 == result.exit_code
    assert "modelops-ray: no simulation completed; the first failed with RuntimeError: not today\n" == result.stderr


def test_plan_and_profile_are_short_for_people(work):
    """A handful of facts, none longer than a terminal is wide; a warning is one line in a pipe."""
    for command in ("plan", "profile"):
        result = invoke(command, "study.json", "--backend", "local")
        facts = [line for line in result.stdout.splitlines() if not line.startswith("warning: ")]

        assert 0 == result.exit_code
        assert 5 <= len(facts) <= 7
        assert 80 >= max(map(len, facts))


# status and results


def test_status_counts_what_is_committed(work):
    """From the directory alone, with the causes of failures."""
    write_model(work, PICKY)
    run_locally("--out", "run")
    status = status_of("run")
    shown = invoke("status", "run").stdout

    assert (2, 1, 1, False, {"model_error": 1}) == tuple(
        status[k] for k in ("simulations", "completed", "failed", "running", "causes")
    )
    assert re.search(r"^done +2 of 2 simulations \(100%\) committed$", shown, re.MULTILINE)
    assert re.search(r"^failed +1 \(1 model_error\)$", shown, re.MULTILINE)
    assert re.search(r"^state +finished$", shown, re.MULTILINE)


def test_following_a_run_ends_with_it(work):
    """A run that has ended is shown once."""
    run_locally("--out", "run")

    assert 1 == invoke("status", "run", "--follow", "--json").stdout.count("\n")


def test_following_a_live_run_shows_it_until_it_ends(work):
    """Every line is one state; the last says that it is complete."""
    write_model(work, "import time\n\ndef simulate(params, seed):\n    time.sleep(0.7)\n    return {'a': {'x': 1}}\n")
    write_study(work, n_replicates=1)
    command = [sys.executable, "-m", "modelops_ray"]
    live = subprocess.Popen(
        [*command, "run", "study.json", "--backend", "local", "--out", "run", "--quiet", "--chunk=1"]
    )
    while not (work / "run" / "progress.json").exists():
        assert live.poll() is None
    states = [json.loads(line) for line in invoke("status", "run", "--follow", "--json").stdout.splitlines()]

    assert 0 == live.wait()
    assert (True, live.pid) == (states[0]["running"], states[0]["pid"])
    assert (False, 2) == (states[-1]["running"], states[-1]["completed"])


def test_results_shows_what_people_look_for_first(work):
    """Replicate, parameters, status, seconds and peak; neither identifiers nor columns that are empty."""
    write_study(work, n_replicates=2)
    run_locally("--out", "run")
    shown = invoke("results", "run").stdout

    assert ["replicate", "beta", "status", "seconds", "memory"] == shown.splitlines()[0].split()[:5]
    assert "None" not in shown
    assert "error_type" not in shown
    assert "4 rows" in shown
    assert "outputs: doubled" in shown


def test_results_shows_the_failures_of_a_run(work):
    """The cause and the message stand in the row."""
    write_model(work, PICKY)
    run_locally("--out", "run")
    shown = invoke("results", "run").stdout

    assert "model_error" in shown
    assert "beta is 1.5" in shown


def test_results_of_an_output_shows_the_models_columns(work):
    """With the parameters that tell the rows apart."""
    run_locally("--out", "run")
    shown = invoke("results", "run", "--output", "doubled").stdout

    assert {"replicate", "twice_seed"} <= set(shown.splitlines()[0].split())
    assert 80 >= max(map(len, shown.splitlines()))


@pytest.mark.parametrize("ending", ["parquet", "csv", "arrow"])
def test_results_are_exported_by_the_name_of_the_file(work, ending):
    """The whole table, and on stdout how much that was."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    run_locally("--out", "run")
    result = invoke("results", "run", "--output", "doubled", "--to", f"table.{ending}")
    read = {
        "parquet": pa.parquet.read_table,
        "csv": pa.csv.read_csv,
        "arrow": lambda path: pa.ipc.open_file(path).read_all(),
    }
    table = read[ending](f"table.{ending}")

    assert f"2 rows written to table.{ending}\n" == result.stdout
    assert mr.open_run("run").output("doubled")["twice_seed"].to_pylist() == table["twice_seed"].to_pylist()


def test_results_as_json_are_about_the_table(work):
    """Rows, columns and the outputs there are."""
    run_locally("--out", "run")
    about = json.loads(invoke("results", "run", "--json").stdout)

    assert (2, ["doubled"]) == (about["rows"], about["outputs"])
    assert "task_id" == about["columns"][0]


# The process


def test_the_module_is_the_same_program(work):
    """`python -m modelops_ray` runs a study whose model is named by its module."""
    write_model(work, name="epidemic/model.py")
    write_model(work, "", name="epidemic/__init__.py")
    done = subprocess.run(
        [sys.executable, "-m", "modelops_ray", "run", "study.json", "--backend", "local", "--json", "--model",
         "epidemic.model:simulate"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip

    assert RUN_KEYS == list(json.loads(done.stdout))


def test_the_version_is_that_of_the_package():
    """For reports of what went wrong."""
    assert f"modelops-ray, version {mr.__version__}\n" == invoke("--version").stdout


def test_help_names_every_option_of_run():
    """What a person types can be found out on the spot, within 80 columns."""
    shown = invoke("run", "--help").stdout

    for option in ("--model", "--out", "--memory", "--timeout", "--retry-failed", "--tolerate-failures", "--backend"):
        assert f" {option}" in shown
    assert 80 >= max(map(len, shown.splitlines()))


def test_a_design_is_written_and_run_without_writing_json(work):
    """The same options write the same bytes; the model may be named there, or when it is run."""
    drawn = ("--lhs", "beta=0.1:0.5", "--sobol", "k=1:9", "-n", 3, "--grid", "kind=a,b", "--replicates", 2, "--seed", 1)
    (work / "deep").mkdir()

    assert 0 == invoke("design", *drawn, "--out", "one.json").exit_code
    assert 0 == invoke("design", *drawn, "--out", "two.json").exit_code
    assert (work / "one.json").read_bytes() == (work / "two.json").read_bytes()
    assert 12 == summary_of(run_locally("--model", "model.py:simulate", study="one.json"))["completed"]
    assert 0 == invoke("design", "--grid", "beta=1,2", "--model", "model.py:simulate", "--out", "deep/s.json").exit_code
    assert 2 == summary_of(run_locally(study="deep/s.json"))["completed"]


@pytest.mark.parametrize(
    ("given", "code", "expected"),
    [
        (("--grid", "beta"), 2, "--grid 'beta': write it as NAME=..., such as beta=0.1:0.5"),
        (("--grid", "a=1", "--grid", "a=2"), 2, "--grid 'a=2': a is given twice; give all of its values at once"),
        (("--lhs", "a=0.1:0.5"), 1, "design: n: found nothing; expected how many points, up to 10000000"),
        ((), 1, "design: found no parameter; expected at least one"),
    ],
)
def test_a_design_that_cannot_be_drawn_is_refused_in_one_line(work, given, code, expected):
    """Nothing is written."""
    result = invoke("design", *given, "--out", "made.json")

    assert (code, f"modelops-ray: {expected}\n") == (result.exit_code, result.stderr)
    assert not (work / "made.json").exists()
