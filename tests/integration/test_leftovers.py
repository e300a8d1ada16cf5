"""The folder of fork servers, and which processes are still one's own."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from modelops_ray.errors import ModelError
from modelops_ray.runner.server_folders import base_folder, clear, kill_group, locked, sweep, wait_for_end, write_server
from modelops_ray.sandbox.processes import process, processes


@pytest.fixture
def place(tmp_path_factory, monkeypatch):
    """A short folder for temporary files."""
    tmp_path_factory.getbasetemp()  # pytest's own stays where it is
    with tempfile.TemporaryDirectory(prefix="mr", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield folder


@pytest.fixture
def sleeper():
    """A process that leads a group of its own."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as started:
        yield started
        started.kill()


def test_only_this_user_can_open_the_folder_of_servers(place):
    """A user who could would run code as this one."""
    assert 0o700 == base_folder().stat().st_mode & 0o777


@pytest.mark.parametrize("mode", [0o701, 0o770, 0o750])
def test_a_folder_that_others_can_open_is_refused(place, mode):
    """It says what to do."""
    base_folder().chmod(mode)
    with pytest.raises(ModelError, match="not a folder of this user alone; remove it, or set TMPDIR"):
        base_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_that_another_user_made_is_refused(place):
    """They could put a socket there."""
    os.chown(base_folder(), 12345, 12345)
    with pytest.raises(ModelError, match="not a folder of this user alone"):
        base_folder()


def test_a_link_to_another_folder_is_refused(place, tmp_path):
    """Its target may change."""
    base = base_folder()
    base.rmdir()
    base.symlink_to(tmp_path)
    with pytest.raises(ModelError, match="not a folder of this user alone"):
        base_folder()


@pytest.mark.parametrize("plant", ["file", "pipe", "dangling link", "link to a folder of ours"])
def test_what_others_put_where_the_folder_is_to_be_is_refused_in_one_line(place, tmp_path, plant):
    """It is left as it is, and what to do is said."""
    base = base_folder()
    base.rmdir()
    (tmp_path / "home").mkdir(mode=0o700)
    make = {
        "file": base.touch,
        "pipe": lambda: os.mkfifo(base),
        "dangling link": lambda: base.symlink_to(tmp_path / "nowhere"),
        "link to a folder of ours": lambda: base.symlink_to(tmp_path / "home"),
    }
    make[plant]()
    before = base.lstat()
    with pytest.raises(ModelError, match="not a folder of this user alone; remove it, or set TMPDIR"):
        base_folder()
    assert before == base.lstat()
    assert [] == list((tmp_path / "home").iterdir())


def test_a_place_that_cannot_be_written_is_refused_in_one_line(monkeypatch):
    """As when TMPDIR is on a disk that is gone."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self")
    with pytest.raises(OSError, match=r"/proc/self/modelops-ray-.*: no folder for temporary files: .*; set TMPDIR"):
        base_folder()


def test_a_place_where_others_rename_what_is_ours_is_not_used(place):
    """A user who may write to a folder without the sticky bit may put another one in the place of ours."""
    Path(place).chmod(0o777)
    assert Path("/tmp") == base_folder().parent
    Path(place).chmod(0o1777)
    assert Path(place) == base_folder().parent


def test_a_server_that_is_just_ending_is_waited_for_before_what_it_left_is_swept(place, sleeper):
    """One that was killed has closed its socket some time before it has ended; its folder is about to be replaced."""
    base = base_folder()
    folder = base / "0123456789ab"
    folder.mkdir(mode=0o700)
    server = subprocess.Popen(["sleep", "600"])
    write_server(folder, server.pid)
    (folder / "children").write_text(f"{sleeper.pid} {process(sleeper.pid).started_ticks}\n")
    threading.Timer(0.3, server.kill).start()
    with locked(base):
        wait_for_end(folder, 10.0)
        sweep(base)
    server.wait()
    assert -signal.SIGKILL == sleeper.wait(timeout=10)


def planted(tmp_path, sleeper):
    """What a dead server leaves, in a folder elsewhere: a running process is its child."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "server").write_text("999999 1\n")
    (elsewhere / "children").write_text(f"{sleeper.pid} {process(sleeper.pid).started_ticks}\n")
    return elsewhere


def test_a_link_that_is_called_like_a_server_is_not_followed(place, tmp_path, sleeper):
    """Neither are processes killed nor files removed that lie where it leads."""
    base = base_folder()
    elsewhere = planted(tmp_path, sleeper)
    (base / "0123456789ab").symlink_to(elsewhere)
    with locked(base):
        sweep(base)

    assert sleeper.poll() is None
    assert ["children", "server"] == sorted(path.name for path in elsewhere.iterdir())


@pytest.mark.parametrize("name", ["server", "children"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_of_a_server_that_is_a_link_names_no_process(place, tmp_path, sleeper, name, link):
    """A symbolic one leads elsewhere, and what has two names is not ours alone."""
    base = base_folder()
    elsewhere = planted(tmp_path, sleeper)
    (base / "dead").mkdir()
    for each in ("server", "children"):
        (base / "dead" / each).write_bytes((elsewhere / each).read_bytes())
    (base / "dead" / name).unlink()
    link(elsewhere / name, base / "dead" / name)
    with locked(base):
        sweep(base)

    assert sleeper.poll() is None
    assert (elsewhere / name).exists()


@pytest.mark.parametrize("lines", ["0 0\n1 1\n-1 5\n", "x y\n1e3 2\n\xff 1\n", "9" * 5000 + " 1\n", "²³ 4\n"])
def test_lines_that_name_no_process_kill_none(place, lines):
    """The group 0 would be our own."""
    base = base_folder()
    (base / "dead").mkdir()
    (base / "dead" / "server").write_text(lines)
    (base / "dead" / "children").write_text(lines)
    with locked(base):
        sweep(base)
    assert not (base / "dead").exists()


def test_the_lock_is_not_taken_through_a_link(place, tmp_path):
    """What it leads to would be emptied."""
    base = base_folder()
    (tmp_path / "precious").write_text("x")
    (base / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ModelError, match="lock is not a file of this user alone"), locked(base):
        pass
    assert "x" == (tmp_path / "precious").read_text()


@pytest.mark.parametrize("plant", ["file", "link"])
def test_what_lies_where_a_server_is_to_be_goes_away(place, tmp_path, plant):
    """A link goes, and not where it leads."""
    (tmp_path / "precious").mkdir()
    folder = base_folder() / "0123456789ab"
    folder.touch() if plant == "file" else folder.symlink_to(tmp_path / "precious")
    clear(folder)
    assert not folder.is_symlink()
    assert not folder.exists()
    assert (tmp_path / "precious").exists()


def test_a_group_is_killed_by_its_number_and_the_start_of_its_leader(sleeper):
    """Numbers are given away again."""
    ticks = process(sleeper.pid).started_ticks
    kill_group(sleeper.pid, ticks + 1, processes())
    assert sleeper.poll() is None
    kill_group(sleeper.pid, ticks, processes())
    assert -9 == sleeper.wait(5)


def test_what_a_dead_server_wrote_down_is_swept_and_a_living_one_is_left_alone(place, sleeper):
    """A server is alive while the process is that has its number and its start."""
    base = base_folder()
    living, dead = base / "living", base / "dead"
    living.mkdir()
    dead.mkdir()
    write_server(living, os.getpid())
    (dead / "server").write_text(f"{os.getpid()} 1\n")
    (dead / "children").write_text(f"{sleeper.pid} {process(sleeper.pid).started_ticks}\nhalf a li")
    with locked(base):
        sweep(base)
    assert -9 == sleeper.wait(5)
    assert living.exists()
    assert not dead.exists()
