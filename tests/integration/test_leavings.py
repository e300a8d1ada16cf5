"""The folder of fork servers, and which processes are still one's own."""

from __future__ import annotations

import os
import subprocess
import tempfile

import pytest

from modelops_ray.errors import ModelError
from modelops_ray.runner.leavings import base_folder, kill_group, locked, sweep, write_server
from modelops_ray.runner.watch import process, processes


@pytest.fixture
def place(tmp_path_factory, monkeypatch):
    """A short folder for temporary files."""
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
    """Whoever could would run code as this user."""
    assert 0o700 == base_folder().stat().st_mode & 0o777


@pytest.mark.parametrize("mode", [0o701, 0o770, 0o750])
def test_a_folder_that_others_can_open_is_refused(place, mode):
    """It says what to do."""
    base_folder().chmod(mode)
    with pytest.raises(ModelError, match="not a folder of this user alone; remove it, or set TMPDIR"):
        base_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_that_somebody_else_made_is_refused(place):
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
