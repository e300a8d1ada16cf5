"""Which files count of those that a model's code opens, by which names, and that a change of one is seen."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from modelops_ray.sandbox.held import held
from modelops_ray.sandbox.reading import (
    MAX_FILES,
    FileState,
    Reading,
    digest_at,
    digest_of_file,
    name_of,
    path_of,
    stamp_of,
    states_of,
)


@pytest.fixture
def own(tmp_path):
    """The folder of a model."""
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def made(path: Path) -> str:
    """Write a file with the folders above it, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("1")
    return str(path)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("data/pop.csv", "data/pop.csv"),
        (".params.json", ".params.json"),
        ("helper.py", "helper.py"),
        ("../beside.csv", "../beside.csv"),
        (".venv/lib/x.py", None),
        ("venv/lib/python3.11/site-packages/x/data.csv", None),
        ("../.cache/x.csv", None),
        ("data", None),
        ("not-there.csv", None),
    ],
)
def test_what_is_the_models_counts(own, name, counts):
    """Data and modules below its folder or elsewhere; not what is installed, hidden, a folder, or not there."""
    path = own / name
    if name == "data":
        path.mkdir()
    elif name != "not-there.csv":
        made(path)
    reading = Reading(f"{own}/")
    reading.note(str(path))
    assert ([] if counts is None else [counts]) == [name_of(found, str(own)) for found in reading.found]


def test_a_compiled_module_counts_as_its_source(own):
    """Where Python reads no source, a change of the source is what matters."""
    source, compiled = made(own / "helper.py"), made(own / f"__pycache__/helper.{sys.implementation.cache_tag}.pyc")
    reading = Reading("/nowhere/")
    reading.note(compiled)
    assert [source] == list(reading.found)


@pytest.mark.parametrize("path", ["/proc/self/status", "/etc/hostname", os.__file__, tempfile.__file__])
def test_what_is_the_systems_or_pythons_does_not_count(path):
    """It differs from one node to the next, and is no data of a model's."""
    reading = Reading("/nowhere/")
    reading.note(path)
    assert {} == reading.found


def test_what_this_process_wrote_does_not_count(own):
    """Unless it had read it before."""
    read, written = made(own / "read.csv"), made(own / "written.csv")
    reading = Reading(f"{own}/")
    reading.note(read)
    for path in (read, written):
        reading.wrote(path)
        reading.note(path)
    assert [read] == list(reading.found)


def test_a_file_that_has_changed_is_told_again(own):
    """Also one of the same size, changed at once: a stamp that could not tell is not taken."""
    path = made(own / "x.csv")
    reading = Reading(f"{own}/")
    reading.note(path)
    reading.note(path)
    assert [path] == [each for each, _ in reading.fresh]
    assert reading.is_current()
    Path(path).write_text("2")
    assert not reading.is_current()
    reading.note(path)
    assert [path, path] == [each for each, _ in reading.fresh]


def test_what_is_known_is_not_told_again(own):
    """What the run began with; everything else is told once more where another process asks."""
    known, other = made(own / "known.csv"), made(own / "other.csv")
    reading = Reading(f"{own}/")
    for path in (known, other):
        reading.note(path)
    reading.known = {(known, reading.found[known])}
    reading.fresh.clear()
    reading.tell_again()
    assert [other] == [path for path, _ in reading.fresh]


def test_no_more_files_are_noted_than_can_be_told(own, monkeypatch):
    """A model that opens a file for every simulation is not slowed down without end."""
    reading = Reading(f"{own}/")
    for n in range(MAX_FILES + 3):
        (own / f"{n}.csv").touch()
    held_s = held.unix_s
    monkeypatch.setattr(held, "unix_s", lambda: held_s() + 10)
    for n in range(MAX_FILES + 3):
        reading.note(str(own / f"{n}.csv"))
    assert MAX_FILES == len(reading.found) == len(reading.fresh)


def test_a_digest_is_that_of_the_moment_of_its_stamp(own):
    """What was in a file before a change is not known afterwards, and never taken from what is in it then."""
    path = made(own / "x.csv")
    stamp = stamp_of(path)
    before = digest_at(path, stamp)
    assert before == digest_of_file(path)
    Path(path).write_text("22")
    assert digest_at(path, stamp) is None
    assert digest_of_file(path) not in (before, None)
    Path(path).unlink()
    assert digest_of_file(path) is None


def test_names_are_relative_to_the_models_folder_and_lead_back(own):
    """Far from there they are absolute, and where there is no such folder."""
    for path, name in ((own / "a/b.csv", "a/b.csv"), (own.parent / "c.csv", "../c.csv"), (Path("/c.csv"), "/c.csv")):
        assert name == name_of(str(path), str(own))
        assert str(path) == path_of(name, str(own))
    assert "/c.csv" == name_of("/c.csv", "")


def test_states_are_sorted_and_without_what_is_gone(own):
    """A temporary file of the import is not asked for on any node."""
    paths = [made(own / "b"), made(own / "a"), str(own / "gone")]
    found = states_of(paths, str(own))
    assert ["a", "b"] == [state.path for state in found]
    assert all(isinstance(state, FileState) and state.sha256 for state in found)
