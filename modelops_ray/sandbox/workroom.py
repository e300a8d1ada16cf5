"""The working directory of a simulation: its own, with the model's files in it by the names they have.

A folder of links to what is in the model's. What is about to be changed there is made the simulation's own first, what
it wrote is gone before the next one. Programs are given copies, up to a budget, since what they open is not seen. Owns
that folder, and what was written elsewhere: that is told, for another simulation may write the same. A folder that was
left as it was made is the next process's, even if the one before was killed: making the links takes longer than a fork.
Runs in the model's interpreter; standard library only.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from . import opened
from .descriptors import high
from .held import held

MAX_ENTRIES = 5000
"""A model's folder with more is shared: it would cost more than it protects."""
MIRRORED_ENTRIES = 64
"""This many entries of folders within the model's are links of their own: walks do not follow a link to a folder."""
COPIED_ENTRIES = 1000
COPIED_BYTES = 32 * 2**20
SMALL_BYTES, ALL_SMALL_BYTES = 2**18, 2**20
MOST_BESIDE = 128
"""A folder above the model's with more entries has none of them beside the working directory."""
_UNSEEN = (
    ".parquet", ".feather", ".arrow", ".h5", ".hdf5", ".hdf", ".nc", ".nc4", ".db", ".sqlite", ".sqlite3", ".tif",
    ".tiff", ".fits", ".rds",
)  # fmt: skip
"""What libraries in C write without asking Python: small ones are copied at once, large ones looked at afterwards."""
MAX_PATHS = 100
MADE_NOTHING_S = 2e-6
"""A simulation that took less has made no file: the system takes 3 us to make a folder in memory, and 4 for a file."""
_MADE = "made"
_MOST_MADE_BYTES = 2**22
_ANYWHERE = ("/dev/", "/proc/", "/sys/")
_CACHES = ("/__pycache__/", "/.cache/", "/compiled/")
_Stamp = tuple[int, int, int]


class Workroom:
    """One simulation at a time works in it.

    Attributes:
        wrote: Paths elsewhere that the simulation wrote to.
        changed: Files of the model's that were changed where all simulations see them, by means that are not seen.
        is_shared: Whether the model's folder is too large for all that, and the working directory itself.
    """

    def __init__(self, models: str, place: str, own: str = "") -> None:
        """Prepare for the folder `models`, which may be "", below the folder `place`, which is for nothing else.

        What a process before this one left in `place` as it was made is taken over. `own` is another folder that is
        this process's alone: what is written there is no other simulation's.
        """
        self._models, self._place, self._own = models, place, own or place
        self._root, self._n, self._root_fd = "", 0, -1
        self._folders: dict[str, int] = {}
        self._copies: dict[str, _Stamp] = {}
        self._stamps: dict[str, _Stamp] = {}
        self._is_touched = self._has_copies = False
        self._n_small = 0
        self.wrote: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        self.is_shared = False

    def enter(self) -> None:
        """Make this folder the working directory, for one simulation."""
        if self.is_shared or (not self._root and not self._make()):
            with suppress(OSError):
                os.chdir(self._models)
            return
        try:
            os.fchdir(self._root_fd)
        except OSError:  # a simulation closed all that is open
            os.chdir(self._root)
        if self.wrote:
            self.wrote = {}
        opened.watch(self)

    def leave(self, seconds: float) -> None:
        """End the stay of a simulation, whose model took `seconds`: what it changed is removed."""
        opened.watch(None)
        if self._root and (self._is_touched or (seconds > MADE_NOTHING_S and self._is_changed())):
            self.clear()

    def clear(self) -> None:
        """Remove what is there; the next simulation finds it made anew."""
        work, self._root = self._work, ""
        with suppress(OSError):
            os.close(self._root_fd)
        self._root_fd = -1
        with suppress(OSError):
            os.chdir(self._models or "/")
        if self._n:
            shutil.rmtree(work, ignore_errors=True)

    def _take_over(self) -> bool:
        """Take the folder that the process before left, if it is what would be made now; return whether it is."""
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            version, root, folders, copies, stamps, self._n_small = held.loads(_read(self._made))
            self._folders, self._stamps = folders, {theirs: tuple(stamp) for theirs, stamp in stamps.items()}
            self._copies = {ours: tuple(stamp) for ours, stamp in copies.items()}
            is_ours = root.startswith(f"{self._work}/") and version == _version(self._models)
            if is_ours and not self._is_changed():
                self._root, self._is_touched, self._has_copies = root, False, False
                return True
        return False

    def _hand_on(self) -> None:
        """Write down how the folder is made, for the next process here; removed once the folder is touched."""
        made = [self._root, self._folders, self._copies, self._stamps, self._n_small]
        with suppress(OSError, ValueError), open(self._made, "wb") as file:
            file.write(held.dumps([_version(self._models), *made]).encode())

    def _touch(self) -> None:
        if not self._is_touched and self._n == 1:
            with suppress(FileNotFoundError):
                os.unlink(self._made)
        self._is_touched = True

    def update_changed(self) -> None:
        """Find out which of the model's files were changed since this was done last."""
        for path, before in self._stamps.items():
            with suppress(OSError):
                now = _stamp(path)
                if now != before and len(self.changed) < MAX_PATHS:
                    self.changed[path] = None
                self._stamps[path] = now

    @property
    def _work(self) -> str:
        return f"{self._place}/work-{self._n}"

    @property
    def _made(self) -> str:
        return f"{self._place}/{_MADE}"

    def _make(self) -> bool:
        self._n += 1
        if not (self._n == 1 and self._take_over()) and not self._make_anew():
            return False
        # By a descriptor it is entered in a quarter of the time.
        self._root_fd = high(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY))
        return True

    def _make_anew(self) -> bool:
        """Make it; False where the model's folder is to be shared."""
        if self._n == 1 and _listed(self._place) != [] and not empty(self._place):
            self._n += 1  # what was left here cannot be removed
        above = self._made_above()
        root = f"{above}/{os.path.basename(self._models) or 'model'}"
        _make_folder(root)
        self._folders, self._copies, self._is_touched, self._has_copies, self._n_small = {}, {}, False, False, 0
        if self._models:
            names = _listed(self._models) or []
            if len(names) > MAX_ENTRIES:
                shutil.rmtree(self._work, ignore_errors=True)
                self.is_shared = True
                return False
            self._mirror(self._models, root, names, MIRRORED_ENTRIES)
        self._root = root
        for folder in (root, above, f"{self._work}/room", *self._folders):
            self._folders[folder] = os.stat(folder).st_mtime_ns
        # Where one simulation wrote to it the next ones will: what is made again is made for this process.
        if self._n == 1:
            self._hand_on()
        return True

    def _made_above(self) -> str:
        """Make two folders above the working directory, so that `..` leads to what is beside the model's folder."""
        inner = os.path.dirname(self._models)
        outer = os.path.dirname(inner)
        place = f"{self._work}/room"
        _make_folder(self._work)
        _make_folder(place)
        for folder, within in ((outer, inner), (inner, self._models)):
            if folder == within:
                continue
            names = _listed(folder) or []
            for name in names if len(names) <= MOST_BESIDE else ():
                if name != os.path.basename(within):
                    os.symlink(f"{folder}/{name}", f"{place}/{name}")
            if within == inner:
                place = f"{place}/{os.path.basename(inner)}"
                _make_folder(place)
        return place

    def _mirror(self, source: str, target: str, names: list[str], n_left: int) -> int:
        """Link to what is in a folder, and make folders for those in it; return how many entries are left."""
        for name in names:
            ours, theirs = f"{target}/{name}", f"{source}/{name}"
            inner = _listed(theirs) if n_left and _may_be_mirrored(theirs, name) else None
            if inner is None or len(inner) > n_left or self._place.startswith(f"{theirs}/"):
                self._link(theirs, ours)
                continue
            _make_folder(ours)
            self._folders[ours] = 0
            n_left = self._mirror(theirs, ours, inner, n_left - len(inner))
        return n_left

    def _link(self, theirs: str, ours: str) -> None:
        os.symlink(theirs, ours)
        if not theirs.endswith(_UNSEEN) or not os.path.isfile(theirs):
            return
        stamp = self._stamps.setdefault(theirs, _stamp(theirs))
        if stamp[1] <= SMALL_BYTES and self._n_small + stamp[1] <= ALL_SMALL_BYTES:
            self._n_small += stamp[1]
            # Where there is no room for it, or may be none, the link does.
            with suppress(OSError):
                self._copy(theirs, ours)
                self._copies[ours] = _stamp(ours)

    def _is_changed(self) -> bool:
        try:
            return any(os.stat(folder).st_mtime_ns != at_ns for folder, at_ns in self._folders.items()) or any(
                _stamp(copy) != stamp for copy, stamp in self._copies.items()
            )
        except OSError:
            return True

    # What is about to happen

    def about_to_write(self, path: str, *, is_emptied: bool, is_sure: bool = True) -> None:
        """Make a file the simulation's own; one that may only be read is left where it is large."""
        ours = self._ours(path)
        if ours is None or not os.path.islink(ours) or not os.path.isfile(ours):
            return
        theirs = os.readlink(ours)
        if not theirs.startswith(f"{self._models}/"):
            # The model's own link, which may lead to one of ours.
            self.about_to_write(os.path.join(os.path.dirname(ours), theirs), is_emptied=is_emptied, is_sure=is_sure)
        elif is_emptied:
            os.unlink(ours)
        elif is_sure or _stamp(theirs)[1] <= COPIED_BYTES:
            self._copy(theirs, ours)

    def about_to_replace(self, path: str) -> None:
        """Make the folder that an entry is in the simulation's own."""
        self._ours(path)

    def about_to_enter(self, path: str, *, is_all: bool) -> None:
        """Make a folder the simulation's own, and with `is_all` all that are in it."""
        ours = self._ours(path, is_told=False)
        if ours is not None and os.path.isdir(ours):
            self._open_up(ours, is_all=is_all)

    def about_to_start(self, *, is_python: bool) -> None:
        """Give a program copies of files that it may change; what forks is watched there as it is here."""
        self._touch()
        if is_python or self._has_copies:
            return
        self._has_copies = True
        n_entries, n_bytes, folders = 0, 0, [self._root]
        while folders:
            folder = folders.pop(0)
            with suppress(OSError):
                self._open_up(folder, is_all=False)
            for name in _listed(folder) or ():
                ours = f"{folder}/{name}"
                n_entries += 1
                if n_entries > COPIED_ENTRIES:
                    return
                with suppress(OSError):
                    found = os.stat(ours)
                    if os.path.isdir(ours):
                        folders += [ours] if _may_be_mirrored(ours, name, follow=True) else []
                    elif os.path.islink(ours) and not found.st_mode & 0o111 and n_bytes + found.st_size <= COPIED_BYTES:
                        n_bytes += found.st_size
                        self._copy(os.readlink(ours), ours)

    def _ours(self, path: str, *, is_told: bool = True) -> str | None:
        """Return a path in this folder, every folder on the way to it made the simulation's own; None for others."""
        parts = path.split("/")
        for at in (at for at, part in enumerate(parts) if part == ".."):
            # Behind a link `..` leads to where that points.
            before = os.path.normpath("/".join(parts[:at]))
            if self._is_within(before) and os.path.isdir(before):
                self._open_way(f"{before}/")
        path = os.path.normpath(path)
        if not self._is_within(path):
            path = os.path.realpath(path)
            if is_told and not self._is_elsewhere_fine(path):
                self.wrote[path] = None
            return None
        self._touch()
        self._open_way(path)
        return path

    def _is_within(self, path: str) -> bool:
        return path.startswith(f"{self._root}/")

    def _is_elsewhere_fine(self, path: str) -> bool:
        ours = tuple(f"{os.path.realpath(folder)}/" for folder in (self._place, self._own))
        is_fine = path.startswith(_ANYWHERE + ours) or path == self._root
        # A folder is never written to itself: `tempfile` names that which it makes a file in.
        is_fine = is_fine or len(self.wrote) >= MAX_PATHS or any(cache in path for cache in _CACHES)
        return is_fine or os.path.isdir(path)

    def _open_way(self, path: str) -> None:
        """Make the folders above a path the simulation's own."""
        at = len(self._root) + 1
        while (at := path.find("/", at)) > 0:
            if os.path.islink(path[:at]) and os.path.isdir(path[:at]):
                self._open_up(path[:at], is_all=False)
            at += 1

    def _open_up(self, ours: str, *, is_all: bool) -> None:
        """Put a folder of links in the place of a link to a folder."""
        if os.path.islink(ours):
            theirs = os.readlink(ours)
            names = _listed(theirs) or []
            os.unlink(ours)
            _make_folder(ours)
            for name in names:
                self._link(f"{theirs}/{name}", f"{ours}/{name}")
        if is_all:
            for name in _listed(ours) or ():
                if os.path.isdir(f"{ours}/{name}"):
                    self._open_up(f"{ours}/{name}", is_all=True)

    def _copy(self, theirs: str, ours: str) -> None:
        """Put a copy in the place of a link, unless that is another's."""
        if not theirs.startswith(f"{self._models}/") or not os.path.isfile(theirs):
            return
        copy = f"{ours}.{os.getpid()}"
        try:
            shutil.copy2(theirs, copy)
            os.replace(copy, ours)
        except OSError:
            with suppress(OSError):
                os.unlink(copy)
            raise


def empty(place: str) -> bool:
    """Make an empty folder of a place where simulations worked; return whether it is one."""
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):
        _make_folder(place)
        return True
    return False


def is_as_made(place: str) -> bool:
    """Whether nothing in it is known to have been touched."""
    return os.path.exists(f"{place}/{_MADE}")


def _read(path: str) -> bytes:
    # Without what `open` makes around it: every page that a fork touches is copied.
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, _MOST_MADE_BYTES)
    finally:
        os.close(fd)


def _make_folder(path: str) -> None:
    os.mkdir(path)
    # The model's umask does not decide who may enter.
    os.chmod(path, 0o700)


def _listed(folder: str) -> list[str] | None:
    """The names in a folder; None where they cannot be read."""
    with suppress(OSError):
        return os.listdir(folder)
    return None


def _may_be_mirrored(path: str, name: str, *, follow: bool = False) -> bool:
    is_folder = os.path.isdir(path) and (follow or not os.path.islink(path))
    return is_folder and not name.startswith(".") and name != "__pycache__"


def _stamp(path: str) -> _Stamp:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _version(folder: str) -> str:
    """Tells a folder from what it is once there are others in it; one that cannot be read has none."""
    with suppress(OSError):
        return str(os.stat(folder).st_mtime_ns)
    return "0"
