"""What this machine has left for us: memory, CPUs and the kernel's kills, as seen from this process's own cgroup.

Owns reading `/proc` and `/sys/fs/cgroup`, both versions. Does not decide how much of it is used.
Every function takes the file system's root, so that other layouts than this machine's can be tried out.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import BackendError

ROOT = Path("/")
RECENT_S = 10.0
_MEMINFO = re.compile(rb"^(MemTotal|MemAvailable|Shmem): *(\d+) kB", re.MULTILINE)
_CACHE_1 = re.compile(rb"^total_(?:in)?active_file (\d+)", re.MULTILINE)
_CACHE_2 = re.compile(rb"^(?:in)?active_file (\d+)", re.MULTILINE)


def process_space(root: Path = ROOT) -> str:
    """Tell apart who numbers processes: boots, machines and containers; empty where the kernel does not say."""
    try:
        boot = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(root / 'proc/self/ns/pid')}"  # noqa: PTH115 (Python 3.9 reads it)
    except OSError:
        return ""


class MemoryGroup(NamedTuple):
    """One memory cgroup that contains this process; `used_bytes` without the page cache, which can be taken back."""

    limit_bytes: int
    used_bytes: int


def available_memory_bytes(keep_free: float = 0.05, root: Path = ROOT) -> int:
    """Say how many more bytes this process and its children may use now, before one of them is killed.

    The tightest of the machine and every cgroup around this process; of each, the share `keep_free` stays free,
    because that is where killing starts.
    """
    bounds = MemoryBounds(root).read()
    return max(0, int(min(bound.limit_bytes * (1 - keep_free) - bound.used_bytes for bound in bounds)))


class MemoryBounds:
    """Everything that bounds this process's memory: the machine, and the cgroups with a limit around the process.

    Where they are is looked up once; what they say, and which of them have a limit, at every `read`, for some 10 µs a
    file: a fork server does it 20 times a second.

    Attributes:
        shared_bytes: Shared memory of the machine at the last `read`, files that are kept in memory included.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.shared_bytes = 0
        self._meminfo = root / "proc/meminfo"
        self._groups = [_GroupFiles.of(folder) for folder in _memory_cgroups(root)]

    def read(self) -> list[MemoryGroup]:
        """Read them, the machine first and the closest cgroup next."""
        total_bytes, available_bytes = self._machine_bytes()
        return [MemoryGroup(total_bytes, total_bytes - available_bytes), *self.groups()]

    def groups(self) -> Iterator[MemoryGroup]:
        """Read the cgroups, from this process's own up to the root of the mount."""
        return filter(None, (files.read() for files in self._groups))

    def _machine_bytes(self) -> tuple[int, int]:
        try:
            info = {name: int(kib) * 1024 for name, kib in _MEMINFO.findall(self._meminfo.read_bytes())}
            self.shared_bytes = info.get(b"Shmem", 0)
            return info[b"MemTotal"], info[b"MemAvailable"]
        except (OSError, KeyError) as error:
            raise BackendError(
                f"{self._meminfo} does not tell the machine's memory ({error}); give --limit-memory, on Linux"
            ) from error


class _GroupFiles(NamedTuple):
    """Where one memory cgroup, of either version, tells its limit and its use, and which lines are the page cache."""

    limit: Path
    used: Path
    stat: Path
    cache: re.Pattern[bytes]

    @classmethod
    def of(cls, folder: Path) -> _GroupFiles:
        stat = folder / "memory.stat"
        if (folder / "memory.limit_in_bytes").exists():
            return cls(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", stat, _CACHE_1)
        return cls(folder / "memory.max", folder / "memory.current", stat, _CACHE_2)

    def read(self) -> MemoryGroup | None:
        """Read limit and use; None where it has no limit."""
        limit = _read_bytes(self.limit).strip()
        if not limit.isdigit() or int(limit) >= 2**60:
            return None
        cache_bytes = sum(map(int, self.cache.findall(_read_bytes(self.stat))))
        return MemoryGroup(int(limit), int(_read_bytes(self.used) or 0) - cache_bytes)


def usable_cpus(root: Path = ROOT) -> int:
    """Count the CPUs this process may use: its affinity, lowered by its cgroup's quota, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    quota = _cpu_quota(root)
    return max(1, cpus if quota is None else min(cpus, math.floor(quota)))


def kernel_kills(root: Path = ROOT) -> int | None:
    """Count the processes of our own cgroup that the kernel killed for memory so far; None where it does not count."""
    directory = _memory_cgroup(root)
    if directory is not None:
        for name in ("memory.oom_control", "memory.events"):
            count = _read_keys(directory / name).get("oom_kill")
            if count is not None:
                return count
    return _read_keys(root / "proc/vmstat").get("oom_kill")


def memory_strain(root: Path = ROOT) -> tuple[float | None, int]:
    """Tell for how long all work waited for memory so far, and how many pages had to be read from disk again.

    Returns seconds of the kernel's pressure stall information (None where there is none), and the major page faults;
    both of our own cgroup where it counts them, else of the machine. No faults where our own cgroup's stalls are
    counted: reading large files causes them too, while no process waits for memory.
    """
    directory = _memory_cgroup(root)
    if directory is None:
        return _stalled_s(root / "proc/pressure/memory"), _read_keys(root / "proc/vmstat").get("pgmajfault", 0)
    own_stalled_s = _stalled_s(directory / "memory.pressure")
    if own_stalled_s is not None:
        return own_stalled_s, 0
    stat = _read_keys(directory / "memory.stat") or _read_keys(root / "proc/vmstat")
    return _stalled_s(root / "proc/pressure/memory"), stat.get("total_pgmajfault", stat.get("pgmajfault", 0))


def _stalled_s(path: Path) -> float | None:
    try:
        full = re.search(r"^full .*total=(\d+)", _read_text(path), re.MULTILINE)
    except OSError:
        return None  # compiled in and switched off
    return int(full[1]) / 1e6 if full else None


class KernelKills:
    """Remembers when the kernel last killed a process of our cgroup for memory."""

    def __init__(self, clock: Callable[[], float], root: Path = ROOT) -> None:
        self._clock, self._root = clock, root
        self._count = kernel_kills(root)
        self._last_s: float | None = None

    def update(self) -> None:
        """Compare the kernel's count with that of the last update."""
        count = kernel_kills(self._root)
        if count != self._count:
            self._count, self._last_s = count, self._clock()

    def recent(self) -> bool | None:
        """Say whether there was a kill within the last 10 seconds; None where the kernel does not count."""
        self.update()
        if self._count is None:
            return None
        return self._last_s is not None and self._clock() - self._last_s < RECENT_S


def _memory_cgroups(root: Path) -> list[Path]:
    directory = _memory_cgroup(root)
    if directory is None:
        return []
    mount = _mount(root, directory)
    return [folder for folder in (directory, *directory.parents) if folder.is_relative_to(mount)]


def _memory_cgroup(root: Path) -> Path | None:
    """Find the directory of our memory cgroup: version 1 has a line naming the controller, version 2 has `0::`."""
    lines = [line.split(":", 2) for line in _read_text(root / "proc/self/cgroup").splitlines()]
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return _inside(root / "sys/fs/cgroup/memory", path)
    for number, _, path in lines:
        if number == "0" and (root / "sys/fs/cgroup/cgroup.controllers").exists():
            return _inside(root / "sys/fs/cgroup", path)
    return None


def _inside(mount: Path, path: str) -> Path:
    """Join a cgroup path to its mount; in a container the path may name folders that only the host sees."""
    directory = mount / path.lstrip("/")
    return directory if directory.is_dir() else mount


def _mount(root: Path, directory: Path) -> Path:
    version_1 = root / "sys/fs/cgroup/memory"
    return version_1 if directory.is_relative_to(version_1) else root / "sys/fs/cgroup"


def _cpu_quota(root: Path) -> float | None:
    """Read the quota in CPUs where the mount shows that of our container; None for no quota."""
    base = root / "sys/fs/cgroup"
    text = _read_text(base / "cpu.max") or " ".join(
        _read_text(base / "cpu" / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    match = re.fullmatch(r"(\d+) (\d+)", text.strip())
    return None if match is None else int(match[1]) / int(match[2])


def _read_keys(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read_text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _read_text(path: Path) -> str:
    return _read_bytes(path).decode()


def _read_bytes(path: Path) -> bytes:
    """Read a file of the kernel; nothing where this kernel has none, which differs by version and configuration."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (20 times a second)
            return file.readall()
    except FileNotFoundError:
        return b""
