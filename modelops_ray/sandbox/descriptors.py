"""Which open descriptors of a process are the model's, and what a fork gets in their place.

A descriptor belongs to the model where the import left it open; everything else is ours to close. A fork shares what it
inherits, offsets included, so that two children would get each other's bytes. What each child has instead:

* Regular files and folders that can be read get a description of the child's own, at the same number, with the same
  flags and offset, also where the file was removed meanwhile. Descriptors that shared an offset still share it.
* A file without a name that the model can write and read (`tempfile.TemporaryFile`, a memfd) is scratch: each child
  gets a copy of it, up to `SCRATCH_BYTES`.
* What is only written (a log) stays shared: lines of all children follow one another and none is overwritten. A file
  that is written and read under a name (`r+`, `a+`, SQLite) has one content and an offset for each child.
* What holds an exclusive lock of `flock` stays shared, for the lock belongs to the description. Under a shared lock,
  which libraries take for reading, each child reads through its own; the server holds the lock for all of them.
* Devices (`/dev/null`, `/dev/urandom`, terminals), descriptors of processes and of mere paths stay shared.
* Pipes, sockets, event queues, shared memory without a file that others see, and files under a POSIX write lock cannot
  be given to a child as its own: an answer to one child would reach another. Such a model is not forked.

Mappings of files stay as they were: they do not use the descriptor. Runs in the model's interpreter.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

HIGH = 700
"""Ours are numbered from here on: a model that closes a number twice, or all small ones, does not meet them."""
SCRATCH_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20
# What says how a file is found or made, and not how it is used; the way to it is a link here.
_ONCE = os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_TMPFILE
_WRITE_LOCK = re.compile(r"^lock:\s.*\bPOSIX\b.*\bWRITE\b", re.MULTILINE)
_SHARED_LOCK = re.compile(r"^lock:\s.*\b(FLOCK|OFDLCK)\b.*\bWRITE\b", re.MULTILINE)
_MAPPED = re.compile(r"^\S+ rw.s \S+ \S+ \S+ +(/dev/zero|/dev/shm/|/memfd:|\S.* \(deleted\)$)(.*)$", re.MULTILINE)
# Of semaphores, whose sharing changes no result, and of OpenMP, which registers itself under its process's number.
_HARMLESS = ("/dev/shm/sem.", "/dev/shm/__KMP_")  # noqa: S108 (only looked for)
_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


class _Found(NamedTuple):
    """A descriptor that the model left open."""

    fd: int
    mode: int
    inode: tuple[int, int]
    n_names: int
    size_bytes: int
    flags: int
    offset: int
    name: str
    info: str

    @property
    def is_plain(self) -> bool:
        return (stat.S_ISREG(self.mode) or stat.S_ISDIR(self.mode)) and not self.name.startswith("pidfd:")

    @property
    def is_read(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def is_written(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class _Step(NamedTuple):
    """How a child makes one descriptor its own: `open` the file of `source` again, `copy` it, or `dup` it."""

    how: str
    fd: int
    source: int
    flags: int
    offset: int
    is_inheritable: bool


class ModelsDescriptors:
    """What the import left open in this process: the numbers `fds`.

    `any_written` tells whether something may be written through one of them, `why_not_fork` in words what of it a fork
    could not have as its own, "" if there is nothing.
    """

    def __init__(self, fds: Iterable[int] = (), maps_before: str | None = None) -> None:
        """Look at what is open, and at what is mapped now and was not before, where that is known."""
        found = [one for one in map(_inspect, sorted(fds)) if one is not None]
        self.fds = frozenset(one.fd for one in found)
        self.any_written = any(one.is_written for one in found)
        self.why_not_fork = next(filter(None, map(_why_not, found)), "")
        if maps_before is not None:
            self.why_not_fork = self.why_not_fork or _why_not_mapped(maps_before)
        self._steps = _steps(found)
        if not self.why_not_fork:
            self.why_not_fork = next(filter(None, map(_cannot, self._steps)), "")

    @classmethod
    def left_since(cls, before: frozenset[int], maps_before: str) -> ModelsDescriptors:
        """Look at what was opened and mapped since then, as long as that can be looked at."""
        try:
            return cls(open_descriptors() - before, maps_before)
        except OSError as error:
            blind = cls()
            blind.why_not_fork = f"what importing the model leaves open cannot be looked at ({error.strerror})"
            return blind

    def make_own(self, folder: str) -> None:
        """In a fork: give this process descriptions of its own; `folder` has room for copies. OSError without room."""
        for step in self._steps:
            _take(step, folder)


def open_descriptors() -> frozenset[int]:
    """The numbers of this process that are open."""
    # The one that the list was read with is closed by now.
    return frozenset(fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd))  # noqa: PTH208 (cheaper)


def shared_mappings() -> str:
    """The memory of this process that it would share with a fork, as the kernel lists it."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 (before any import)
        return "".join(line for line in maps if " rw-s " in line or " rwxs " in line)


def high(fd: int) -> int:
    """Move a descriptor of ours out of the way of a model's; as it is where the limit does not allow that."""
    try:
        moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:
        return fd
    os.close(fd)
    return moved


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _inspect(fd: int) -> _Found | None:
    with suppress(FileNotFoundError):
        there, flags = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
        offset = 0
        with suppress(OSError):
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (few)
            info = file.read()
        name = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 (the text as it is)
        inode = (there.st_dev, there.st_ino)
        return _Found(fd, there.st_mode, inode, there.st_nlink, there.st_size, flags & ~_ONCE, offset, name, info)
    return None


def _why_not(one: _Found) -> str:
    """Why a child cannot have this as its own; empty where it can, or where sharing it changes nothing."""
    for is_kind, what in _KINDS:
        if is_kind(one.mode):
            return f"importing the model leaves {what} open"
    if one.name.startswith("anon_inode:") and "pidfd" not in one.name:
        return f"importing the model leaves an event queue open ({one.name})"
    if one.is_plain and _WRITE_LOCK.search(one.info):
        return f"importing the model leaves {one.name} locked"
    if _is_scratch(one) and one.size_bytes > SCRATCH_BYTES:
        return f"importing the model leaves a file without a name open, of {one.size_bytes / 2**20:,.0f} MiB"
    return ""


def _why_not_mapped(before: str) -> str:
    for line in shared_mappings().splitlines():
        mapped = _MAPPED.search(line)
        if mapped and line not in before and not (mapped[1] + mapped[2]).startswith(_HARMLESS):
            return f"importing the model makes memory that forks share ({mapped[1]}{mapped[2]})"
    return ""


def _is_scratch(one: _Found) -> bool:
    return stat.S_ISREG(one.mode) and one.n_names == 0 and one.is_written


def _steps(found: list[_Found]) -> tuple[_Step, ...]:
    """What a child does, in this order: later steps use what earlier ones put in place."""
    plain = [one for one in found if one.is_plain and not one.flags & os.O_PATH]
    read = {one.inode for one in plain if one.is_read}
    scratch = {one.inode for one in plain if _is_scratch(one)} & read
    steps: list[_Step] = []
    done: list[_Found] = []
    for one in plain:
        if _SHARED_LOCK.search(one.info) or not (one.is_read or one.inode in scratch):
            continue
        steps.append(_step(one, done, scratch))
        done.append(one)
    return tuple(steps)


def _step(one: _Found, done: list[_Found], scratch: set[tuple[int, int]]) -> _Step:
    how, source = "open", one.fd
    same = [other for other in done if other.inode == one.inode]
    twin = next((other for other in same if other.flags == one.flags and _share_offset(other, one)), None)
    if twin is not None:
        how, source = "dup", twin.fd
    elif one.inode in scratch:
        how, source = ("open", same[0].fd) if same else ("copy", one.fd)
    return _Step(how, one.fd, source, one.flags, one.offset, os.get_inheritable(one.fd))


def _share_offset(one: _Found, other: _Found) -> bool:
    """Whether two descriptors of a file have one offset, which moving it tells."""
    if not stat.S_ISREG(one.mode):
        return False
    os.lseek(one.fd, one.offset + 1, os.SEEK_SET)
    try:
        return os.lseek(other.fd, 0, os.SEEK_CUR) == one.offset + 1 != other.offset
    finally:
        os.lseek(one.fd, one.offset, os.SEEK_SET)


def _cannot(step: _Step) -> str:
    """Why a child could not take this step: this user may not open the file."""
    if step.how != "open":
        return ""
    try:
        os.close(os.open(f"/proc/self/fd/{step.source}", step.flags))
    except OSError as error:
        name = os.readlink(f"/proc/self/fd/{step.fd}")  # noqa: PTH115 (the text as it is)
        return f"importing the model leaves {name} open, which cannot be opened again ({error.strerror})"
    return ""


def _take(step: _Step, folder: str) -> None:
    if step.how == "dup":
        os.dup2(step.source, step.fd, step.is_inheritable)
        return
    fd = _copy(step, folder) if step.how == "copy" else os.open(f"/proc/self/fd/{step.source}", step.flags)
    os.lseek(fd, step.offset, os.SEEK_SET)
    os.dup2(fd, step.fd, step.is_inheritable)
    os.close(fd)


def _copy(step: _Step, folder: str) -> int:
    """A file without a name that has the same content, opened as the other is."""
    path = f"{folder}/.scratch"
    copy = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    # A descriptor that may only be written cannot be read for a copy, but its file can.
    source = os.open(f"/proc/self/fd/{step.source}", os.O_RDONLY)
    try:
        at = 0
        while piece := os.pread(source, _PIECE_BYTES, at):
            os.pwrite(copy, piece, at)
            at += len(piece)
        return os.open(path, step.flags)
    finally:
        os.unlink(path)  # noqa: PTH108 (once per child)
        os.close(source)
        os.close(copy)
