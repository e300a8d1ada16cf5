"""A working directory is handed on to the next process where it is as it was made, and made anew otherwise."""

import os
from pathlib import Path

import pytest

from modelops_ray.runner.workroom import Workroom


def names(folder):
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())


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
def worked(models, tmp_path):
    """Do something in the working directory of a process of its own, which then leaves it; tell what it found."""

    def work(name, does=lambda: None):
        place = tmp_path / name
        place.mkdir()
        workroom = Workroom(str(models), str(place), str(tmp_path / "rooms"))
        with workroom.entered():
            found = Path().stat().st_ino, names(Path()), Path("../beside.csv").read_text()
            does()
        workroom.leave()
        return found, names(place)

    return work


def test_what_was_left_untouched_is_the_next_ones(worked):
    """The same folder, with all that it has; nothing stays with the one before."""
    first, left = worked("first")
    assert ["data", "in.csv", "old.parquet"] == first[1]
    assert ([], (first, [])) == (left, worked("second"))


@pytest.mark.parametrize(
    "does",
    [
        lambda: Path("out.csv").write_text("1"),
        lambda: Path("data/out.csv").write_text("1"),
        lambda: Path("../out.csv").write_text("1"),
        lambda: os.truncate(os.open("old.parquet", os.O_RDWR), 1),
        lambda: Path("in.csv").unlink(),
    ],
    ids=["a new file", "a file below", "a file above", "a copy written over", "a link removed"],
)
def test_what_was_written_to_is_removed(worked, models, does):
    """The next one finds what the model's folder has, and nothing else."""
    before = {path: path.read_bytes() for path in models.parent.rglob("*") if path.is_file()}
    first, left = worked("first", does)
    second, _ = worked("second")
    assert ([], first[1:]) == (left, second[1:])
    assert before == {path: path.read_bytes() for path in models.parent.rglob("*") if path.is_file()}


def test_what_was_made_of_another_state_of_the_folder_is_not_taken(worked, models):
    """A file that came to the model's folder is seen."""
    worked("first")
    (models / "new.csv").write_text("new")
    second, _ = worked("second")
    assert "new.csv" in second[1]


def test_what_is_damaged_is_not_taken(worked, tmp_path):
    """What says how it was made may be anything."""
    worked("first")
    (room,) = (tmp_path / "rooms").iterdir()
    (room / "made").write_text('["x", 1, [], {}, 2, "n"]')
    second, _ = worked("second")
    assert ["data", "in.csv", "old.parquet"] == second[1]


def test_a_models_folder_that_is_gone_is_an_empty_one(tmp_path, monkeypatch):
    """It may be removed while a run is on; simulations have what they write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    workroom = Workroom(str(tmp_path / "gone"), str(tmp_path / "place"), str(tmp_path / "rooms"))
    with workroom.entered():
        assert [] == names(Path())
