"""What is told of files that more than one simulation writes."""

from __future__ import annotations

from support.workrooms import simulating

from modelops_ray.runner.shared_files import SharedFiles
from modelops_ray.sandbox.workroom import Workroom


def test_a_file_that_two_simulations_write_is_told_once():
    """One that writes it again tells nothing."""
    files = SharedFiles()
    files.note([(1, "/tmp/out.csv"), (1, "/tmp/out.csv"), (2, "/tmp/2.csv")], [])
    assert "" == files.notice
    files.note([(2, "/tmp/out.csv"), (3, "/tmp/out.csv")], [])
    assert files.notice.startswith("several simulations write /tmp/out.csv, where each meets what others wrote; ")
    assert "" == files.notice


def test_a_file_of_the_models_that_changed_unseen_is_told(tmp_path, monkeypatch):
    """A library in C that writes over a large one is not seen doing so."""
    models, place = tmp_path / "model", tmp_path / "place"
    models.mkdir()
    place.mkdir()
    large = models / "run.parquet"
    large.write_bytes(bytes(2**19))
    monkeypatch.chdir(models)
    workroom = Workroom(str(models), str(place))
    with simulating(workroom):
        large.write_bytes(b"changed by something that is not seen")
    workroom.update_changed()
    files = SharedFiles()
    files.note([], workroom.changed)
    assert files.notice.startswith(f"{large} was changed while simulations ran, where all of them see it; ")
    workroom.clear()
    assert [] == [path for path in place.rglob("*") if path.name == models.name]


def test_a_folder_with_very_many_entries_is_shared(tmp_path, monkeypatch):
    """Links to all of them would cost more than they protect."""
    monkeypatch.setattr("modelops_ray.sandbox.mirror.MAX_ENTRIES", 2)
    models = tmp_path / "model"
    models.mkdir()
    for name in "abc":
        (models / name).touch()
    monkeypatch.chdir("/")
    workroom = Workroom(str(models), str(tmp_path / "place"))
    with simulating(workroom):
        assert models.samefile(".")
    assert workroom.is_shared


def test_more_files_than_are_recorded_are_told_once():
    """A later change of one after these would not be noticed."""
    files = SharedFiles()
    files.note_read(999)
    assert "" == files.notice
    for _ in range(2):
        files.note_read(1000)
    assert files.notice.startswith("a process read more than 1,000 files")
    assert "" == files.notice
