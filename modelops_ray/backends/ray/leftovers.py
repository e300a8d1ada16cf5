"""Ends what a killed owner of an embedded Ray left running.

Ray's servers and workers end within seconds of their driver. Its two agents of a node, 90 MiB each, do not: they try
for another minute to tell a server that has gone. Owns finding them; folders are `embedded`'s.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from modelops_ray.sandbox.pidfd import open_process, send_signal

PROC = Path("/proc")
_WRITABLE = os.O_WRONLY | os.O_RDWR


def end_processes_writing(folder: Path, proc: Path = PROC) -> list[int]:
    """Kill this user's processes that have a file below a folder open for writing; readers are left alone.

    Returns:
        The ids of the killed.
    """
    numbers = (int(path.name) for path in proc.iterdir() if path.name.isdecimal()) if proc.is_dir() else ()
    return [pid for pid in numbers if pid != os.getpid() and _end_if_writing(pid, folder, proc)]


def _end_if_writing(pid: int, folder: Path, proc: Path) -> bool:
    try:
        # Held while we look, so that the number cannot pass to another process in between.
        handle = open_process(pid)
    except ProcessLookupError:
        return False  # it has gone
    try:
        if not _is_writing(proc / str(pid), folder):
            return False
        send_signal(handle, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # it has gone meanwhile, or is another user's
    finally:
        os.close(handle)
    return True


def _is_writing(process: Path, folder: Path) -> bool:
    if process.stat().st_uid != os.getuid():
        return False
    return any(_is_held_for_writing(fd, process / "fdinfo" / fd.name, folder) for fd in (process / "fd").iterdir())


def _is_held_for_writing(link: Path, info: Path, folder: Path) -> bool:
    try:
        if not link.readlink().is_relative_to(folder):
            return False
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    except FileNotFoundError:
        return False  # closed meanwhile
    return int(fields["flags"], 8) & _WRITABLE != 0
