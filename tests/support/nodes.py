"""Nodes of a Ray cluster as processes of this machine, by `ray start`: each ends with its context, or by SIGKILL.

Owns ports, folders and that only processes of its own are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.studies import wait_until

MIB = 2**20
QUICK_TO_NOTICE = {"RAY_health_check_period_ms": "300", "RAY_health_check_failure_threshold": "3"}


@dataclass(slots=True)
class StartedNode:
    """A node, as the leader of a process group."""

    folder: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End all of it at once, as a machine that is switched off."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_raylet(self) -> None:
        """End its raylet alone; anything else that runs there has to notice by itself."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_raylet = (path / "comm").read_text().strip() == "raylet"
                if is_raylet and os.getpgid(int(path.name)) == self.process.pid:
                    os.kill(int(path.name), signal.SIGKILL)
                    return
        raise AssertionError("this node has no raylet")


@contextlib.contextmanager
def started(folder: Path, *arguments: str, cpus: int, memory_bytes: int) -> Iterator[StartedNode]:
    """Run `ray start` until the end of the context."""
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--block", f"--num-cpus={cpus}",
        f"--memory={memory_bytes}", f"--object-store-memory={80 * MIB}", *arguments,
    ]  # fmt: skip
    # The mode is said, or a token that happens to be in the home folder would be asked for.
    said = {"RAY_TMPDIR": str(folder), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_AUTH_MODE": "disabled"}
    environ = os.environ | QUICK_TO_NOTICE | said
    with (folder / f"{uuid.uuid4().hex}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)
    node = StartedNode(folder, process)
    try:
        yield node
    finally:
        node.kill()


@contextlib.contextmanager
def head(folder: Path) -> Iterator[str]:
    """A head that takes no simulations; gives its address."""
    arguments = ("--head", "--port=0", "--include-dashboard=false", f"--temp-dir={folder}")
    with started(folder, *arguments, cpus=0, memory_bytes=64 * MIB):
        wait_until((folder / "ray_current_cluster").exists, "a head")
        yield (folder / "ray_current_cluster").read_text()


def worker(
    folder: Path, address: str, *, cpus: int, memory_bytes: int
) -> contextlib.AbstractContextManager[StartedNode]:
    """A node that joins."""
    return started(folder, f"--address={address}", cpus=cpus, memory_bytes=memory_bytes)
