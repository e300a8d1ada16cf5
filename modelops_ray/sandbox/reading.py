"""What a model's code reads: which files count, what tells one from itself once it was changed, and their names.

Owns the list of what one process has read; `opened` tells it what is opened. Files of Python's, of installed packages
and of the system do not count, nor what the process wrote itself. Names are relative to the model's folder, so that
they mean the same wherever that lies. Runs in the model's interpreter; standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

from ..errors import ModelError
from .digest import SHARED_FOLDERS
from .held import held

MAX_FILES = 1000
"""More files are not noted, of which each may be read by every simulation."""
MAX_CHARS = 2**20
"""The length of all paths together."""
MAX_UP = 3
"""A file is named relative to the model's folder where no more steps lead up from there."""
_MAX_OPENED = 20_000
_YOUNG_S = 0.02
"""Two changes of a file within the longest tick of a Linux kernel have one time; twice that is waited for."""
_PIECE_BYTES = 2**20
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/", "/lib/", "/lib32/", "/lib64/", "/bin/", "/sbin/", "/etc/", "/run/")
_OF_PYTHON = ("lib", "lib64", "bin", "share", "include", "etc")
_CACHE = "__pycache__"
_OURS = f"{Path(__file__).resolve().parents[1]}/"
# Held here: a model may replace them in their modules.
_stat, _normpath, _relpath, _join, _S_ISREG = os.stat, os.path.normpath, os.path.relpath, os.path.join, stat.S_ISREG


class FileState(NamedTuple):
    """A file by its name and what was in it, as 64 hex digits; None where that is not known or there is no file."""

    path: str
    sha256: Optional[str]  # noqa: UP045 (Python 3.9 reads it)


class Reading:
    """What this process has read, as a `Watcher` of `opened`.

    Attributes:
        found: For each file that counts, by its absolute path, the stamp that it had when it was opened last.
        fresh: Files that the process has read and not yet told its supervisor, in order; telling empties the list.
        known: What of that need not be told, because the run began with it.
    """

    def __init__(self, own: str = "") -> None:
        """Begin with nothing; files whose paths begin with `own` are the model's, unless that is empty."""
        self._own = own
        self._pythons = tuple(
            f"{prefix.rstrip('/')}/{part}/"
            for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
            for part in _OF_PYTHON
        )
        self._counted: dict[str, str] = {}
        self._written: set[str] = set()
        self._n_chars = 0
        self.found: dict[str, str] = {}
        self.fresh: list[tuple[str, str]] = []
        self.known: set[tuple[str, str]] = set()

    def tell_again(self) -> None:
        """Have all that was read, and is not known, told once more: to another process."""
        self.fresh = [file for file in self.found.items() if file not in self.known]

    def note(self, path: str) -> None:
        """A file is about to be opened for reading, by an absolute path."""
        counted = self._counted.get(path)
        if counted is None:
            if len(self._counted) >= _MAX_OPENED:
                return
            counted = self._counted[path] = self._path_that_counts(_normpath(path))
        if counted and counted not in self._written and (stamp := stamp_of(counted)) != self.found.get(counted):
            self._add(counted, stamp)

    def _add(self, path: str, stamp: str) -> None:
        if not stamp or (path not in self.found and len(self.found) >= MAX_FILES):
            return
        if self._n_chars + len(path) > MAX_CHARS:
            return
        if 0 <= held.unix_s() - _changed_s(path) < _YOUNG_S:
            # Another change within the same tick of the kernel's clock would not be seen.
            held.sleep_s(_YOUNG_S)
            stamp = stamp_of(path)
        self._n_chars += len(path)
        self.found[path] = stamp
        self.fresh.append((path, stamp))

    def _path_that_counts(self, path: str) -> str:
        """The path of a file that counts, of a module the source; empty for any other."""
        folder, _, name = path.rpartition("/")
        if folder.endswith(f"/{_CACHE}") and name.endswith(".pyc"):
            path = f"{folder[: -len(_CACHE)]}{name.partition('.')[0]}.py"
        try:
            path.encode()
        except UnicodeEncodeError:
            return ""  # it has no name that could be written down
        is_own = bool(self._own) and path.startswith(self._own)
        parts = (path[len(self._own) :] if is_own else path).split("/")[:-1]
        is_hidden = any(part.startswith(".") or part == _CACHE for part in parts)
        if path.startswith(_OURS) and not self._own.startswith(_OURS):
            return ""
        if is_hidden or path.startswith(self._pythons) or not SHARED_FOLDERS.isdisjoint(parts):
            return ""
        return path if is_own or not path.startswith(_SYSTEM) else ""

    def is_current(self) -> bool:
        """Whether nothing that was read has changed since, but for what the run began with."""
        return all(stamp_of(path) == stamp for path, stamp in self.found.items() - self.known)

    # As a watcher

    def about_to_read(self, path: str) -> None:
        """Note it."""
        self.note(path)

    def about_to_write(self, path: str, *, is_emptied: bool, is_sure: bool = True) -> None:  # noqa: ARG002
        """What this process writes it does not depend on."""
        self.wrote(path)

    def about_to_replace(self, path: str) -> None:
        """What this process puts there it does not depend on."""
        self.wrote(path)

    def about_to_enter(self, path: str, *, is_all: bool) -> None:
        """Nothing is read by that."""

    def about_to_start(self, *, is_python: bool) -> None:
        """What a program reads is not seen."""

    def wrote(self, path: str) -> None:
        """A file is written by this process: unless it was read before, it is not one that results depend on."""
        if path not in self.found and len(self._written) < _MAX_OPENED:
            self._written.add(_normpath(path))


def stamp_of(path: str) -> str:
    """What tells a file from what it is once it was changed; empty where there is no plain file."""
    try:
        found = _stat(path)
    except (OSError, ValueError):
        return ""
    if not _S_ISREG(found.st_mode):
        return ""
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


def _changed_s(path: str) -> float:
    with suppress(OSError):
        return _stat(path).st_ctime
    return 0.0


_digests: dict[tuple[str, str], str] = {}


def digest_of_file(path: str) -> str | None:
    """Digest what is in a file now, as 64 hex digits; None where there is none. ModelError where it cannot be read."""
    return digest_at(path, stamp_of(path))


def digest_at(path: str, stamp: str) -> str | None:
    """Digest what was in a file while it had this stamp; None where it has another one now."""
    if not stamp or stamp_of(path) != stamp:
        return None
    if (path, stamp) not in _digests:
        content = _sha256(path)
        if stamp_of(path) != stamp:
            return None
        if held.unix_s() - _changed_s(path) < _YOUNG_S:
            return content
        _digests[path, stamp] = content
    return _digests[path, stamp]


def _sha256(path: str) -> str:
    sha = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a string, as it was opened)
            while piece := file.read(_PIECE_BYTES):
                sha.update(piece)
    except OSError as error:
        raise ModelError(f"{path}, which the model reads, cannot be read: {error.strerror}") from error
    return sha.hexdigest()


def name_of(path: str, folder: str) -> str:
    """Name a file by its path from the model's folder, or by its absolute path where it is far from there."""
    if not folder:
        return path
    name = _relpath(path, folder)
    return path if name.startswith("../" * (MAX_UP + 1)) else name


def path_of(name: str, folder: str) -> str:
    """The absolute path of a file that `name_of` named."""
    return _normpath(_join(folder, name))


def is_module_elsewhere(name: str) -> bool:
    """Whether this names a module outside of the model's folder, which each node may have in another place."""
    return name.startswith(("../", "/")) and name.endswith(".py")


def states_of(paths: Iterable[str], folder: str) -> tuple[FileState, ...]:
    """Name and digest files as they are, sorted by name; those that are gone are left out."""
    found = {name_of(path, folder): digest_of_file(path) for path in paths}
    return tuple(FileState(name, sha256) for name, sha256 in sorted(found.items()) if sha256 is not None)
