"""Cgroups of our own below the one this process is in: a small machine in which the kernel really kills.

Owns making, reading and removing them. Version 1 is what all of this was run on; version 2 goes through the same
functions but for counting CPU time, and is untested.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

V1 = Path("/sys/fs/cgroup/memory")
V1_CPU = Path("/sys/fs/cgroup/cpuacct")
V2 = Path("/sys/fs/cgroup")
LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
NOW = {1: "memory.usage_in_bytes", 2: "memory.current"}
CACHE = {1: ("total_inactive_file", "total_active_file"), 2: ("inactive_file", "active_file")}
EVENTS = {1: "memory.oom_control", 2: "memory.events"}


class CpuGroup(NamedTuple):
    """Counts what its processes compute, those that have ended included; no limit."""

    path: Path

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes that were ever in it."""
        return int((self.path / "cpuacct.usage").read_text()) / 1e9


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A memory cgroup; `version` is that of its hierarchy."""

    path: Path
    version: int

    @property
    def mount(self) -> Path:
        """Where a container with this limit would see this cgroup's own files."""
        return V1 if self.version == 1 else V2

    @property
    def entering(self) -> tuple[str, ...]:
        """The beginning of a command line that enters the cgroup and then runs the rest of it."""
        return entering(self.path)

    @property
    def working_set_bytes(self) -> int:
        """What its processes have now, without the page cache, which the kernel takes back before it kills."""
        stat = _keys(self.path / "memory.stat")
        now_bytes = int((self.path / NOW[self.version]).read_text())
        return max(0, now_bytes - sum(stat[key] for key in CACHE[self.version]))

    def processes(self) -> list[int]:
        """Find the processes that are in it now."""
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    def kill(self) -> int:
        """Kill every process in it, those meanwhile started included, and say how many there were."""
        found = set[int]()
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            found.update(pids)
            time.sleep(0.02)
        return len(found)

    @property
    def kernel_kills(self) -> int:
        """How many of its processes the kernel killed."""
        return _keys(self.path / EVENTS[self.version])["oom_kill"]


def entering(*paths: Path) -> tuple[str, ...]:
    """Make the beginning of a command line that enters cgroups and then runs the rest of it."""
    enter = "".join(f'echo $$ > "{path}/cgroup.procs" && ' for path in paths)
    return ("sh", "-c", f'{enter}exec "$@"', "enter")


@cache
def why_not() -> str:
    """Why no cgroup can be made here; empty where one can, which is tried."""
    parent = _parent()
    if parent is None:
        return "no memory cgroup is mounted"
    if os.geteuid() != 0 or not os.access(parent.path, os.W_OK):
        return "only root may make a memory cgroup, where it is mounted writable"
    try:
        with memory_cgroup(2**30):
            return ""
    except OSError as error:
        return f"no memory cgroup with a limit can be made in {parent.path}: {error.strerror}"


@contextmanager
def memory_cgroup(limit_bytes: int | None = None) -> Iterator[MemoryCgroup]:
    """Make a cgroup, with a limit where one is given, and remove it once its last process has gone."""
    parent = _parent()
    assert parent is not None, "call why_not first"
    group = MemoryCgroup(parent.path / _name(), parent.version)
    group.path.mkdir()
    try:
        if limit_bytes is not None:
            (group.path / LIMIT[group.version]).write_text(str(limit_bytes))
        yield group
    finally:
        group.kill()
        _remove(group.path)


@contextmanager
def cpu_cgroup() -> Iterator[CpuGroup | None]:
    """Make a cgroup below this process's own that counts CPU time; None where none can be made.

    In version 2 a process is in one cgroup only, which is its pod's.
    """
    own = _own_v1("cpuacct")
    if own is None or not os.access(V1_CPU / own, os.W_OK):
        yield None
        return
    group = CpuGroup(V1_CPU / own / _name())
    group.path.mkdir()
    try:
        yield group
    finally:
        _remove(group.path)


def _name() -> str:
    return f"modelops-ray-{secrets.token_hex(4)}"


def _parent() -> MemoryCgroup | None:
    """Find the cgroup to make children in: this process's own; in version 2 only one without processes may have any."""
    own = _own_v1("memory")
    if own is not None and V1.is_dir():
        return MemoryCgroup(V1 / own, 1)
    for number, _, path in _memberships():
        if number == "0" and (V2 / "cgroup.controllers").exists():
            here = V2 / path
            return MemoryCgroup(V2 if here == V2 else here.parent, 2)
    return None


def _own_v1(controller: str) -> str | None:
    """Where this process is in the hierarchy of a controller of version 1, relative to its mount."""
    return next((path for _, names, path in _memberships() if controller in names.split(",")), None)


def _memberships() -> list[tuple[str, str, str]]:
    """Number, controllers and path of every hierarchy, as `cgroups(7)` has them."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return [(number, names, path.lstrip("/")) for number, names, path in lines]


def _keys(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {key: int(value) for key, value in pairs}


def _remove(path: Path, patience_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + patience_s
    while (path / "cgroup.procs").read_text().split():
        assert time.monotonic() < deadline_s, f"processes are left in {path}"
        time.sleep(0.05)
    path.rmdir()
