"""What a supervisor takes a child to have done, from what the child wrote and when."""

from __future__ import annotations

import os
import selectors
import socket
import time

import pytest

from modelops_ray.runner.borrowed import Borrowed
from modelops_ray.runner.forkserver_client import Connection, LentChild
from modelops_ray.runner.overdue import end_overdue
from modelops_ray.sandbox.board import Board
from modelops_ray.sandbox.protocol import Hello, Work
from modelops_ray.study.chunk import Simulation

WORK = Work("baseline", None, False, False, [{}], [(0, 1)])
ONE, OTHER = (Simulation(position, 0, {}, "0" * 64, 0, 1) for position in (10, 11))


@pytest.fixture
def child(tmp_path):
    """A child that was lent, whose part the test plays; `board` is the child's own view of what both share."""
    server, connected = socket.socketpair()
    ours, theirs = socket.socketpair()
    capture, printed = os.pipe()
    board_fd = Board.create(tmp_path)
    with server, connected, theirs, selectors.DefaultSelector() as selector:
        lent = LentChild(os.getpid(), True, ours, capture, Board(board_fd))
        child = Borrowed(lent, time.monotonic(), Connection(connected, Hello(0, "", True)), selector)
        child.board, child.prints_to = Board(board_fd), printed
        yield child
        child.board.close()
        child.close()
    os.close(printed)
    os.close(board_fd)


def test_a_child_that_has_answered_what_it_was_given_is_done(child):
    """Nothing more of it is waited for, and an answer that is missing then never comes."""
    child.give([ONE], WORK)
    child.board.set(0)
    assert not child.is_done
    child.board.set_answered(time.monotonic())
    assert child.is_done
    end_overdue([child], 0.0, "m")
    assert child.garbled == "an answer is missing"
    assert child.suspects == [ONE]


def test_a_child_that_is_given_more_before_it_has_written_that_it_answered_is_not_done_with_that(child):
    """Its answers wake the supervisor, and the machine may run that first: no answer to the new work is missing."""
    child.give([ONE], WORK)
    child.board.set(0)
    sent_s = time.monotonic()
    child.n_answered = 1
    child.give([OTHER], WORK)
    child.board.set_answered(sent_s)
    assert not child.is_done
    assert child.begun == []
    end_overdue([child], 0.0, "m")
    assert child.garbled == ""


def test_what_was_read_meanwhile_is_not_waited_for(child):
    """A supervisor is told once that something was printed, and may have read it with the answers."""
    os.write(child.prints_to, b"day 1\n")
    child.drain_capture()
    child.read_capture()
    assert "day 1\n" == child.said()
