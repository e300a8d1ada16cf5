"""A folder of links to what is in a model's folder, by the names it has there: making it, and handing it on.

A folder that was left as it was made is the next process's, even if the one before was killed: making the links takes
longer than a fork. Owns how it is made, and telling whether it still is as it was. What simulations do there is
`workroom`'s business. Runs in the model's interpreter; standard library only.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from .descriptors import high
from .held import held

MAX_ENTRIES = 5000
"""A model's folder with more is shared: it would cost more than it protects."""
MIRRORED_ENTRIES = 64
"""This many entries of folders within the model's are links of their own: walks do not follow a link to a folder."""
SMALL_BYTES, ALL_SMALL_BYTES = 2**18, 2**20
MOST_BESIDE = 128
"""A folder above the model's with more entries has none of them beside the working directory."""
_UNSEEN = (
    ".parquet", ".feather", ".arrow", ".h5", ".hdf5", ".hdf", ".nc", ".nc4", ".db", ".sqlite", ".sqlite3", ".tif",
    ".tiff", ".fits", ".rds",
)  # fmt: skip
"""What libraries in C write without asking Python: small ones are copied at once, large ones looked at afterwards."""
_MADE = "made"
_TICK_S = 0.01
"""The longest tick of a Linux kernel: two changes of a file within one have the same time."""
_MOST_MADE_BYTES = 2**22
Stamp = tuple[int, int, int]
_Sealed = tuple[str, list[int], list[int]]
"""Of a copy: what it is a copy of, and what tells each of the two from what it is once it was changed."""


class Mirror:
    """The folder, which is made when it is first needed, and anew after it was cleared.

    Attributes:
        is_shared: Whether the model's folder is too large for that, and the working directory itself.
    """

    def __init__(self, models: str, place: str) -> None:
        """Prepare for the folder `models`, which may be "", below the folder `place`, which is for nothing else."""
        self._models, self._place = models, place
        self._root, self._n, self._root_fd = "", 0, -1
        self._folders: dict[str, int] = {}
        self._copies: dict[str, _Sealed] = {}
        self._stamps: dict[str, Stamp] = {}
        self._is_touched = self._has_copies = False
        self._n_small = 0
        self.is_shared = False

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
        if self._n == 1 and listed(self._place) != [] and not empty(self._place):
            self._n += 1  # what was left here cannot be removed
        above = self._made_above()
        root = f"{above}/{os.path.basename(self._models) or 'model'}"
        make_folder(root)
        self._folders, self._copies, self._is_touched, self._has_copies, self._n_small = {}, {}, False, False, 0
        if self._models:
            names = listed(self._models) or []
            if len(names) > MAX_ENTRIES:
                shutil.rmtree(self._work, ignore_errors=True)
                self.is_shared = True
                return False
            self._mirror(self._models, root, names, MIRRORED_ENTRIES)
        self._root = root
        self._folders |= dict.fromkeys((root, above, f"{self._work}/room"), 0)
        # Where one simulation wrote to it the next ones will: what is made again is made for this process.
        self._seal(is_for_programs=False)
        return True

    def _made_above(self) -> str:
        """Make two folders above the working directory, so that `..` leads to what is beside the model's folder."""
        inner = os.path.dirname(self._models)
        outer = os.path.dirname(inner)
        place = f"{self._work}/room"
        make_folder(self._work)
        make_folder(place)
        for folder, within in ((outer, inner), (inner, self._models)):
            if folder == within:
                continue
            names = listed(folder) or []
            for name in names if len(names) <= MOST_BESIDE else ():
                if name != os.path.basename(within):
                    os.symlink(f"{folder}/{name}", f"{place}/{name}")
            if within == inner:
                place = f"{place}/{os.path.basename(inner)}"
                make_folder(place)
        return place

    def _mirror(self, source: str, target: str, names: list[str], n_left: int) -> int:
        """Link to what is in a folder, and make folders for those in it; return how many entries are left."""
        for name in names:
            ours, theirs = f"{target}/{name}", f"{source}/{name}"
            inner = listed(theirs) if n_left and may_be_mirrored(theirs, name) else None
            if inner is None or len(inner) > n_left or self._place.startswith(f"{theirs}/"):
                self._link(theirs, ours)
                continue
            make_folder(ours)
            self._folders[ours] = 0
            n_left = self._mirror(theirs, ours, inner, n_left - len(inner))
        return n_left

    def _link(self, theirs: str, ours: str) -> None:
        os.symlink(theirs, ours)
        if not theirs.endswith(_UNSEEN) or not os.path.isfile(theirs):
            return
        stamp = self._stamps.setdefault(theirs, stamp_of(theirs))
        if stamp[1] <= SMALL_BYTES and self._n_small + stamp[1] <= ALL_SMALL_BYTES:
            self._n_small += stamp[1]
            # Where there is no room for it, or may be none, the link does.
            with suppress(OSError):
                self._copy_sealed(theirs, ours)

    def _seal(self, *, is_for_programs: bool) -> None:
        """Note when each folder was changed last, and hand all of it on if this is the first room of the process.

        Where changes will not be heard of, wait until they would have another time: times go by the kernel's ticks.
        """
        for folder in self._folders:
            self._folders[folder] = os.stat(folder).st_ctime_ns
        if is_for_programs or self._n == 1:
            held.sleep_s(_TICK_S)
        if self._n == 1:
            self._hand_on()

    def _is_changed(self) -> bool:
        """Whether an entry of a folder came or went, or a copy or what it is a copy of was changed."""
        try:
            return any(os.stat(folder).st_ctime_ns != at_ns for folder, at_ns in self._folders.items()) or any(
                _sealed(ours, theirs) != (theirs, *stamps) for ours, (theirs, *stamps) in self._copies.items()
            )
        except OSError:
            return True

    def _take_over(self) -> bool:
        """Take the folder that the process before left, if it is what would be made now; return whether it is."""
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            version, root, folders, copies, stamps, self._n_small, has_copies = held.loads(_read(self._made))
            self._folders, self._stamps = folders, {theirs: tuple(stamp) for theirs, stamp in stamps.items()}
            self._copies = copies
            # What a model wrote there may lead anywhere.
            is_ours = root.startswith(f"{self._work}/") and "/../" not in f"{root}/"
            if is_ours and version == _version(self._models) and not self._is_changed():
                self._root, self._is_touched, self._has_copies = root, False, bool(has_copies)
                return True
        return False

    def _hand_on(self) -> None:
        """Write down how the folder is made, for the next process here; removed once the folder is touched."""
        made = [self._root, self._folders, self._copies, self._stamps, self._n_small, self._has_copies]
        with suppress(OSError, ValueError), open(self._made, "wb") as file:
            file.write(held.dumps([_version(self._models), *made]).encode())

    def _touch(self) -> None:
        if not self._is_touched and self._n == 1:
            with suppress(FileNotFoundError):
                os.unlink(self._made)
        self._is_touched = True

    def _copy_sealed(self, theirs: str, ours: str) -> None:
        """Put a copy in the place of a link, of which changes will be seen later."""
        if self._copy(theirs, ours):
            self._copies[ours] = _sealed(ours, theirs)

    def _copy(self, theirs: str, ours: str) -> bool:
        """Put a copy in the place of a link, unless that is another's; return whether that was done."""
        if not theirs.startswith(f"{self._models}/") or not os.path.isfile(theirs):
            return False
        copy = f"{ours}.{os.getpid()}"
        try:
            shutil.copy2(theirs, copy)
            os.replace(copy, ours)
        except OSError:
            with suppress(OSError):
                os.unlink(copy)
            raise
        return True


def empty(place: str) -> bool:
    """Make an empty folder of a place where simulations worked; return whether it is one."""
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):
        make_folder(place)
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


def make_folder(path: str) -> None:
    """Make a folder that only this user enters."""
    os.mkdir(path)
    # The model's umask does not decide who may enter.
    os.chmod(path, 0o700)


def listed(folder: str) -> list[str] | None:
    """The names in a folder; None where they cannot be read."""
    with suppress(OSError):
        return os.listdir(folder)
    return None


def may_be_mirrored(path: str, name: str, *, follow: bool = False) -> bool:
    """Whether an entry is a folder of which there is one of our own, and not a link; `follow` for links to folders."""
    is_folder = os.path.isdir(path) and (follow or not os.path.islink(path))
    return is_folder and not name.startswith(".") and name != "__pycache__"


def stamp_of(path: str) -> Stamp:
    """What tells a file from what it is once it was changed."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _sealed(ours: str, theirs: str) -> _Sealed:
    own = os.stat(ours)
    # By when it was changed, not by its time, which a program may set.
    return theirs, [own.st_ino, own.st_size, own.st_ctime_ns], list(stamp_of(theirs))


def _version(folder: str) -> str:
    """Tells a folder from what it is once there are others in it; one that cannot be read has none."""
    with suppress(OSError):
        return str(os.stat(folder).st_mtime_ns)
    return "0"
