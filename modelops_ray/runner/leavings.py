"""What a fork server leaves behind when it is killed, and sweeping it away.

Owns the folder of this user's servers, who may open it, and the rule for which processes are still its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelops_ray.errors import ModelError
from modelops_ray.runner.watch import Process, process, processes

MOST_CHARACTERS = 50
"""A socket's path has 107 at most, and of those ours needs 48 below the folder for temporary files."""


def base_folder() -> Path:
    """Return the folder of all servers of this user, which only this user can open.

    Raises:
        ModelError: Somebody else made it, or others can open it.
    """
    base = _place() / f"modelops-ray-{os.getuid()}-{_kernel()}"
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ModelError(f"{base} is not a folder of this user alone; remove it, or set TMPDIR to another place")
    return base


def _place() -> Path:
    """The folder for temporary files, unless its path is so long that no socket's would fit behind it."""
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) <= MOST_CHARACTERS else Path("/tmp")  # noqa: S108 (ours is one only this user opens)


def _kernel() -> str:
    """Tells apart who numbers processes: nodes and containers that share a folder would sweep each other's servers."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return hashlib.sha256(f"{boot}|{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:8]


@contextmanager
def locked(base: Path) -> Iterator[None]:
    """Hold the lock of the folder: who starts a server, and who sweeps, is one process at a time."""
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep(base: Path) -> None:
    """End the children of every server that has ended without doing so, and remove its folder."""
    dead = [path.parent for path in base.glob("*/server") if not _is_alive(path)]
    table = processes() if dead else []
    for folder in dead:
        sweep_one(folder, table)


def sweep_one(folder: Path, table: list[Process]) -> None:
    """End the children that a server which has ended wrote down, and remove its folder."""
    for pid, started_ticks in _numbers(folder / "children"):
        kill_group(pid, started_ticks, table)
    shutil.rmtree(folder, ignore_errors=True)


def kill_group(leader: int, started_ticks: int, table: list[Process]) -> None:
    """Kill a process group unless its number has become another's.

    The number of a leader that has ended is not given away while its group has members; one with another start is a
    stranger's.
    """
    now = process(leader)
    if now is not None and started_ticks and now.started_ticks != started_ticks:
        return
    if any(one.group == leader for one in table):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def write_server(folder: Path, pid: int) -> None:
    """Remember which process a server is."""
    found = process(pid)
    (folder / "server").write_text(f"{pid} {found.started_ticks if found is not None else 0}\n")


def _is_alive(path: Path) -> bool:
    for pid, started_ticks in _numbers(path):
        found = process(pid)
        if found is not None and found.started_ticks == started_ticks and found.state != "Z":
            return True
    return False


def _numbers(path: Path) -> list[tuple[int, int]]:
    with suppress(FileNotFoundError):
        lines = [line.split() for line in path.read_text().splitlines()]
        return [(int(line[0]), int(line[1])) for line in lines if len(line) == 2]
    return []
