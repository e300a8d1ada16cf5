"""What a fork server leaves behind when it is killed, and sweeping it away.

Owns the folder of this user's servers, who may open it, and the rule for which processes are still its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelops_ray.errors import ModelError
from modelops_ray.runner import private
from modelops_ray.sandbox.machine import process_space
from modelops_ray.sandbox.processes import Process, process, processes

MOST_BYTES = 50
"""A socket's path has 107 at most, and of those ours needs 48 below the folder for temporary files."""
_FIRST_OF_OTHERS = 2
"""The group 0 is our own, and 1 that of the first process."""
_STEP_S = 0.01
_LINE = re.compile(rb"([1-9][0-9]{0,9}) ([0-9]{1,18})")


def base_folder() -> Path:
    """Return the folder of all servers of this user, which only this user can open.

    ModelError where another user made it or can open it; OSError where this node cannot make it, as another one may.
    """
    base = Path("modelops-ray")
    try:
        base = private.temporary_place(MOST_BYTES) / f"modelops-ray-{os.getuid()}-{_kernel()}"
        with suppress(FileExistsError):
            base.mkdir(mode=0o700)
            base.chmod(0o700)  # a umask may have taken it away
        fd = private.open_folder(base, closed=True)
    except OSError as error:
        reason = error.strerror or error
        what = f"{base}: no folder for temporary files: {reason}; set TMPDIR to one that works"
        raise OSError(error.errno, what) from error
    if fd is None:
        raise ModelError(f"{base} is not a folder of this user alone; remove it, or set TMPDIR to another place")
    os.close(fd)
    return base


@contextmanager
def _opened(base: Path) -> Iterator[int]:
    fd = private.open_folder(base, closed=True)
    if fd is None:
        raise ModelError(f"{base} is no more a folder of this user alone; set TMPDIR to another place")
    try:
        yield fd
    finally:
        os.close(fd)


def _kernel() -> str:
    """Tells apart who numbers processes: nodes and containers that share a folder would sweep each other's servers."""
    return hashlib.sha256(process_space().encode()).hexdigest()[:8]


@contextmanager
def locked(base: Path) -> Iterator[None]:
    """Hold the lock of the folder: who starts a server, and who sweeps, is one process at a time."""
    with _opened(base) as fd:
        lock = private.open_file("lock", fd, os.O_RDWR | os.O_CREAT)
        if lock is None:
            raise ModelError(f"{base / 'lock'} is not a file of this user alone; remove it")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def sweep(base: Path) -> None:
    """End the children of every server that has ended without doing so, and remove its folder.

    What is no folder of this user alone is none of a server.
    """
    with _opened(base) as fd, private.folders_in(fd) as folders:
        dead = [(name, folder) for name, folder in folders if _has_ended(folder)]
        table = processes() if dead else []
        for name, folder in dead:
            for pid, started_ticks in _numbers("children", folder) or ():
                kill_group(pid, started_ticks, table)
            shutil.rmtree(name, ignore_errors=True, dir_fd=fd)


def wait_for_end(folder: Path, patience_s: float) -> None:
    """Wait until the server that is written down in a folder has ended; one that was killed ends some time after.

    By then it has closed its socket, and still counts as alive: what it leaves would not be swept.
    """
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s and _has_living_server(folder):
        time.sleep(_STEP_S)


def _has_living_server(folder: Path) -> bool:
    with _opened(folder.parent) as fd, private.folders_in(fd) as folders:
        servers = [_numbers("server", each) or () for name, each in folders if name == folder.name]
    return any(_is_alive(*server) for found in servers for server in found)


def clear(folder: Path) -> None:
    """Remove what lies where the folder of a server is to be, file, folder or link; what a link leads to stays."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def kill_group(leader: int, started_ticks: int, table: list[Process]) -> None:
    """Kill a process group unless its number has become another's.

    The number of a leader that has ended is not given away while its group has members; one with another start is a
    stranger's.
    """
    if leader < _FIRST_OF_OTHERS:
        return
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


def _has_ended(folder: int) -> bool:
    """Whether a server was started there that is no more; one that has not been written down yet has not."""
    server = _numbers("server", folder)
    return server is not None and not any(_is_alive(pid, started_ticks) for pid, started_ticks in server)


def _is_alive(pid: int, started_ticks: int) -> bool:
    found = process(pid)
    return found is not None and found.started_ticks == started_ticks and not found.has_ended


def _numbers(name: str, folder: int) -> list[tuple[int, int]] | None:
    """Read processes and their starts, a line each; None where there is no such file. What is no such line is left."""
    content = private.read_file(name, folder)
    if content is None:
        return None
    return [(int(line[1]), int(line[2])) for line in map(_LINE.fullmatch, content.splitlines()) if line]
