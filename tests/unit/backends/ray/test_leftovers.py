"""Ending what a killed owner left running: who is found, and who is not."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from modelops_ray.backends.ray.leftovers import end_processes_writing

HOLD = "import sys; held = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"


@pytest.fixture
def holder():
    """Starts processes that hold a file open until they are ended."""
    started = []

    def hold(path, mode):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        process.stdout.readline()
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_who_writes_below_the_folder_is_killed(tmp_path, holder):
    """However deep the file lies."""
    (tmp_path / "ours" / "logs").mkdir(parents=True)
    writer = holder(tmp_path / "ours" / "logs" / "agent.log", "a")
    assert [writer.pid] == end_processes_writing(tmp_path / "ours")
    assert -9 == writer.wait()


def test_a_python_without_handles_of_processes_ends_them_all_the_same(tmp_path, holder, monkeypatch):
    """Those built against an older C library lack them."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.delattr(signal, "pidfd_send_signal", raising=False)
    assert [holder(tmp_path / "agent.log", "a").pid] == end_processes_writing(tmp_path)


def test_who_only_reads_below_it_is_left_alone(tmp_path, holder):
    """A user may be looking at the logs."""
    (tmp_path / "agent.log").touch()
    reader = holder(tmp_path / "agent.log", "r")
    assert [] == end_processes_writing(tmp_path)
    assert reader.poll() is None


def test_who_writes_beside_it_is_left_alone(tmp_path, holder):
    """A folder whose name begins alike is another one."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours-too").mkdir()
    writer = holder(tmp_path / "ours-too" / "file", "w")
    assert [] == end_processes_writing(tmp_path / "ours")
    assert writer.poll() is None


def test_this_process_is_left_alone(tmp_path):
    """It may hold the lock of the folder it is about to remove."""
    with (tmp_path / "lock").open("w"):
        assert [] == end_processes_writing(tmp_path)


def test_without_proc_no_process_is_found(tmp_path):
    """Other systems have none."""
    assert [] == end_processes_writing(tmp_path, tmp_path / "proc")


def test_a_process_that_could_not_be_looked_at_is_not_one_that_has_gone(tmp_path, holder):
    """With one descriptor left the processes are found, but not what they have open."""
    writer = holder(tmp_path / "agent.log", "a")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 1, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            end_processes_writing(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert writer.poll() is None
