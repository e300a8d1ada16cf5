"""Shared memory that a child and the processes it started made: how much of it no process has mapped, and its removal.

Owns telling whose a segment is. Three kinds outlive the process that made them, or are in no process at all: files in
`/dev/shm`, memory files (memfd) that are open, and segments of System V.

A file in `/dev/shm` is a child's if it appeared during the life of the child, and one of the child's family reported it
to Python's tracker or was seen to have it open. Python reports into a file of ours, the end of a child's board, in
place of a tracker process, which would remove what others made as well. A file that another language leaves there
between two looks, 50 ms apart, without having it open when the server looks, is not found; README says so.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .measure import resident_parts

FOLDER = "/dev/shm"  # noqa: S108 (that is where the C library keeps them)
MOST_BYTES = 2**20
MOST_NAME = 255
_KINDS = (b"shared_memory", b"semaphore")
_SYSTEM_V = Path("/proc/sysvipc/shm")
_IPC_RMID = 0
_TICK_NS = 50_000_000
_BLOCK_BYTES = 512
"""The unit of `st_blocks`."""
_shmctl = ctypes.CDLL(None).shmctl


class Folder:
    """The files in `/dev/shm` by name and inode, since names come again; read only when something came or went."""

    def __init__(self, path: str = FOLDER) -> None:
        self._path = path
        self._changed_ns = -1
        self._names: frozenset[tuple[str, int]] = frozenset()

    def names(self) -> frozenset[tuple[str, int]]:
        """Return the files there are; none where the folder is not there, or must not be looked into."""
        try:
            changed_ns = os.stat(self._path).st_mtime_ns  # noqa: PTH116 (often)
            if changed_ns != self._changed_ns:
                # A file that comes right after the reading may have the same time: the clock of files ticks slowly.
                self._changed_ns = changed_ns if time.time_ns() - changed_ns > _TICK_NS else -1
                self._names = frozenset((entry.name, entry.inode()) for entry in os.scandir(self._path))
        except (FileNotFoundError, PermissionError):
            return frozenset()
        return self._names


def record_into(fd: int) -> None:
    """Have Python report what this process and its forks make into a file, in place of a tracker of its own."""
    # There is no other way to say where the tracker writes.
    _tracker()._fd = fd  # noqa: SLF001


@functools.cache
def _tracker() -> Any:
    """Import Python's tracker of shared memory, once and in the server: an import in a fork copies pages."""
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker  # noqa: SLF001


def recorded(fd: int, start: int) -> set[str]:
    """Return the names of files in `/dev/shm` that were reported from `start` on and not withdrawn."""
    found: set[str] = set()
    for verb, name in _told(os.pread(fd, MOST_BYTES, start)):
        if verb == b"REGISTER":
            found.add(name)
        elif verb == b"UNREGISTER":
            found.discard(name)
    return found


def _told(text: bytes) -> Iterator[tuple[bytes, str]]:
    """Read what a model's process wrote; lines that are no message for the tracker are skipped."""
    for line in text.splitlines():
        verb, _, rest = line.partition(b":")
        name, _, kind = rest.rpartition(b":")
        if kind not in _KINDS:
            continue
        plain = os.fsdecode(name.lstrip(b"/"))
        plain = f"sem.{plain}" if kind == b"semaphore" else plain
        if plain and "/" not in plain and "\0" not in plain and len(plain) <= MOST_NAME:
            yield verb, plain


@dataclass
class Segments:
    """The shared memory that one family made.

    `before` is what was in `/dev/shm` when its child was born; its reports are in `record` from `start` on.
    """

    record: int
    start: int
    before: frozenset[tuple[str, int]]
    files: dict[tuple[str, int], None] = field(default_factory=dict)
    pids: set[int] = field(default_factory=set)
    """Numbers of the processes that were of the family at any time."""

    def unmapped_bytes(self, pids: Iterable[int], now: frozenset[tuple[str, int]], inherited: frozenset[int]) -> int:
        """Return how much of it is in no process's memory, now that the family has the members `pids`.

        `now` is what is in `/dev/shm`; `inherited` are inodes that the fork server has open or mapped, which are the
        server's.
        """
        sizes: dict[int, int] = {}
        mapped: set[int] = set()
        resident_bytes = 0
        for pid in pids:
            mapped |= _mapped(pid)
            resident_bytes += resident_parts(pid).shmem_bytes
            for path, found in _open_files(pid):
                if found.st_ino not in inherited:
                    sizes[found.st_ino] = found.st_blocks * _BLOCK_BYTES
                    name = path.rpartition("/")[2]
                    if path == f"{FOLDER}/{name}" and (name, found.st_ino) in now - self.before:
                        self.files[name, found.st_ino] = None
        told = recorded(self.record, self.start)
        self.files.update(dict.fromkeys(one for one in now - self.before if one[0] in told))
        sizes.update((inode, _size_of(name)) for name, inode in self.files if (name, inode) in now)
        mapped_bytes = sum(n_bytes for inode, n_bytes in sizes.items() if inode in mapped)
        kept_bytes = sum(sizes.values()) - min(mapped_bytes, resident_bytes)
        return kept_bytes + sum(one[b"rss"] for one in _system_v(self.pids))

    def remove(self, now: frozenset[tuple[str, int]]) -> None:
        """Remove the shared memory that is left; the family's processes have ended."""
        new = now - self.before if now is not self.before else ()
        told = recorded(self.record, self.start) if new else ()
        for name, inode in new:
            if name in told or (name, inode) in self.files:
                _unlink(name, inode)
        for one in _system_v(self.pids):
            if one[b"cuid"] == os.getuid():
                _shmctl(one[b"shmid"], _IPC_RMID, None)


def _unlink(name: str, inode: int) -> None:
    path = f"{FOLDER}/{name}"
    with suppress(FileNotFoundError, PermissionError):
        found = os.lstat(path)
        if found.st_ino == inode and stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
            os.unlink(path)  # noqa: PTH108 (of every child)


def _size_of(name: str) -> int:
    try:
        return os.lstat(f"{FOLDER}/{name}").st_blocks * _BLOCK_BYTES
    except OSError:
        return 0


def _open_files(pid: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files a process has open that are kept in memory: memory files, and files in `/dev/shm`."""
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for number in os.listdir(folder):  # noqa: PTH208 (often)
            with suppress(OSError):
                path = os.readlink(f"{folder}/{number}")  # noqa: PTH115 (often)
                if path.startswith(("/memfd:", f"{FOLDER}/")):
                    yield path, os.stat(f"{folder}/{number}")  # noqa: PTH116 (often)


def _mapped(pid: int) -> set[int]:
    """Return the inodes of memory files and files in `/dev/shm` that a process has mapped."""
    found: set[int] = set()
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb", buffering=0) as file:  # noqa: PTH123 (often)
        for line in file.readall().splitlines():
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[5].startswith((b"/memfd:", b"/dev/shm/")):
                found.add(int(fields[4]))
    return found


def held_by(pid: int) -> frozenset[int]:
    """Return the inodes of shared memory that a process has open or mapped."""
    return frozenset({*_mapped(pid), *(found.st_ino for _, found in _open_files(pid))})


def _system_v(pids: set[int]) -> Iterator[dict[bytes, int]]:
    """Yield the segments of System V that these processes made and no process has attached."""
    with suppress(OSError):
        head, *lines = (line.split() for line in _SYSTEM_V.read_bytes().splitlines())
        for line in lines:
            one = {name: int(value) for name, value in zip(head, line)}
            if one[b"cpid"] in pids and not one[b"nattch"]:
                yield one
