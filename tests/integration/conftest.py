"""Fixtures of the tests that run whole studies."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest
from support.studies import Place

DYING_S = 30.0


@pytest.fixture
def place(tmp_path):
    """A folder to run studies in; afterwards no process and no temporary file of any of them is left."""
    # Sockets have short paths, so this folder must not be one of pytest's.
    tmp = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
    here = Place(tmp_path, tmp)
    yield here
    deadline_s = time.monotonic() + DYING_S
    while here.processes() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    left = here.kill_what_is_left()
    shutil.rmtree(tmp, ignore_errors=True)
    assert not left, f"processes are left: {left}"
