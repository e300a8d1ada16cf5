"""A working directory is handed on to the next process where it is as it was made, and made anew otherwise."""

import ctypes
import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
from support.workrooms import simulating

from modelops_ray.sandbox.mirror import empty, is_as_made
from modelops_ray.sandbox.opened import watch
from modelops_ray.sandbox.workroom import Workroom


def names(folder):
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def program(command):
    """Run a command of the shell in the working directory."""
    subprocess.run(["sh", "-c", command], check=True)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A model's folder with a file, a small one that C libraries write, and a folder; and a neighbour."""
    folder = tmp_path / "study" / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "in.csv").write_text("in")
    (folder / "old.parquet").write_bytes(b"old")
    (tmp_path / "study" / "beside.csv").write_text("beside")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def place(tmp_path):
    """Where processes work, one after the other."""
    return tmp_path / "place"


@pytest.fixture
def worked(models, place):
    """Do something in the working directory as a process of its own that is killed then; tell what it found."""

    def work(does=lambda: None, *, ends_its_simulation=True):
        workroom = Workroom(str(models), str(place))
        workroom.enter()
        found = Path().stat().st_ino, names(Path()), names(Path("data")), names(Path(".."))
        does()
        if ends_its_simulation:
            workroom.leave(1.0)
        watch(None)
        os.chdir(models)
        if not is_as_made(str(place)):
            empty(str(place))
        return found

    return work


def test_what_was_left_untouched_is_the_next_ones(worked):
    """The same folder, with all that it has."""
    first = worked()
    assert (["data", "in.csv", "old.parquet"], [], ["beside.csv", "model"]) == first[1:]
    assert first == worked()


def test_of_a_process_that_was_killed_in_a_simulation_the_folder_is_used_as_well(worked):
    """Nearly all are killed: their supervisor has what it wanted."""
    assert worked(ends_its_simulation=False) == worked()


@pytest.mark.parametrize(
    "does",
    [
        lambda: Path("out.csv").write_text("1"),
        lambda: Path("data/out.csv").write_text("1"),
        lambda: Path("../out.csv").write_text("1"),
        lambda: os.truncate(os.open("old.parquet", os.O_RDWR), 1),
        lambda: Path("in.csv").unlink(),
        lambda: program("printf new > in.csv"),
        lambda: program("touch -r in.csv before; printf IN > in.csv; touch -r before in.csv; rm before"),
        lambda: program("printf new > data/new.csv"),
        lambda: program("chmod 500 data"),
        lambda: (Path("out.csv").write_text("1"), program("true")),
        lambda: (program("true"), ctypes.CDLL(None).mkdir(b"out", 0o700)),
    ],
    ids=[
        "a new file", "a file below", "a file above", "a copy written over", "a link removed",
        "a program wrote over a file", "a program kept the time of a file", "a program made a file below",
        "a program changed who may enter", "a program after a new file", "a library after a program",
    ],
)  # fmt: skip
@pytest.mark.parametrize("ends_its_simulation", [True, False], ids=["ended", "killed"])
def test_what_was_written_to_is_removed(worked, models, does, ends_its_simulation):
    """The next one finds what the model's folder has, and nothing else."""
    before = {path: path.read_bytes() for path in models.parent.rglob("*") if path.is_file()}
    first = worked(does, ends_its_simulation=ends_its_simulation)
    second = worked()
    assert first[1:] == second[1:]
    assert before == {path: path.read_bytes() for path in models.parent.rglob("*") if path.is_file()}


def test_copies_for_a_program_that_changed_nothing_are_the_next_ones(worked):
    """Some packages start a program in every simulation, and making a thousand copies takes a second."""
    first, copies = worked(lambda: program("true")), []
    second = worked(lambda: copies.append(not Path("in.csv").is_symlink()))
    third = worked(lambda: program("true"))
    assert (first, [True], first) == (second, copies, third)


def test_where_a_copy_cannot_be_made_the_folder_is_used_once(worked, models):
    """What the next simulation finds is made anew, once there is room."""
    (models / "in.csv").write_text("in" * 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def starts_a_program():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        program("true")
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    first, copies = worked(starts_a_program), []
    second = worked(lambda: (program("true"), copies.append(not Path("in.csv").is_symlink())))
    assert (first[1:], [True]) == (second[1:], copies)


def test_what_was_made_of_another_state_of_the_folder_is_not_taken(worked, models):
    """A file that came to the model's folder is seen."""
    worked()
    (models / "new.csv").write_text("new")
    assert "new.csv" in worked()[1]


@pytest.mark.parametrize(("name", "command"), [("old.parquet", ""), ("in.csv", "true")])
def test_a_copy_of_a_file_that_has_changed_since_is_not_taken(worked, models, name, command):
    """The next simulation reads what is in the model's folder now."""
    worked(lambda: program(command) if command else None)
    (models / name).write_bytes(b"changed")
    found = []
    worked(lambda: found.append(Path(name).read_bytes()))
    assert [b"changed"] == found


@pytest.mark.parametrize(
    "how",
    [
        '["x", 1, [], {}, 2, "n", false]', '["VERSION", "ELSEWHERE", {}, {}, {}, 0, false]', "[" * 5000, "",
        '["VERSION", "PLACE/work-1/../..", {}, {}, {}, 0, false]',
        '["VERSION", "PLACE/work-1/room/../../..", {}, {}, {}, 0, false]',
    ],
)  # fmt: skip
def test_what_is_damaged_is_not_taken(worked, models, place, how):
    """What says how it was made may be anything, and lead anywhere."""
    worked()
    version = json.loads((place / "made").read_text())[0]
    for name, meant in {"VERSION": version, "ELSEWHERE": str(models), "PLACE": str(place)}.items():
        how = how.replace(name, meant)
    (place / "made").write_text(how)
    assert ["data", "in.csv", "old.parquet"] == worked()[1]


@pytest.mark.parametrize("path", [b"out", b"data/out", b"../out"])
@pytest.mark.parametrize("ends_its_simulation", [True, False], ids=["ended", "killed"])
def test_what_a_library_wrote_unseen_is_removed(worked, path, ends_its_simulation):
    """It asks for no name, and shows in the times of folders."""
    first = worked(lambda: ctypes.CDLL(None).mkdir(path, 0o700), ends_its_simulation=ends_its_simulation)
    assert first[1:] == worked()[1:]


def test_a_models_folder_that_is_gone_is_an_empty_one(tmp_path, monkeypatch):
    """It may be removed while a run is on; simulations have what they write."""
    monkeypatch.chdir(tmp_path)
    workroom = Workroom(str(tmp_path / "gone"), str(tmp_path / "place"))
    with simulating(workroom):
        assert [] == names(Path())
