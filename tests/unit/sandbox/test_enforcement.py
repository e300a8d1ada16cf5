"""What the fork server tells of a child and all that it started."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest
from support.growing import STEP_BYTES, Growing

from modelops_ray.sandbox.board import BYTES, Board
from modelops_ray.sandbox.enforcement import UNLIMITED, Child
from modelops_ray.sandbox.family import Family, ServerMemory
from modelops_ray.sandbox.measure import resident_parts
from modelops_ray.sandbox.processes import process
from modelops_ray.sandbox.segments import Segments

pytestmark = pytest.mark.usefixtures("nothing_to_reuse")

NEARLY = 10 * 2**20


@pytest.fixture
def fork():
    """Fork processes that do what they are told, and end them."""
    with ExitStack() as stack:

        def fork():
            made = Growing()
            stack.callback(made.end)
            return made

        yield fork


@pytest.fixture
def child(tmp_path, fork):
    """A child of this process, which is its server."""
    grown, board_fd = fork(), Board.create(tmp_path)
    found = Family(grown.pid, process(grown.pid), resident_parts(grown.pid).made_bytes, ServerMemory())
    child = Child(
        grown.pid, os.pidfd_open(grown.pid), Board(board_fd), UNLIMITED, "", "", found,
        Segments(board_fd, BYTES, frozenset()), "", 0, 0, None,
    )  # fmt: skip
    yield child
    child.board.close()
    os.close(child.pidfd)
    os.close(board_fd)


@pytest.fixture
def start(child, fork):
    """Start processes that are counted with the child, and have grown by the time that the server looks."""

    def start():
        started = fork()
        started.grow()
        child.family.take_in(process(started.pid))
        return started

    return start


def test_what_a_simulation_has_started_before_the_server_looks_at_it_first_is_its_own(child, start):
    """The simulation before it in this process used as much, and left nothing."""
    for index in range(2):
        child.board.set(index)
        started = start()
        child.reading()
        assert child.board.seen_bytes == pytest.approx(STEP_BYTES, abs=NEARLY)
        started.end()


def test_what_the_simulation_before_it_left_is_not_a_simulations_own(child, start):
    """A process that goes on, which the next simulation did not start."""
    child.board.set(0)
    start()
    child.reading()
    child.board.set(1)
    child.reading()
    assert child.board.seen_bytes == pytest.approx(0, abs=NEARLY)


def test_a_number_that_has_passed_to_another_process_is_not_killed(child, start):
    """What the child started had it before, and has ended."""
    stranger, own = start(), start()
    child.family.others[stranger.pid].started_ticks -= 1
    child.kill_others()
    assert os.waitpid(own.pid, 0) == (own.pid, signal.SIGKILL)
    own.pid = 0
    stranger.grow()
