"""A folder for temporary files with a short path, as sockets need it, in which fork servers are started and ended."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.studies import wait_until

from modelops_ray.runner import server_start
from modelops_ray.sandbox.processes import process

ENDING_S = 30.0


@contextmanager
def short_folder(idle_s: float = 1.0) -> Iterator[Path]:
    """Have it used by this process and what it starts; a server ends once it has been idle for `idle_s` seconds.

    Servers that are left at the end of the context are asked to end, and waited for.
    """
    folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(server_start, "IDLE_S", idle_s)
        yield folder
        end_servers(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_servers(folder: Path) -> None:
    """Ask the fork servers below a folder for temporary files to end, and wait until none is left."""
    for written in folder.glob("modelops-ray-*/*/server"):
        with suppress(OSError, ValueError):
            pid, started_ticks = map(int, written.read_text().split())
            # The number of one that was killed may be another process's by now.
            if (found := process(pid)) is not None and found.started_ticks == started_ticks:
                os.kill(pid, signal.SIGTERM)
    # A server writes into the folder until it has ended.
    wait_until(lambda: not list(folder.glob("modelops-ray-*/*/socket")), "the fork servers to end", ENDING_S)
