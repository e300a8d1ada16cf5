"""Files appear whole or not at all, and every refusal of the file system names the file and the remedy."""

import ctypes
import errno
import os
from pathlib import Path

import pytest
from support.stores import DiedError, dying

from modelops_ray.errors import ResultsError, StorageError
from modelops_ray.store.storage import local as files
from modelops_ray.store.storage import names
from modelops_ray.store.storage.local import LocalFolder


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
    """The session that took the name may have cleaned up before the link."""
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
    """A name that was not taken is not said to be."""
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


def no_links(number):
    """A volume that refuses hard links."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


REFUSALS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK]


@pytest.mark.parametrize("number", REFUSALS)
def test_a_volume_without_hard_links_is_written_all_the_same(folder, monkeypatch, number):
    """A rename that replaces nothing does the same; of two that create a file one is still told."""
    monkeypatch.setattr(os, "link", no_links(number))

    assert [True, False] == [folder.create("a", b"1"), folder.create("a", b"2")]
    assert (b"1", []) == (folder.read("a"), folder.leftovers())
    held = folder.hold()
    assert [True, False] == [held.create("b", b"1"), held.create("b", b"2")]


@pytest.mark.parametrize("number", REFUSALS)
def test_a_volume_that_can_do_neither_is_named_with_the_reason(folder, monkeypatch, number):
    """It is not a matter of permissions."""
    monkeypatch.setattr(os, "link", no_links(number))
    monkeypatch.setattr(names, "_renameat2", lambda: None)

    with pytest.raises(
        StorageError, match=r"/a: neither hard links nor renames .* choose a directory on another volume"
    ):
        folder.create("a", b"1")
    assert (None, []) == (folder.read("a"), folder.leftovers())


def test_a_directory_where_links_are_forbidden_and_nothing_else_works_is_a_matter_of_permissions(folder, monkeypatch):
    """What the rename says is told, then."""
    monkeypatch.setattr(os, "link", no_links(errno.EPERM))

    def rename(*_):
        ctypes.set_errno(errno.EACCES)
        return -1

    monkeypatch.setattr(names, "_renameat2", lambda: rename)
    with pytest.raises(StorageError, match="/a: Permission denied; let this user write there"):
        folder.create("a", b"1")


def test_what_is_held_stays_what_it_is(tmp_path):
    """Reads and writes go to the directory that was opened, wherever it is, and never to one of its name."""
    held = LocalFolder(tmp_path / "run").hold(make=True)
    held.replace("a/b", b"1")
    inner = held.inside("a").hold()
    assert (True, True) == (held.is_in_place(), inner.is_in_place())

    (tmp_path / "run").rename(tmp_path / "aside")
    LocalFolder(tmp_path / "run").replace("a/b", b"other")

    assert (False, False) == (held.is_in_place(), inner.is_in_place())
    assert (b"1", b"1") == (held.read("a/b"), inner.read("b"))
    inner.create("c", b"2")
    assert (["b", "c"], ["b"]) == (
        [path.name for path in sorted((tmp_path / "aside" / "a").iterdir())],
        LocalFolder(tmp_path / "run").names("a"),
    )


def test_a_directory_that_was_removed_under_its_holder_is_not_made_again(tmp_path):
    """Nor is anything written into one that was made in its place, even with the same inode."""
    held = LocalFolder(tmp_path / "run").hold(make=True)
    (tmp_path / "run").rmdir()
    (tmp_path / "run").mkdir()

    for write in (held.create, held.replace):
        with pytest.raises(StorageError, match="run/a: No such file"):
            write("a", b"1")
    assert (False, []) == (held.is_in_place(), list((tmp_path / "run").iterdir()))


def test_what_a_link_leads_to_is_moved_aside_beside_itself(tmp_path):
    """The link stays, and what is made anew is where it was."""
    disk = tmp_path / "disk"
    (disk / "runs").mkdir(parents=True)
    link = tmp_path / "run"
    link.symlink_to(disk / "runs" / "sir")
    folder = LocalFolder(link)
    folder.replace("a", b"old")

    folder.move_aside(".old", {}, bytes)
    folder.replace("a", b"new")

    assert link.is_symlink()
    assert ["sir", "sir.old"] == sorted(path.name for path in (disk / "runs").iterdir())
    assert (b"new", b"old") == (
        (disk / "runs" / "sir" / "a").read_bytes(),
        (disk / "runs" / "sir.old" / "a").read_bytes(),
    )
    assert ["disk", "run"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_directory_that_came_in_between_is_put_back(tmp_path, monkeypatch):
    """A name can only be renamed for what it leads to at that moment."""
    path = tmp_path / "run"
    held = LocalFolder(path).hold(make=True)
    real = files._renamed

    def overtaken(*args):
        path.rename(tmp_path / "elsewhere")
        LocalFolder(path).replace("a", b"another")
        return real(*args)

    monkeypatch.setattr(files, "_renamed", overtaken)
    with pytest.raises(StorageError, match="run: another session started over at the same moment; start again"):
        held.move_aside(".old", {}, bytes)
    assert ["elsewhere", "run"] == sorted(each.name for each in tmp_path.iterdir())
    assert b"another" == (path / "a").read_bytes()


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder):
    """Nor is a folder taken for a file."""
    folder.replace("a/b", b"")
    os.mkfifo(folder.root / "a" / "pipe")

    for name in ("a", "a/pipe"):
        with pytest.raises(StorageError, match=f"/{name}: not a regular file"):
            folder.read(name)


def test_a_document_that_no_memory_has_to_hold_is_refused_unread(folder):
    """Nine terabytes, of which the disk has none; a part may be as large as the results are."""
    folder.replace("run.json", b"")
    os.truncate(Path(folder.where("run.json")), 9 * 10**12)

    with pytest.raises(
        ResultsError, match=r"run\.json: it has 9,000,000,000,000 bytes, more than the 1,073,741,824 of"
    ):
        folder.read("run.json")
