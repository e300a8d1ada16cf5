"""An embedded Ray gets what is left once everything else has its share, and leaves nothing behind."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.backends.ray.embedded import (
    IDLE_WORKER_BYTES,
    MIB,
    OBJECT_STORE_BYTES,
    RAY_BYTES,
    _base_folder,
    _private_folder,
    sizes,
)
from modelops_ray.backends.ray.quiet import replaced
from modelops_ray.errors import BackendError

GIB = 2**30


@given(available=st.integers(0, 2**44), limit=st.none() | st.integers(1, 2**44), cpus=st.integers(1, 64))
def test_the_shares_add_up_to_the_limit(available, limit, cpus):
    """On machines of any size nothing is promised twice."""
    try:
        chosen = sizes(available, cpus, limit)
    except BackendError:
        return
    total = chosen.memory_bytes + chosen.object_store_bytes + RAY_BYTES + cpus * IDLE_WORKER_BYTES
    assert total == min(available, limit or available)
    assert OBJECT_STORE_BYTES[0] <= chosen.object_store_bytes <= OBJECT_STORE_BYTES[1]


def test_a_limit_lowers_what_tasks_may_declare():
    """And raises nothing above what there is."""
    declared = [sizes(8 * GIB, 2, limit).memory_bytes for limit in (2 * GIB, 4 * GIB, 100 * GIB, None)]
    assert declared == sorted(declared)
    assert declared[2] == declared[3]


def test_too_little_memory_says_how_much_is_needed():
    """The message names both numbers and the options that change them."""
    with pytest.raises(BackendError, match=r"512\.0 MiB .* 2 CPUs, which needs 658\.0 MiB.*--limit-memory"):
        sizes(512 * MIB, 2)


def test_the_folder_is_private_and_goes_away(tmp_path, monkeypatch):
    """No other user may read what is spilled."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with _private_folder() as folder:
        (folder / "spill").mkdir()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_kept(tmp_path, monkeypatch):
    """The lock tells them apart: it goes with the process that held it."""
    monkeypatch.setattr("modelops_ray.backends.ray.embedded._base_folder", lambda: tmp_path)
    for name in ("modelops-own-dead", "modelops-own-alive", "modelops-own-starting"):
        (tmp_path / name).mkdir()
    (tmp_path / "modelops-own-dead" / "lock").touch()
    with (tmp_path / "modelops-own-alive" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _private_folder():
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["modelops-own-alive", "modelops-own-starting"]


@pytest.mark.parametrize("plant", ["folder", "lock", "second name"])
def test_links_that_others_put_beside_it_are_not_followed(tmp_path, monkeypatch, plant):
    """Or a process that writes where they lead would be killed, and what lies there removed."""
    place, home = tmp_path / "tmp", tmp_path / "home"
    place.mkdir()
    home.mkdir()
    (home / "lock").touch()
    ours = place / "modelops-own-planted"
    if plant == "folder":
        ours.symlink_to(home)
    else:
        ours.mkdir()
        (ours / "lock").symlink_to(home / "lock") if plant == "lock" else os.link(home / "lock", ours / "lock")
    monkeypatch.setattr("modelops_ray.backends.ray.embedded._base_folder", lambda: place)
    killed = []
    monkeypatch.setattr("modelops_ray.backends.ray.embedded.end_processes_writing", killed.append)
    with _private_folder():
        pass
    assert [] == killed
    assert ours.exists()
    assert (home / "lock").exists()


@pytest.mark.parametrize("plant", ["file", "pipe"])
def test_what_is_called_like_it_and_is_no_folder_is_left_alone(tmp_path, monkeypatch, plant):
    """A pipe without a writer must not hold the start up either."""
    (tmp_path / "modelops-own-file").touch()
    (tmp_path / "modelops-own-pipe").mkdir()
    os.mkfifo(tmp_path / "modelops-own-pipe" / "lock")
    monkeypatch.setattr("modelops_ray.backends.ray.embedded._base_folder", lambda: tmp_path)
    with _private_folder():
        pass
    assert (tmp_path / f"modelops-own-{plant}").exists()


def test_no_folder_for_temporary_files_is_one_line(monkeypatch):
    """With what to do about it."""
    monkeypatch.setattr("modelops_ray.backends.ray.embedded._base_folder", lambda: Path("/proc/self"))
    with pytest.raises(BackendError, match=r"no folder for temporary files: .*; set TMPDIR"), _private_folder():
        pass


def test_a_long_temporary_folder_is_not_used(monkeypatch):
    """The paths of Ray's sockets would become too long."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 60)
    assert str(_base_folder()) == "/tmp"


def test_replaced_attributes_come_back_and_unknown_names_are_left_alone():
    """A newer Ray may not have what an older one had."""

    class Owner:
        kept = 1

    with replaced(Owner, {"kept": 2, "gone": 3}):
        assert (Owner.kept, "gone" in vars(Owner)) == (2, False)
    assert Owner.kept == 1
