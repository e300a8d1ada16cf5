"""Small disks of a run's own that can be filled up, and a disk that is slow to keep what it was given.

Owns mounting and unmounting, which only root may, and not everywhere.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

_BALLAST, _FLAG, _IS_APART = ".ballast", "slow", "CHAOS_IS_APART"
_SLOW = '''
"""Makes every fsync of a process slow for as long as a file is there."""

import os
import time

_fsync = os.fsync


def fsync(fd):
    if os.path.exists({flag!r}):
        time.sleep(0.5)
    _fsync(fd)


os.fsync = fsync
'''


def apart(environ: Mapping[str, str], command: Sequence[str]) -> None:
    """Start this process's command over where what it mounts is seen by its own processes alone, if this user may.

    There it has shared memory of its own too, so that what other programs leave in theirs is not taken for its own.
    """
    unshare = ["unshare", "--mount"]
    if (
        _IS_APART not in environ
        and subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0
    ):
        os.execvpe("unshare", [*unshare, *command], {**environ, _IS_APART: "yes"})
    if _IS_APART in environ:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g,mode=1777", "tmpfs", "/dev/shm"], check=True)


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """Have a disk of that size there for as long as the context lasts, or the folder as it is where none is mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=1777", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path) -> bool:
    """Leave not a page free; False where the folder has no disk of its own."""
    if not folder.is_mount():
        return False
    with (folder / _BALLAST).open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(2**16))
    return True


def make_room(folder: Path) -> None:
    """Take away what it was filled with."""
    (folder / _BALLAST).unlink(missing_ok=True)


def slow_environ(folder: Path) -> dict[str, str]:
    """What Python processes have to be started with for `slow_down` to reach them."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SLOW.format(flag=str(folder / _FLAG)))
    return {"PYTHONPATH": str(folder)}


def slow_down(folder: Path) -> Callable[[], None]:
    """Make their disk slow until the function is called that this returns."""
    (folder / _FLAG).touch()
    return partial((folder / _FLAG).unlink, missing_ok=True)
