"""`why` names the cause, the modeller's line and the region of what failed, whatever way it failed in."""

import json
import os
import re

import pytest
from support.commands import enter, invoke, run_locally, write_model, write_study

import modelops_ray as mr

LINE = "# here"
TEN = {
    "key": ("KeyError: 'gamma'", """
def simulate(params, seed):
    return {"x": {"y": params["gamma"]}}  # here
"""),
    "library": ("KeyError: 'cases'", """
import pandas as pd

def simulate(params, seed):
    table = pd.DataFrame({"day": [1, 2]})
    return {"x": table["cases"]}  # here
"""),
    "helper": ("ZeroDivisionError: ", """
import rates_of_ten

def simulate(params, seed):
    return {"x": {"y": rates_of_ten.rate(0)}}
"""),
    "nothing": ("bad output: ", """
def simulate(params, seed):
    days = [1, 2]
    days.append(3)  # here
"""),
    "ragged": ("bad output: ", """
def simulate(params, seed):
    days = [1, 2]
    return {"x": {"day": days, "cases": [1]}}  # here
"""),
    "exits": ("SystemExit: 3", """
import sys

def simulate(params, seed):
    sys.exit(3)  # here
"""),
    "leaves": ("crashed: the model ended its process with code 7", """
import os

def simulate(params, seed):
    os._exit(7)  # here
"""),
    "crashes": ("crashed: its process ended by SIGSEGV", """
import ctypes

def simulate(params, seed):
    ctypes.string_at(0)  # here
"""),
    "waits": ("time limit: it took longer than 3 s", """
import time

def simulate(params, seed):
    while True:
        time.sleep(60)  # here
"""),
    "grows": ("out of memory: ", """
def simulate(params, seed):
    held = [bytearray(2**20) for _ in range(100_000)]  # here
"""),
}  # fmt: skip
HELPER = """\
def rate(n):
    return 1 / n  # here
"""
OPTIONS = ("--isolation", "fork", "--timeout", 3, "--memory", "150Mi", "--max-memory", "300Mi", "--attempts", 2)
ALL = """\
import importlib


def simulate(params, seed):
    if params["name"] == "none":
        return {"x": {"y": 1}}
    return importlib.import_module(f"{params['name']}_of_ten").simulate(params, seed)
"""


def line_of(source):
    """The number of the line that is marked."""
    [number] = [at for at, line in enumerate(source.splitlines(), start=1) if line.endswith(LINE)]
    return number


def expected_place(name, folder_name):
    """The file and line that a failure is to be named by."""
    if name == "helper":
        return f"rates_of_ten.py line {line_of(HELPER)}"
    return f"{folder_name} line {line_of(TEN[name][1])}"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder."""
    folder = enter(monkeypatch, tmp_path / "work")
    write_model(folder, HELPER, "rates_of_ten.py")
    return folder


def test_ten_ways_to_fail_are_named_with_cause_and_line(work):
    """All in one study, one parameter set for each: each is a group of its own, and says so in its first line."""
    for name, (_, source) in TEN.items():
        write_model(work, source, f"{name}_of_ten.py")
    write_model(work, ALL)
    write_study(work, [{"name": name} for name in (*TEN, "none")])

    ran = invoke("run", "study.json", "--backend", "local", "--isolation", "fork", "--out", "run", *OPTIONS)
    told = invoke("why", "run")

    assert (3, 0) == (ran.exit_code, told.exit_code), ran.stderr + told.stderr
    heads = [line for line in told.stdout.splitlines() if re.match(r"\d+ failed: ", line)]
    assert len(TEN) == len(heads)
    for name, (cause, _) in TEN.items():
        # What cannot be read came from the function that was called.
        place = "model.py line 4" if cause == "bad output: " else expected_place(name, f"{name}_of_ten.py")
        assert any(cause[:30] in line and f"({place})" in line for line in heads), (name, told.stdout)
    assert_fits(told.stdout)


@pytest.mark.long
@pytest.mark.parametrize("name", TEN)
def test_each_of_ten_models_has_its_cause_and_line_in_the_first_line(work, name):
    """As a study of its own, in which all simulations fail."""
    cause, source = TEN[name]
    write_model(work, source)

    ran = run_locally("--out", "run", *OPTIONS)
    first = invoke("why", "run").stdout.splitlines()[0]

    assert 3 == ran.exit_code, ran.stderr
    assert first.startswith("2 failed: ")
    assert cause[:40] in first
    assert f"({expected_place(name, 'model.py')})" in first


def assert_fits(printed):
    """What can be broken into lines fits 80 columns."""
    whole = ("  line", "  debug", "  then", "  task")
    assert not [line for line in printed.splitlines() if len(line) > 80 and not line.startswith(whole)]


PICKY = """\
def simulate(params, seed):
    for day in range(30):
        print(f"day {day} of {params['beta']}")
    if params["beta"] >= 0.185:
        raise ValueError("no epidemic is that fast")  # here
    return {"echo": {"x": params["beta"]}}
"""


@pytest.fixture
def picky(work):
    """A run of 100 simulations of which 10 failed."""
    write_model(work, PICKY)
    write_study(work, [{"beta": round(0.01 * i, 2)} for i in range(1, 21)], n_replicates=5)
    ran = invoke("run", "study.json", "--backend", "local", "--isolation", "fork")
    assert 3 == ran.exit_code, ran.stderr
    return ran


def test_a_group_says_where_it_is_and_what_was_printed_and_how_to_run_one(picky):
    """Of the newest run, where none is named."""
    told = invoke("why")
    lines = told.stdout.splitlines()

    assert 0 == told.exit_code
    assert f"10 failed: ValueError: no epidemic is that fast (model.py line {line_of(PICKY)})" == lines[0]
    assert "  where   beta >= 0.19: 10 of 10; elsewhere 0 of 90" in lines
    printed = [line.strip() for line in lines if line.strip().startswith("day ")]
    assert [f"day {day} of 0.19" for day in range(10, 30)] == printed
    [command] = [line for line in lines if "modelops-ray debug study.json --only " in line]
    task_id = command.split()[-1]
    one = invoke("why", task_id)
    assert one.stdout.startswith("failed: ValueError: no epidemic is that fast (model.py line 5)\n")
    assert f"task    {task_id}" in one.stdout
    assert "beta=0.19; replicate " in one.stdout
    assert "File " in one.stdout
    assert_fits(told.stdout + one.stdout)


def test_commands_name_the_model_where_the_study_does_not(work):
    """They are copied and pasted."""
    write_model(work, PICKY)
    write_study(work, [{"beta": 0.2}], model=None)
    assert 3 == invoke("run", "study.json", "--model", "model.py:simulate", "--backend", "local").exit_code
    assert "modelops-ray run study.json --model model.py:simulate --retry-failed" in invoke("why").stdout


def test_a_run_with_failures_ends_with_the_first_lines_of_why(picky):
    """And with the commands that go on from there."""
    lines = picky.stdout.splitlines()
    at = lines.index(f"10 failed: ValueError: no epidemic is that fast (model.py line {line_of(PICKY)})")
    assert "  where   beta >= 0.19: 10 of 10; elsewhere 0 of 90" == lines[at + 1]
    assert "Retry: the same command with --retry-failed" == lines[at + 2]
    assert lines[at + 3].startswith("Details: modelops-ray why runs/study-")


def test_why_as_json_is_one_object(picky):
    """For programs: the same facts."""
    values = json.loads(invoke("why", "--json").stdout)

    assert (100, 90, 10) == tuple(values[key] for key in ("simulations", "completed", "failed"))
    [group] = values["groups"]
    assert (10, "model_error", "model.py line 5") == tuple(group[key] for key in ("failed", "cause", "place"))
    assert "beta >= 0.19: 10 of 10; elsewhere 0 of 90" == group["where"]


def test_runs_are_listed_newest_first_and_the_newest_is_what_commands_are_about(picky, work):
    """`status` and `results` take it too; a folder that is no run is none."""
    (work / "runs" / "notes").mkdir()
    [first] = [path for path in (work / "runs").iterdir() if path.name != "notes"]
    for path in first.glob("*.json"):
        os.utime(path, (1_000_000, 1_000_000))
    write_model(work, name="other.py")
    study = write_study(work, [{"beta": 0.1}], model="other.py:simulate", n_replicates=100, name="other.json")
    assert 0 == run_locally(study=study).exit_code

    listed = invoke("runs").stdout.splitlines()

    assert 2 == len(listed)
    assert f"runs/{first.name} " in listed[1]
    assert "100 of 100, 10 failed" in listed[1]
    newest = listed[0].split()[0]
    assert f"modelops-ray: the newest run is {newest}\n" == invoke("status").stderr
    assert 100 == json.loads(invoke("results", "--json").stdout)["rows"]
    assert "nothing failed: 100 of 100 simulations have a result" in invoke("why").stdout
    assert [newest, f"runs/{first.name}"] == [
        run["run_dir"] for run in json.loads(invoke("runs", "--json").stdout)["runs"]
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("why",), 2, "there is no run below runs/; name a run directory"),
        (("status",), 2, "there is no run below runs/"),
        (("results",), 2, "there is no run below runs/"),
        (("why", "nowhere"), 1, "not a run directory"),
        (("why", "run", "0123456789"), 2, "no simulation that has run has the task_id 0123456789"),
        (("runs", "study.json"), 1, "give a folder that holds run directories"),
    ],
)
def test_what_cannot_be_answered_is_one_line(work, arguments, code, says):
    """It says what to give instead."""
    run_locally("--out", "run")
    found = invoke(*arguments)

    assert code == found.exit_code
    assert says in found.stderr
    assert 1 == found.stderr.count("\n")


def test_no_run_at_all_is_an_empty_list(work):
    """Which is no error."""
    found = invoke("runs")
    assert (0, "there is no run below runs/\n") == (found.exit_code, found.stdout)


TALKATIVE = """\
import logging
import os
import subprocess
import sys

logging.basicConfig(level=logging.INFO)


def simulate(params, seed):
    print(f"beginning of {params['beta']}")
    if params["beta"] == 0.3:
        print("x" * 100_000)
    logging.warning("logged by %s", params["beta"])
    sys.stderr.write(f"written by {params['beta']}\\n")
    os.system(f"echo said by a program of {params['beta']}")
    if params["beta"] >= 0.3:
        raise ValueError("no")
    return {"echo": {"x": params["beta"]}}
"""
SAID = ["beginning of {}", "WARNING:root:logged by {}", "written by {}", "said by a program of {}"]


def lines_of(run):
    """What was printed by each parameter."""
    rows = run.printed().to_pylist()
    return {row["param_beta"]: row["printed"].splitlines() for row in rows}


def test_what_a_failed_simulation_printed_is_kept_and_its_alone(work):
    """By Python, by logging, by a program; the last 64 KiB of it, and nothing of those beside it."""
    write_model(work, TALKATIVE)
    write_study(work, [{"beta": beta / 10} for beta in range(1, 6)])
    assert 3 == run_locally("--out", "run", "--isolation", "fork").exit_code
    printed = mr.open_run("run").printed()

    found = lines_of(mr.open_run("run"))

    assert [0.3, 0.4, 0.5] == list(found)
    for beta in (0.4, 0.5):
        assert sorted(line.format(beta) for line in SAID) == sorted(found[beta])
    assert 64 * 1024 == len(printed["printed"][0].as_py().encode())
    assert found[0.3][-1] == "said by a program of 0.3"
    shown = invoke("results", "run", "--output", "_printed").stdout
    assert "beta=0.4; replicate 0, seed " in shown
    assert "logged by 0.5" in shown


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
def test_all_that_is_printed_is_kept_where_that_is_asked_for(work, isolation):
    """Each simulation's own, also of those that share a process."""
    write_model(work, TALKATIVE)
    write_study(work, [{"beta": beta / 10} for beta in range(1, 6)], n_replicates=3)
    assert 3 == run_locally("--out", "run", "--keep-output", "--isolation", isolation).exit_code

    rows = mr.open_run("run").printed().to_pylist()

    assert 15 == len(rows)
    for row in rows:
        if row["param_beta"] != 0.3:
            assert sorted(line.format(row["param_beta"]) for line in SAID) == sorted(row["printed"].splitlines())
