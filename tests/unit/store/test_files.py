"""Files appear whole or not at all, and every refusal of the file system names the file and the remedy."""

import errno
import os
from pathlib import Path

import pytest
from support.stores import DiedError, dying

from modelops_ray.errors import StorageError
from modelops_ray.store.files import LocalFolder


@pytest.fixture
def folder(tmp_path):
    """A directory that is not there yet, nor the one above it."""
    return LocalFolder(tmp_path / "deep" / "er")


def test_a_file_reads_back_with_its_size(folder):
    """Directories are made on the way."""
    folder.replace("a/b", b"text")

    assert (folder.read("a/b"), folder.size("a/b"), folder.names("a")) == (b"text", 4, ["b"])


def test_only_a_missing_file_is_not_there(folder):
    """A name below a file is an error, not an absence."""
    folder.replace("a", b"")

    assert (folder.read("b"), folder.size("b"), folder.names("b")) == (None, None, [])
    with pytest.raises(StorageError, match=r"a/b: a file is where a folder should be"):
        folder.read("a/b")


def test_a_directory_has_no_size(folder):
    """It cannot be taken for a part."""
    folder.replace("a/b", b"")

    assert folder.size("a") is None


def test_removing_what_is_gone_is_fine(folder):
    """Cleaning up can be repeated."""
    folder.replace("a", b"")
    folder.remove("a")
    folder.remove("a")

    assert folder.names() == []


def test_a_taken_name_is_left_alone(folder):
    """Exactly one creator is told that it was the one."""
    assert [folder.create("a", b"1"), folder.create("a", b"2")] == [True, False]
    assert (folder.read("a"), folder.leftovers()) == (b"1", [])


@pytest.mark.parametrize("name", ["replace", "create"])
def test_a_file_is_old_or_new_after_a_crash_at_any_step(tmp_path, name):
    """No step in between shows."""
    died, after = True, 0
    while died:
        folder = LocalFolder(tmp_path / str(after))
        if name == "replace":
            folder.replace("a", b"old")
        try:
            with dying(after):
                getattr(folder, name)("a", b"new, and longer")
            died = False
        except DiedError:
            after += 1
        assert folder.read("a") in {b"old" if name == "replace" else None, b"new, and longer"}
    assert after > 4


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the device; free some and start again, nothing committed is lost"),
        (errno.EDQUOT, "no space left on the device; free some and start again, nothing committed is lost"),
        (errno.EACCES, "Permission denied; let this user write there"),
        (errno.EROFS, "Read-only file system; let this user write there"),
        (errno.EIO, "Input/output error; start again once that is repaired"),
    ],
)
def test_a_refusal_names_the_file_and_the_remedy(folder, monkeypatch, number, words):
    """And leaves nothing half-written behind."""
    folder.replace("a", b"old")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StorageError, match=f"/a: {words}"):
        folder.replace("a", b"new")

    assert (folder.read("a"), folder.leftovers()) == (b"old", [])


def test_a_write_taken_in_pieces_is_completed(folder, monkeypatch):
    """The operating system may take less than it is offered."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))

    folder.replace("a", b"0123456789")

    assert folder.read("a") == b"0123456789"


def test_a_writer_whose_temporary_file_was_swept_away_lost_the_race(folder, monkeypatch):
    """Whoever took the name may have cleaned up before the link."""
    real = os.link

    def too_late(source, target, **at):
        Path(source).unlink()
        folder.replace("a", b"winner")
        return real(source, target, **at)

    monkeypatch.setattr(os, "link", too_late)

    assert not folder.create("a", b"loser")
    assert folder.read("a") == b"winner"


def test_a_writer_whose_temporary_file_was_swept_away_for_nothing_tries_again(folder, monkeypatch):
    """A session that starts cleans up what it takes for a leftover."""
    real, swept = os.link, []

    def sweep_once(source, target, **at):
        if not swept:
            swept.append(Path(source).unlink())
        return real(source, target, **at)

    monkeypatch.setattr(os, "link", sweep_once)

    assert folder.create("a", b"data")
    assert (folder.read("a"), folder.leftovers()) == (b"data", [])


def test_a_lost_temporary_file_without_a_winner_is_an_error(folder, monkeypatch):
    """Nobody is told that the name was taken when it was not."""
    real = os.link

    def lost(source, target, **at):
        Path(source).unlink()
        return real(source, target, **at)

    monkeypatch.setattr(os, "link", lost)
    with pytest.raises(StorageError, match="/a: No such file"):
        folder.create("a", b"data")


def test_a_folder_is_not_moved_aside_from_inside_it(tmp_path, monkeypatch):
    """`.` would be what was moved, and the new run would be written there."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for root in (Path(), tmp_path / "run", tmp_path):
        with pytest.raises(StorageError, match="inside"):
            LocalFolder(root).move_aside(".before", {}, bytes)
    assert ["run"] == [path.name for path in tmp_path.iterdir()]
