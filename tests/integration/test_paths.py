"""Paths of any bytes work where the system takes them, and folders that are gone or no folders are one line."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.commands import enter, invoke, tree

import modelops_ray as mr

ODD = os.fsdecode(b"caf\xe9\n\x1b")
LOCAL = ("--backend", "local", "--isolation", "fork")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a good model and a good study, and one whose path is not UTF-8 with the same."""
    folder = enter(monkeypatch, tmp_path / "work")
    (folder / ODD).mkdir()
    for name in ("model.py", "study.json"):
        shutil.copy(folder / name, folder / ODD / name)
        shutil.copy(folder / name, folder / f"{ODD}{Path(name).suffix}")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("study.json", "--out", ODD + "run"),
        (f"{ODD}.json", "--out", "run"),
        (f"{ODD}/study.json", "--out", "run"),
        ("study.json", "--model", f"{ODD}.py:simulate", "--out", "run"),
    ],
    ids=["out", "study", "folder", "model"],
)
def test_a_path_that_is_not_utf8_works_and_is_shown_as_one_line(work, arguments):
    """The study's, its folder's, the model's and the run's; going on finds what was done."""
    out = arguments[-1]
    result = invoke("run", *arguments, *LOCAL)
    again = invoke("run", *arguments, *LOCAL, "--json")

    assert (0, 0) == (result.exit_code, again.exit_code), result.stderr + again.stderr
    assert [2, out] == [json.loads(again.stdout)[key] for key in ("resumed", "run_dir")]
    told = [json.loads(invoke(command, out, "--json").stdout) for command in ("status", "results")]
    assert (2, 2) == (told[0]["completed"], told[1]["rows"])
    assert 2 == mr.open_run(out).simulations().num_rows
    printed = "".join(invoke(command, out).stdout for command in ("status", "results")) + result.stdout + result.stderr
    assert all(character.isprintable() or character == "\n" for character in printed)


def test_a_working_folder_that_is_not_utf8_works(work, monkeypatch):
    """With folders for temporary files and for profiles in it, and at every isolation level that starts processes."""
    monkeypatch.chdir(work / ODD)
    monkeypatch.setenv("TMPDIR", str(work / ODD))
    monkeypatch.setenv("XDG_CACHE_HOME", str(work / ODD / "cache"))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = invoke("run", "study.json", *LOCAL, "--json")

    assert 0 == result.exit_code, result.stderr
    assert list((work / ODD / "cache").rglob("*.json"))


def test_results_are_exported_to_a_path_that_is_not_utf8(work):
    """The line that says so shows the bytes."""
    invoke("run", "study.json", *LOCAL, "--out", "run")
    result = invoke("results", "run", "--to", f"{ODD}.csv")

    assert r"2 rows written to caf\xe9\n\x1b.csv" + "\n" == result.stdout
    assert (work / f"{ODD}.csv").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "{work}/study.json", *LOCAL],
        ["run", "{work}/study.json", *LOCAL, "--out", "{work}/new"],
        ["run", "study.json"],
        ["plan", "{work}/study.json"],
        ["profile", "{work}/study.json", "--model", "model.py:simulate"],
        ["status", "run"],
        ["results", "run"],
        ["results", "run", "--to", "x.csv"],
        ["kuberay", "render", "{work}/study.json"],
        ["kuberay", "check", "x.yaml"],
        ["submit", "{work}/study.json", "--address", "http://127.0.0.1:1", "--out", "/runs"],
        ["jobs", "list", "--address", "http://127.0.0.1:1"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_working_folder_that_was_removed_is_one_line(work, monkeypatch, arguments):
    """Nothing is made anywhere."""
    gone = work / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    before = tree(work)
    result = invoke(*(argument.format(work=work) for argument in arguments))

    assert result.exit_code in {1, 2}
    assert ("", 1) == (result.stdout, len(result.stderr.splitlines())), result.stderr
    assert before == tree(work)


def test_a_run_elsewhere_is_read_from_a_working_folder_that_was_removed(work, monkeypatch):
    """It is not needed for that."""
    invoke("run", "study.json", *LOCAL, "--out", "run")
    (work / "gone").mkdir()
    monkeypatch.chdir(work / "gone")
    (work / "gone").rmdir()

    assert 0 == invoke("status", work / "run").exit_code
    assert 0 == invoke("results", work / "run").exit_code


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
@pytest.mark.parametrize("command", ["run", "plan", "profile"])
def test_a_cache_that_is_a_file_is_one_line(work, monkeypatch, variable, command):
    """It names the variable that says where the cache is, before anything is made."""
    (work / "file").touch()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv(variable, str(work / "file"))
    before = tree(work)
    result = invoke(command, "study.json", *LOCAL)

    assert (1, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines()))
    assert result.stderr.endswith("XDG_CACHE_HOME says where profiles are kept\n")
    assert before == tree(work)
