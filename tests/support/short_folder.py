"""A folder for temporary files with a short path, as sockets need it, in which fork servers end soon."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.studies import wait_until

from modelops_ray.runner import forkserver_client

ENDING_S = 30.0


@contextmanager
def short_folder(idle_s: float = 1.0) -> Iterator[Path]:
    """Have it used by this process and what it starts; a server ends once it has been idle for `idle_s` seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(forkserver_client, "IDLE_S", idle_s)
        yield folder
        # A server writes into the folder until it has ended.
        wait_until(lambda: not list(folder.glob("modelops-ray-*/*/socket")), "the fork servers to end", ENDING_S)
    shutil.rmtree(folder, ignore_errors=True)
