"""Folders and files of ours in a place that other users of the machine write to as well, such as /tmp.

Owns the rule: a link is never followed there, and what is not this user's alone is left as it is. Everything is opened
first and looked at then, so that nothing can be put in its place in between.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

USUAL = Path("/tmp")  # noqa: S108 (what is made there is opened by the rule above)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe that another user put there would wait for ever.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def temporary_place(most_bytes: int) -> Path:
    """The folder for temporary files, unless its path is longer than this or others could rename what is in it."""
    wanted = Path(tempfile.gettempdir())
    fitting = [place for place in (wanted, USUAL) if len(os.fsencode(place)) <= most_bytes and _is_utf8(place)]
    return next(filter(_keeps_names, fitting), fitting[0] if fitting else USUAL)


def _is_utf8(place: Path) -> bool:
    """Whether Ray can read it."""
    with suppress(UnicodeEncodeError):
        return bool(str(place).encode())
    return False


def _keeps_names(place: Path) -> bool:
    """Whether what a user made there stays that user's: no other user writes there, or the sticky bit is set."""
    with suppress(OSError):
        mode = place.stat().st_mode
        return not mode & 0o022 or bool(mode & stat.S_ISVTX)
    return False


def open_folder(path: str | Path, within: int | None = None, *, closed: bool = False) -> int | None:
    """Open a folder in which only this user writes; None if there is none, or something else in its place.

    The path is relative to the folder of the descriptor `within`. `closed` asks that no other user can even open it.
    OSError for any other reason, such as too many open files.
    """
    try:
        fd = os.open(path, _FOLDER, dir_fd=within)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        if stat.S_ISLNK(_mode(path, within)):
            return None
        raise error from None
    found = os.fstat(fd)
    if found.st_uid == os.getuid() and not found.st_mode & (0o077 if closed else 0o022):
        return fd
    os.close(fd)
    return None


def _mode(path: str | Path, within: int | None) -> int:
    """What is there, and not what a link leads to; 0 where that cannot be told."""
    with suppress(OSError):
        return os.stat(path, dir_fd=within, follow_symlinks=False).st_mode
    return 0


@contextmanager
def folders_in(within: int, prefix: str = "") -> Iterator[list[tuple[str, int]]]:
    """Open the folders in one, by name, for as long as the context lasts: those in which only this user writes."""
    with ExitStack() as stack:
        opened = [(name, open_folder(name, within)) for name in sorted(os.listdir(within)) if name.startswith(prefix)]
        for _, fd in opened:
            if fd is not None:
                stack.callback(os.close, fd)
        yield [(name, fd) for name, fd in opened if fd is not None]


def open_file(name: str, within: int, flags: int = os.O_RDONLY) -> int | None:
    """Open, or with O_CREAT make, a file in a folder; None if there is none, or no plain file of this user's alone."""
    try:
        fd = os.open(name, flags | _FILE, 0o600, dir_fd=within)
    except FileNotFoundError:
        return None
    except OSError as error:
        if (mode := _mode(name, within)) and not stat.S_ISREG(mode):
            return None
        raise error from None
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_nlink == 1:
        return fd
    os.close(fd)
    return None


def read_file(name: str, within: int, most_bytes: int = 2**20) -> bytes | None:
    """Read the beginning of a file; None where `open_file` opens none."""
    fd = open_file(name, within)
    if fd is None:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(most_bytes)
