"""A run directory on a file system: every touch of it is atomic, synced, and has errors that name file and remedy.

Owns how bytes become durable, and that a directory that is held stays the one that is meant: its descriptor leads to it
also under another name, and keeps its inode from being given to another. Does not know what is in a file.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from modelops_ray.errors import ResultsError, StorageError
from modelops_ray.store.storage.base import MAX_BYTES, Folder, Sink, Written
from modelops_ray.store.storage.names import make_name, rename_new

Mark = tuple[int, int, int, int]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}
_LEFTOVER = ".tmp"
_SWEEPS = 3
_MOVES = 1000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


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
    if error.errno == errno.ENOTSUP:
        return f"{reason}, so that two sessions could write one run; choose a directory on another volume"
    if error.errno == errno.EBUSY:
        return f"{reason}; a volume is mounted there, give a folder in it"
    return f"{reason}; start again once that is repaired, nothing committed is lost"


def _holds_working_folder(root: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(root.resolve())
    except FileNotFoundError:
        return False  # the working folder has been removed


class _Held:
    """A descriptor of a directory, closed when nothing refers to it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


@dataclass(frozen=True, slots=True)
class LocalFolder(Folder):
    """A directory of a file system; `base.Folder` says what its methods promise.

    `shown` is its name for people where that is not its path. In the directory `_held` this one is called `_inside`.
    """

    root: Path
    shown: Path | None = None
    _held: _Held | None = None
    _inside: str = ""

    def where(self, name: str = "") -> str:
        """Its path, or that of something in it, as a person gave it."""
        return str((self.shown or self.root) / name)

    def inside(self, name: str) -> LocalFolder:
        """Open a directory in this one."""
        within = f"{self._inside}/{name}".lstrip("/") if self._held else ""
        return replace(self, root=self.root / name, shown=Path(self.where(name)), _inside=within)

    def hold(self, *, make: bool = False) -> LocalFolder:
        """Bind it to the directory that its name leads to now."""
        with self._reporting():
            if make:
                self._make(self._path())
            try:
                fd = os.open(self._path(), _DIRECTORY, dir_fd=self._fd)
            except (FileNotFoundError, NotADirectoryError):
                if make:
                    raise
                return self
        return replace(self, _held=_Held(fd), _inside="")

    def is_in_place(self) -> bool:
        """Whether its path still leads to the directory that is held."""
        with self._reporting():
            try:
                found = self.root.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            held = os.stat(self._path(), dir_fd=self._fd)
        return os.path.samestat(found, held)

    @property
    def renames(self) -> bool:
        """A directory is renamed in one step."""
        return True

    def move_aside(
        self,
        ending: str,
        heads: Mapping[str, Hashable],  # noqa: ARG002 (for copies)
        stub: Callable[[], bytes],  # noqa: ARG002
    ) -> LocalFolder:
        """Rename it; refused from inside it, where relative paths would lead into what was moved."""
        if _holds_working_folder(self.root):
            raise StorageError(
                f"{self.where()}: cannot be moved aside from inside it; start from another folder, nothing was changed"
            )
        real = Path(os.path.realpath(self.root))
        with reporting(Path(self.where()).with_name(f"{real.name}{ending}")):
            to = _renamed(real, ending)
            self._require_moved(real, to)
            _sync_directory(str(real.parent))
        return LocalFolder(to)

    def read_marked(self, name: str) -> tuple[bytes, Mark] | None:
        """Return the content of a regular file and its mark, None if there is no such file.

        ResultsError for a document of such a size that no memory has to hold it. Parts are as large as results are.
        """
        with self._reporting(name):
            try:
                # Without O_NONBLOCK, opening a pipe in its place would wait for a writer.
                fd = os.open(self._path(name), _READ, dir_fd=self._fd)
            except FileNotFoundError:
                return None
            with _closing(fd):
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(errno.EISDIR, "not a regular file")
                if found.st_size > MAX_BYTES and name.endswith(".json"):
                    raise ResultsError(
                        f"{self.where(name)}: it has {found.st_size:,} bytes, more than the {MAX_BYTES:,} of any such "
                        "file; restore it from a copy"
                    )
                return _read_all(fd, found.st_size), _mark(found)

    def mark(self, name: str) -> Mark | None:
        """Tell a file from any other that later has its name; None if there is no such file."""
        found = self._stat(name)
        return None if found is None else _mark(found)

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes, None if there is no such file."""
        found = self._stat(name)
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all regular files in a directory."""
        with self._reporting(folder):
            try:
                with self._scanning(folder) as entries:
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
        self.write(name, lambda sink: sink.write(data))

    def exchange(self, name: str, mark: Hashable, data: bytes) -> bool:
        """Write a whole file in place of the one that has this mark.

        No file system does both in one step. It is needed only where a stub was copied here from an object store; the
        session that loses a race for it finds the id of the other's run.
        """
        if self.mark(name) != mark:
            return False
        self.replace(name, data)
        return True

    def write(self, name: str, fill: Callable[[Sink], object]) -> Written:
        """Let `fill` write a whole file, then put it in place durably, over what was there."""
        path = self._path(name)
        with self._reporting(name):
            self._make(_parent(path))
            temporary, written = _fill_temporary(path, fill, self._fd)
            os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            _sync_directory(_parent(path), self._fd)
        return written

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole file unless its name is taken; of several that try, exactly one is told True."""
        path = self._path(name)
        with self._reporting(name):
            self._make(_parent(path))
            for attempt in range(_SWEEPS):
                temporary, _ = _fill_temporary(path, lambda sink: sink.write(data), self._fd)
                try:
                    return self._name(temporary, path)
                except FileNotFoundError:
                    # A session that starts at the same moment has swept the temporary file away.
                    if attempt + 1 == _SWEEPS:
                        raise
                finally:
                    _remove(temporary, self._fd)
                    _sync_directory(_parent(path), self._fd)
        raise AssertionError("unreachable")

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        with self._reporting(name):
            _remove(self._path(name), self._fd)

    @property
    def _fd(self) -> int | None:
        return None if self._held is None else self._held.fd

    def _path(self, name: str = "") -> str:
        """What the system is asked for: relative to the directory that is held, if there is one."""
        if self._held is None:
            return str(self.root / name)
        return f"{self._inside}/{name}".strip("/") or "."

    def _reporting(self, name: str = "") -> AbstractContextManager[None]:
        return reporting((self.shown or self.root) / name)

    def _stat(self, name: str) -> os.stat_result | None:
        with self._reporting(name):
            try:
                return os.stat(self._path(name), dir_fd=self._fd)
            except FileNotFoundError:
                return None

    @contextmanager
    def _scanning(self, folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with _closing(os.open(self._path(folder), _DIRECTORY, dir_fd=self._fd)) as fd, os.scandir(fd) as entries:
            yield entries

    def _all_names(self, folder: str) -> list[str]:
        with self._reporting(folder):
            try:
                with self._scanning(folder) as entries:
                    return sorted(entry.name for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _make(self, path: str) -> None:
        """Make a directory and its parents, each durable before anything is put into it."""
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(path, dir_fd=self._fd).st_mode):
                return
        # Where it is a link whose target is missing, the directory is made as that target.
        path = path if self._held else os.path.realpath(path)
        self._make(_parent(path))
        try:
            os.mkdir(path, dir_fd=self._fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(path, dir_fd=self._fd).st_mode):
                raise
        _sync_directory(_parent(path), self._fd)

    def _name(self, temporary: str, path: str) -> bool:
        try:
            make_name(temporary, path, self._fd)
        except FileExistsError:
            return False
        except FileNotFoundError:
            # The session that took the name also swept away this writer's temporary file.
            with suppress(FileNotFoundError):
                os.stat(path, dir_fd=self._fd)
                return False
            raise
        return True

    def _require_moved(self, real: Path, to: Path) -> None:
        """Put back what was renamed if it is not what is held: another session exchanged it in between."""
        if self._held is None or os.path.samestat(to.stat(), os.stat(self._path(), dir_fd=self._fd)):
            return
        rename_new(str(to), str(real))
        raise StorageError(f"{self.where()}: another session started over at the same moment; start again")


def _renamed(real: Path, ending: str) -> Path:
    for number in itertools.count(1):
        to = real.with_name(f"{real.name}{ending}" + (f"-{number}" if number > 1 else ""))
        try:
            real.rename(to)
        except OSError as error:
            if error.errno not in _TAKEN or number == _MOVES:
                raise
        else:
            return to
    raise AssertionError("unreachable")


def _mark(found: os.stat_result) -> Mark:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith(_LEFTOVER)


def _fill_temporary(path: str, fill: Callable[[Sink], object], folder: int | None) -> tuple[str, Written]:
    """Write and sync a file beside `path` under a name no reader looks at."""
    tail = path.rpartition("/")[2]
    temporary = f"{path.removesuffix(tail)}.{tail}.{secrets.token_hex(4)}{_LEFTOVER}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    with ExitStack() as undo:
        undo.callback(_remove, temporary, folder)
        with _closing(fd):
            sink = Sink(partial(_write_all, fd))
            fill(sink)
            sink.flush()
            os.fsync(fd)
        undo.pop_all()
    return temporary, sink.written()


def _remove(path: str, folder: int | None) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path, dir_fd=folder)


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _read_all(fd: int, size_bytes: int) -> bytes:
    with io.FileIO(fd, closefd=False) as file:
        data = file.read(size_bytes + 1) or b""
        return data if len(data) == size_bytes else data + (file.readall() or b"")


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def _write_all(fd: int, data: bytearray) -> None:
    """Hand over all of it; the operating system may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_directory(path: str, folder: int | None = None) -> None:
    with _closing(os.open(path, _DIRECTORY, dir_fd=folder)) as fd:
        os.fsync(fd)
