"""A memory cgroup of our own below the one this process is in: a small machine in which the kernel really kills.

Version 1 is what all of this was run on; version 2 goes through the same functions and is untested.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
PEAK = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}
EVENTS = {1: "memory.oom_control", 2: "memory.events"}


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A memory cgroup; `version` is that of its hierarchy."""

    path: Path
    version: int

    @property
    def entering(self) -> tuple[str, ...]:
        """The beginning of a command line that enters the cgroup and then runs the rest of it."""
        return ("sh", "-c", f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"', "enter")

    @property
    def peak_bytes(self) -> int:
        """The most memory its processes had at once, the page cache included."""
        return int((self.path / PEAK[self.version]).read_text())

    def processes(self) -> list[int]:
        """Find the processes that are in it now."""
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    @property
    def kernel_kills(self) -> int:
        """How many of its processes the kernel killed."""
        pairs = (line.split() for line in (self.path / EVENTS[self.version]).read_text().splitlines())
        return {key: int(value) for key, value in pairs}["oom_kill"]


def why_not() -> str:
    """Why no cgroup can be made here; empty where one can."""
    parent = _parent()
    if parent is None:
        return "no memory cgroup is mounted"
    if os.geteuid() != 0 or not os.access(parent.path, os.W_OK):
        return "only root may make a memory cgroup, where it is mounted writable"
    return ""


@contextmanager
def memory_cgroup(limit_bytes: int | None = None) -> Iterator[MemoryCgroup]:
    """Make a cgroup, with a limit where one is given, and remove it once its last process has gone."""
    parent = _parent()
    assert parent is not None, "call why_not first"
    group = MemoryCgroup(parent.path / f"modelops-ray-{secrets.token_hex(4)}", parent.version)
    group.path.mkdir()
    if limit_bytes is not None:
        (group.path / LIMIT[group.version]).write_text(str(limit_bytes))
    try:
        yield group
    finally:
        _remove(group.path)


def _parent() -> MemoryCgroup | None:
    """Find the cgroup to make children in: this process's own; in version 2 only one without processes may have any."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if "memory" in controllers.split(",") and V1.is_dir():
            return MemoryCgroup(V1 / path.lstrip("/"), 1)
    for number, _, path in lines:
        if number == "0" and (V2 / "cgroup.controllers").exists():
            return MemoryCgroup((V2 / path.lstrip("/")).parent, 2)
    return None


def _remove(path: Path, patience_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + patience_s
    while (path / "cgroup.procs").read_text().split():
        assert time.monotonic() < deadline_s, f"processes are left in {path}"
        time.sleep(0.05)
    path.rmdir()
