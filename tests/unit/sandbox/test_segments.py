"""Whose shared memory is, told from what Python and the kernel say; foreign text is passed over."""

from __future__ import annotations

import mmap
import os

import pytest

from modelops_ray.sandbox.board import BYTES, Board
from modelops_ray.sandbox.segments import Folder, Segments, held_by, recorded

MIB = 2**20


@pytest.fixture
def record(tmp_path):
    """A file that Python tells what it makes, as a descriptor."""
    fd = os.open(tmp_path / "record", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_what_was_told_of_and_not_taken_back_is_what_is_there(record):
    """Shared memory and semaphores; the latter have another name as files."""
    os.write(record, b"PROBE:0:noop\nREGISTER:/psm_a:shared_memory\nREGISTER:/psm_b:shared_memory\n")
    os.write(record, b"UNREGISTER:/psm_a:shared_memory\nREGISTER:/mp-1:semaphore\n")
    assert {"psm_b", "sem.mp-1"} == recorded(record, 0)


@pytest.mark.parametrize(
    "text",
    [
        b"REGISTER:/../etc/passwd:shared_memory\n", b"REGISTER:a/b:shared_memory\n", b"REGISTER::shared_memory\n",
        b"REGISTER:/folder:folder\n", b"\xff\xfe\n\n:::\n", b"REGISTER:" + b"x" * 300 + b":shared_memory\n",
        b"REGISTER:a\0b:shared_memory\n", b"REGISTER:/half",
    ],
)  # fmt: skip
def test_what_is_no_message_or_names_a_file_elsewhere_is_passed_over(record, text):
    """A model can write anything there."""
    os.write(record, text)
    assert set() == recorded(record, 0)


def test_a_folder_is_read_again_when_something_came_or_went_however_soon(tmp_path):
    """Two files within a tick of the clock of files are two."""
    folder = Folder(str(tmp_path))
    assert frozenset() == folder.names()
    for n in range(20):
        (tmp_path / str(n)).touch()
        assert n + 1 == len(folder.names())
    (tmp_path / "0").unlink()
    assert 19 == len(folder.names())
    assert frozenset() == Folder(str(tmp_path / "none")).names()


def test_a_memory_file_counts_as_far_as_it_is_not_mapped_or_not_in_memory(record):
    """What is mapped and touched is in a process already; what a server has is its own."""
    segments = Segments(record, 0, frozenset())
    # Others that this process has open are not of this test.
    before = held_by(os.getpid())
    assert 0 == segments.unmapped_bytes([os.getpid()], frozenset(), before)
    fd = os.memfd_create("test")
    try:
        os.write(fd, bytes(8 * MIB))
        assert 8 * MIB == segments.unmapped_bytes([os.getpid()], frozenset(), before)
        assert 0 == segments.unmapped_bytes([os.getpid()], frozenset(), held_by(os.getpid()))
        with mmap.mmap(fd, 0) as mapped:
            assert 8 * MIB == len(bytes(mapped))
            assert 0 == segments.unmapped_bytes([os.getpid()], frozenset(), before)
    finally:
        os.close(fd)


def test_what_was_seen_of_another_simulation_is_not_this_ones(tmp_path):
    """The child goes on while the server looks."""
    fd = Board.create(tmp_path)
    board, server = Board(fd), Board(fd, for_forks=False)
    assert 40 == BYTES == os.lseek(fd, 0, os.SEEK_CUR)
    os.close(fd)
    board.set(0)
    _, since_s = server.state
    assert 0 == board.seen_bytes
    server.tell_seen(7, since_s)
    assert 7 == board.seen_bytes
    board.set(1)
    assert 0 == board.seen_bytes
    server.tell_seen(9, since_s)
    assert 0 == board.seen_bytes
    for one in (board, server):
        one.close()
