"""What an import leaves open, and what a fork has of it; every case forks once and asks the fork."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import tempfile

import pytest

from modelops_ray.sandbox.descriptors import HIGH, ModelsDescriptors, high, open_descriptors, shared_mappings

LETTERS = b"abcdefghij"


@pytest.fixture
def letters(tmp_path):
    """A file of ten letters."""
    path = tmp_path / "letters"
    path.write_bytes(LETTERS)
    return path


@pytest.fixture
def left(tmp_path):
    """Look at what was opened since the beginning of the test; it is closed at the end."""
    before, maps = open_descriptors(), shared_mappings()
    yield lambda: ModelsDescriptors.left_since(before, maps)
    for fd in open_descriptors() - before:
        os.close(fd)


def in_a_fork(models, folder, ask):
    """What a function returns in a fork that has made the descriptors its own."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            models.make_own(str(folder))
            os.write(write_fd, json.dumps(ask()).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    os.waitpid(pid, 0)
    with os.fdopen(read_fd, "rb") as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_NOFOLLOW])
def test_a_file_that_is_read_has_the_same_offset_and_flags_and_moves_alone(letters, left, tmp_path, flags):
    """At the number that the model knows."""
    fd = os.open(letters, flags)
    os.lseek(fd, 3, os.SEEK_SET)
    models = left()

    def ask():
        return os.read(fd, 2).decode(), fcntl.fcntl(fd, fcntl.F_GETFL), os.get_inheritable(fd)

    there = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NOFOLLOW
    answer, flags_there, is_inheritable = in_a_fork(models, tmp_path, ask)
    assert ("de", there, False) == (answer, flags_there & ~os.O_NOFOLLOW, is_inheritable)
    assert 3 == os.lseek(fd, 0, os.SEEK_CUR)


def test_what_shared_an_offset_shares_it_and_what_did_not_does_not(letters, left, tmp_path):
    """Two numbers of one open file, and the same file opened again at the same place."""
    one = os.open(letters, os.O_RDONLY)
    same, other = os.dup(one), os.open(letters, os.O_RDONLY)

    def ask():
        return [os.read(fd, 2).decode() for fd in (one, same, other)]

    assert ["ab", "cd", "ab"] == in_a_fork(left(), tmp_path, ask)
    assert b"ab" == os.read(one, 2)


def test_a_log_is_shared_and_its_lines_follow_one_another(tmp_path, left):
    """None is overwritten, although it was not opened for appending."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    models = left()
    for line in (b"one\n", b"two\n"):
        in_a_fork(models, tmp_path, lambda line=line: os.write(fd, line))
    assert "one\ntwo\n" == (tmp_path / "log").read_text()


@pytest.mark.parametrize("make", [tempfile.TemporaryFile, lambda: os.fdopen(os.memfd_create("m"), "r+b")])
def test_a_file_without_a_name_is_copied(tmp_path, left, make):
    """With what it holds, for all its numbers; what a fork writes there no other reads."""
    file = make()
    os.write(file.fileno(), LETTERS)
    again = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
    models = left()

    def ask():
        os.pwrite(file.fileno(), b"XY", 0)
        return os.pread(again, 20, 0).decode(), os.lseek(file.fileno(), 0, os.SEEK_CUR)

    assert ["XYcdefghij", 10] == in_a_fork(models, tmp_path, ask)
    assert LETTERS == os.pread(again, 20, 0)
    assert [] == list(tmp_path.iterdir())
    file.close()


def test_a_lock_stays_with_all(tmp_path, left):
    """It belongs to the description: with one of its own, a fork would wait for its server."""
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert in_a_fork(left(), tmp_path, lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None


def test_a_file_that_is_locked_for_reading_is_read_by_each_alone(letters, left, tmp_path):
    """None of them writes to it: the one that holds the lock for all goes on."""
    fd = os.open(letters, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert "ab" == in_a_fork(left(), tmp_path, lambda: os.read(fd, 2).decode())
    assert b"ab" == os.read(fd, 2)


UNSHARED = {
    "a pipe": os.pipe,
    "a socket": lambda: [end.detach() for end in socket.socketpair()],
    "an event queue": lambda: os.eventfd(0),
    "memory that forks share": lambda: mmap.mmap(-1, 100),
}


@pytest.mark.parametrize(("what", "make"), UNSHARED.items(), ids=UNSHARED)
def test_what_a_fork_cannot_have_as_its_own_is_named(left, what, make):
    """An answer to one would reach another."""
    kept = make()
    assert what in left().why_not_fork
    del kept


def test_a_file_that_is_locked_for_writing_is_named(tmp_path, left):
    """Its lock is this process's alone."""
    fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    assert f"leaves {tmp_path}/data locked" in left().why_not_fork


def test_a_large_file_without_a_name_is_named(tmp_path, left):
    """A copy for each fork would take long and fill the disk."""
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.truncate(65 * 2**20)
        assert "a file without a name open, of 65 MiB" in left().why_not_fork


@pytest.mark.parametrize("path", ["/dev/null", "/dev/urandom", "/proc/self/stat", "/"])
def test_devices_and_folders_are_no_reason(left, path):
    """Sharing them changes nothing, or they are opened again."""
    os.open(path, os.O_RDONLY)
    assert (1, "") == (len(left().fds), left().why_not_fork)


def test_ours_is_out_of_the_models_way():
    """Above what is handed out from below; inherited by no program."""
    fd = high(os.open("/dev/null", os.O_RDONLY))
    assert fd >= HIGH
    assert not os.get_inheritable(fd)
    os.close(fd)
