"""Where a child is, as others see it while it writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from modelops_ray.sandbox.board import NOT_READY, Board

WRITER = """
import sys, time
from modelops_ray.sandbox.board import Board
board, end_s = Board(int(sys.argv[1])), time.monotonic() + 1.0
while time.monotonic() < end_s:
    for index in (1, 2**40):
        board.set(index)
"""


def test_a_reader_never_gets_half_of_what_is_being_written(tmp_path):
    """Or a simulation would seem to have begun at the start of the machine, and be late."""
    fd = Board.create(tmp_path)
    board, began_s = Board(fd), time.monotonic() - 1
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(fd)], pass_fds=[fd])
    seen = set()
    while writer.poll() is None:
        index, since_s = board.state
        seen.add(index)
        assert began_s <= since_s
    assert seen <= {NOT_READY, 1, 2**40}
    assert {1, 2**40} <= seen
    assert [] == list(tmp_path.iterdir())
    board.close()
    os.close(fd)
