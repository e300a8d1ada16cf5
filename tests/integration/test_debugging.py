"""One simulation under the debugger, with the commands that a person would type coming through a pipe."""

import subprocess
import sys

import pytest
from support.commands import enter, write_model, write_study

MODEL = '''\
"""A model that stops, prints, fails and returns nothing, as it is told."""

import sys


def simulate(params, seed):
    print("simulating", params["kind"])
    half = params["beta"] / 2
    if params["kind"] == "stops":
        breakpoint()
    if params["kind"] == "fails":
        return deeper(half)
    if params["kind"] == "ends":
        sys.exit(3)
    open("made.txt", "w").close()
    return None if params["kind"] == "nothing" else {"echo": {"half": half, "seed": seed}}


def deeper(number):
    return {}[number]
'''
KINDS = ["works", "stops", "fails", "ends", "nothing"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with the model and a study of what it can do."""
    folder = enter(monkeypatch, tmp_path / "work")
    write_model(folder, MODEL)
    write_study(folder, [{"beta": 0.5 + at, "kind": kind} for at, kind in enumerate(KINDS)])
    return folder


def command(*arguments, typed="", cwd):
    """Run a command in a process of its own, and type something."""
    return subprocess.run(
        [sys.executable, "-m", "modelops_ray", *arguments], input=typed, cwd=cwd, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def debug(work, kind, typed=""):
    """Debug the simulation of this kind."""
    return command("debug", "study.json", "--where", f"kind=={kind}", typed=typed, cwd=work)


def test_what_it_prints_is_seen_and_what_came_of_it_said(work):
    """Nothing is kept, and what it wrote is gone, as in a run."""
    before = set(work.iterdir())
    ended = command("debug", "study.json", cwd=work)

    assert (0, "simulating works\n") == (ended.returncode, ended.stdout)
    assert "beta=0.5, kind='works'; replicate 0, seed" in ended.stderr
    assert "echo: half=0.25, seed=" in ended.stderr
    assert before == set(work.iterdir()) - {work / "__pycache__"}


def test_a_breakpoint_stops_and_what_is_typed_is_obeyed(work):
    """The names of the model's frame are there, and it can go on to its end."""
    ended = debug(work, "stops", "p half * 100\nc\n")

    assert 0 == ended.returncode
    assert "(Pdb) 75.0" in ended.stdout
    assert "echo: half=0.75" in ended.stderr


def test_a_debugger_that_is_left_ends_the_simulation_without_a_result(work):
    """As does the end of what is typed."""
    for typed in ("q\n", ""):
        ended = debug(work, "stops", typed)

        assert 3 == ended.returncode
        assert ended.stderr.endswith("the debugger was left before the simulation had ended\n")


def test_an_exception_opens_the_debugger_in_the_models_frames(work):
    """The innermost is shown first, and above the outermost there is none of ours."""
    ended = debug(work, "fails", "p number\nu\np half\nu\nq\n")

    assert 3 == ended.returncode
    assert "model.py(20)deeper()" in ended.stdout
    assert 2 == ended.stdout.count("(Pdb) 1.25\n")
    assert "Oldest frame" in ended.stdout
    assert "KeyError: 1.25" in ended.stderr
    assert "modelops_ray" not in ended.stderr.replace("modelops-ray", "")


def test_what_ends_the_process_is_a_failure_as_well(work):
    """The debugger opens where `sys.exit` was called."""
    ended = debug(work, "ends", "p half\n")

    assert 3 == ended.returncode
    assert "(Pdb) 1.75" in ended.stdout


def test_a_model_that_returns_nothing_fails_with_the_sentence_of_a_run(work):
    """There is no frame to look at."""
    ended = debug(work, "nothing")

    assert 3 == ended.returncode
    assert "output 'result' is None; a model returns a mapping" in ended.stderr


def test_the_local_backend_runs_in_this_process(work):
    """What is printed shows, and a breakpoint stops; the options of a run still ask for another process."""
    asked = ("run", "study.json", "--where", "kind==stops", "--backend", "local", "--quiet", "--json")
    ended = command(*asked, typed="p half * 100\nc\n", cwd=work)

    assert 0 == ended.returncode
    assert "simulating stops" in ended.stderr
    assert "(Pdb) 75.0" in ended.stderr
    assert 1 == ended.stdout.count("\n")
    forked = command(*asked, "--isolation", "fork", "--out", "other", typed="", cwd=work)
    assert 3 == forked.returncode
