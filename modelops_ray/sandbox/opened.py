"""Tells a watcher what a simulation is about to read or change on disk, or that it is about to start a program.

Owns Python's audit hook: one for each process, since a hook cannot be removed; it does nothing without a watcher.
What Python does not do itself (libraries in C, programs) is not seen. Decides nothing: a `Watcher` does. Runs in the
model's interpreter; standard library only.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Optional, Protocol

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NOT_READING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
# Held here: a model may replace them in their modules.
_fsdecode, _getcwd, _join, _readlink = os.fsdecode, os.getcwd, os.path.join, os.readlink


class Watcher(Protocol):
    """Is told what is about to happen; if it raises, that does not happen and the model's call raises the same."""

    def about_to_read(self, path: str) -> None:
        """A file is opened to read what is in it; the absolute path may not exist, or be a folder's."""

    def about_to_write(self, path: str, *, is_emptied: bool, is_sure: bool = True) -> None:
        """A file is opened for writing or changed, or may be if not `is_sure`; the absolute path may not exist."""

    def about_to_replace(self, path: str) -> None:
        """An entry of a folder, given by its absolute path, is made, removed or put in the place of another."""

    def about_to_enter(self, path: str, *, is_all: bool) -> None:
        """A folder becomes the working directory, or with `is_all` everything in it is removed."""

    def about_to_start(self, *, is_python: bool) -> None:
        """A program is started, or this process forks."""


_watcher: Optional[Watcher] = None  # noqa: UP045 (Python 3.9 reads it)
_inside: set[int] = set()
_is_installed = False


def watch(watcher: Watcher | None) -> None:
    """Have all that happens from now on told to a watcher; None for no watcher."""
    global _watcher, _is_installed  # noqa: PLW0603 (one hook for each process)
    if not _is_installed:
        sys.addaudithook(_hear)
        _is_installed = True
    _watcher = watcher


@contextmanager
def unheard() -> Iterator[None]:
    """Have the watcher not told what this thread does inside: code of ours, in a process that also simulates."""
    thread = get_ident()
    _inside.add(thread)
    try:
        yield
    finally:
        _inside.discard(thread)


def _absolute(path: Any, folder_fd: Any = -1) -> str:
    """Return the path made absolute, with its `..` kept; empty for a descriptor and for no valid path."""
    if isinstance(path, int) or path is None:
        return ""
    text = _fsdecode(path)
    if not text or text[0] == "/" or "\0" in text:
        return "" if "\0" in text else text
    try:
        folder = _getcwd() if folder_fd in (-1, None) else _readlink(f"/proc/self/fd/{folder_fd}")
    except OSError:
        return ""
    return _join(folder, text)


def _open(watcher: Watcher, path: Any, _mode: Any, flags: Any, *_: Any) -> None:
    if not isinstance(flags, int) or not (found := _absolute(path)):
        return
    if not flags & _NOT_READING:
        watcher.about_to_read(found)
    if flags & _WRITING:
        watcher.about_to_write(found, is_emptied=bool(flags & os.O_TRUNC))


def _sqlite(watcher: Watcher, database: Any, *_: Any) -> None:
    path, how = "" if isinstance(database, int) else _fsdecode(database), ""
    if path.startswith("file:"):
        path, _mark, how = path[5:].partition("?")
    if path == ":memory:" or "mode=memory" in how or not (found := _absolute(path)):
        return
    watcher.about_to_read(found)
    if "mode=ro" not in how:
        watcher.about_to_write(found, is_emptied=False, is_sure=False)


def _changed(watcher: Watcher, path: Any, *_: Any) -> None:
    if found := _absolute(path):
        watcher.about_to_write(found, is_emptied=False)


def _entry(watcher: Watcher, path: Any, *rest: Any) -> None:
    if found := _absolute(path, rest[-1] if rest else -1):
        watcher.about_to_replace(found)


def _two_entries(watcher: Watcher, source: Any, target: Any, source_fd: Any = -1, target_fd: Any = -1, *_: Any) -> None:
    for path, fd in ((source, source_fd), (target, target_fd)):
        if found := _absolute(path, fd):
            watcher.about_to_replace(found)


def _link(watcher: Watcher, source: Any, target: Any, *_: Any) -> None:
    _changed(watcher, source)
    _entry(watcher, target)


def _symlink(watcher: Watcher, _source: Any, target: Any, folder_fd: Any = -1, *_: Any) -> None:
    _entry(watcher, target, folder_fd)


def _entered(watcher: Watcher, path: Any, *_: Any, is_all: bool) -> None:
    if found := _absolute(path):
        watcher.about_to_enter(found, is_all=is_all)


def _started(watcher: Watcher, *_: Any, is_python: bool) -> None:
    watcher.about_to_start(is_python=is_python)


_chdir, _removed = partial(_entered, is_all=False), partial(_entered, is_all=True)
_program, _forked = partial(_started, is_python=False), partial(_started, is_python=True)
_EVENTS: dict[str, Callable[..., None]] = {
    "open": _open, "sqlite3.connect": _sqlite,
    "os.truncate": _changed, "os.chmod": _changed, "os.chown": _changed, "os.utime": _changed,
    "os.setxattr": _changed, "os.removexattr": _changed,
    "os.remove": _entry, "os.mkdir": _entry, "os.symlink": _symlink, "os.link": _link, "os.rename": _two_entries,
    "os.chdir": _chdir, "os.rmdir": _chdir, "shutil.rmtree": _removed,
    "subprocess.Popen": _program, "os.system": _program, "os.posix_spawn": _program, "os.spawn": _program,
    "os.exec": _program, "pty.spawn": _program, "os.fork": _forked, "os.forkpty": _forked,
}  # fmt: skip


def _hear(event: str, args: tuple[Any, ...], events: dict[str, Callable[..., None]] = _EVENTS) -> None:
    # Nearly all events are not in the table (every call of `id` is one) and cost some 100 ns each.
    if event in events and _watcher is not None:
        _tell(_watcher, events[event], args)


def _tell(watcher: Watcher, tell: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Tell the watcher what is about to happen, unless the watcher itself does it while it is told."""
    thread = get_ident()
    if thread in _inside:
        return
    _inside.add(thread)
    try:
        tell(watcher, *args)
    finally:
        _inside.discard(thread)
