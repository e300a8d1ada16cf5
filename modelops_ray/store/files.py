"""A run directory on a file system: every touch of it is atomic, synced, and has errors that name file and remedy.

Owns how bytes become durable. Does not know what is in a file, and keeps no state between calls.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modelops_ray.errors import StorageError
from modelops_ray.store.folder import Sink, Written

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_LEFTOVER = ".tmp"
_SWEEPS = 3


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {_explain(error)}") from error


def _explain(error: OSError) -> str:
    if error.errno in _FULL:
        return "no space left on the device; free some and start again, nothing committed is lost"
    reason = error.strerror or str(error)
    if error.errno in _DENIED:
        return f"{reason}; let this user write there, or choose another directory, nothing committed is lost"
    if error.errno == errno.ENOTDIR:
        return "a file is where a folder should be; choose another directory"
    return f"{reason}; start again once that is repaired, nothing committed is lost"


def _holds_working_folder(root: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(root.resolve())
    except FileNotFoundError:
        return False  # the working folder has been removed


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A directory of a file system; `folder.Folder` says what its methods promise.

    `shown` is how it is named to people where that is not its path.
    """

    root: Path
    shown: Path | None = None

    def where(self, name: str = "") -> str:
        """Its path, or that of something in it, as a person gave it."""
        return str((self.shown or self.root) / name)

    def inside(self, name: str) -> LocalFolder:
        """Open a directory in this one."""
        return LocalFolder(self.root / name, Path(self.where(name)))

    def _reporting(self, path: Path) -> AbstractContextManager[None]:
        return reporting(Path(self.where(str(path.relative_to(self.root)))))

    def identity(self) -> tuple[int, int] | None:
        """Tell this directory from another one that later has its name; None if there is none."""
        with self._reporting(self.root):
            try:
                found = self.root.stat()
            except FileNotFoundError:
                return None
        return found.st_dev, found.st_ino

    def move_aside(self, ending: str) -> None:
        """Rename it; refused from inside it, where relative paths would lead into what was moved."""
        if _holds_working_folder(self.root):
            raise StorageError(
                f"{self.where()}: cannot be moved aside from inside it; start from another folder, nothing was changed"
            )
        to = self.root.with_name(f"{self.root.name}{ending}")
        with reporting(Path(self.where()).with_name(to.name)):
            self.root.rename(to)
            _sync_directory(to.parent)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is no such file."""
        path = self.root / name
        with self._reporting(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Read many files, one after the other."""
        return map(self.read, names)

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes, None if there is no such file."""
        path = self.root / name
        with self._reporting(path):
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all regular files in a directory."""
        path = self.root / folder
        with self._reporting(path):
            try:
                with os.scandir(path) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            except (FileNotFoundError, NotADirectoryError):
                return {}

    def names(self, folder: str = "") -> list[str]:
        """List a directory in order, leftovers of crashed writes excluded; [] if there is none."""
        return [name for name in self._all_names(folder) if not _is_leftover(name)]

    def leftovers(self, folder: str = "") -> list[str]:
        """List what crashed writes left in a directory."""
        return [name for name in self._all_names(folder) if _is_leftover(name)]

    def replace(self, name: str, data: bytes) -> None:
        """Write a whole file so that a reader, or a crash, sees the old content or the new."""

        def fill(sink: Sink) -> None:
            sink.write(data)

        self.write(name, fill)

    def write(self, name: str, fill: Callable[[Sink], None]) -> Written:
        """Let `fill` write a whole file, then put it in place durably, over what was there."""
        path = self.root / name
        with self._reporting(path):
            self._make(path.parent)
            temporary, written = _fill_temporary(path, fill)
            temporary.replace(path)
            _sync_directory(path.parent)
        return written

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole file unless its name is taken; of several that try, exactly one is told True."""
        path = self.root / name

        def fill(sink: Sink) -> None:
            sink.write(data)

        with self._reporting(path):
            self._make(path.parent)
            for attempt in range(_SWEEPS):
                temporary, _ = _fill_temporary(path, fill)
                try:
                    return _link(temporary, path)
                except FileNotFoundError:
                    # A session that starts at the same moment has swept the temporary file away.
                    if attempt + 1 == _SWEEPS:
                        raise
                finally:
                    temporary.unlink(missing_ok=True)
                    _sync_directory(path.parent)
        raise AssertionError("unreachable")

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        path = self.root / name
        with self._reporting(path):
            path.unlink(missing_ok=True)

    def _all_names(self, folder: str) -> list[str]:
        path = self.root / folder
        with self._reporting(path):
            try:
                return sorted(entry.name for entry in path.iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _make(self, path: Path) -> None:
        """Make a directory and its parents, each durable before anything is put into it."""
        if path.is_dir():
            return
        self._make(path.parent)
        path.mkdir(exist_ok=True)
        _sync_directory(path.parent)


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith(_LEFTOVER)


def _fill_temporary(path: Path, fill: Callable[[Sink], None]) -> tuple[Path, Written]:
    """Write and sync a file beside `path` under a name no reader looks at."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_LEFTOVER}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        sink = Sink(partial(_write_all, fd))
        fill(sink)
        sink.flush()
        os.fsync(fd)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return temporary, sink.written()


def _write_all(fd: int, data: bytearray) -> None:
    """Hand over all of it; the operating system may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        # Whoever took the name also swept away this writer's temporary file.
        if path.exists():
            return False
        raise
    return True


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
