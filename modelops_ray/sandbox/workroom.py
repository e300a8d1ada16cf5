"""The working directory of a simulation: its own, with the model's files in it by the names they have.

What is about to be changed there is made the simulation's own first, what it wrote is gone before the next one.
Programs are given copies, up to a budget, since what they open is not seen. Owns that, and what was written elsewhere:
it is told, for another simulation may write the same. How the folder is made is `mirror`'s business. Runs in the
model's interpreter; standard library only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from . import opened
from .mirror import Mirror, listed, make_folder, may_be_mirrored, stamp_of
from .reading import Reading

COPIED_ENTRIES = 1000
COPIED_BYTES = 32 * 2**20
MAX_PATHS = 100
MAX_SOURCES = 10_000
MADE_NOTHING_S = 2e-6
"""A simulation that took less has made no file: the system takes 3 us to make a folder in memory, and 4 for a file."""
_ANYWHERE = ("/dev/", "/proc/", "/sys/")
_CACHES = ("/__pycache__/", "/.cache/", "/compiled/")


class Workroom(Mirror):
    """One simulation at a time works in it, and makes of it what it changes its own.

    Attributes:
        reading: What it reads, by the paths that files have outside of this folder.
        wrote: Paths elsewhere that the simulation wrote to.
        changed: Files of the model's that were changed where all simulations see them, by means that are not seen.
    """

    def __init__(self, models: str, place: str, own: str = "", reading: Reading | None = None) -> None:
        """Prepare as for a `Mirror`; `own` is another folder that is this process's alone."""
        super().__init__(models, place)
        self._own = own or place
        self._alone = tuple(f"{folder}/" for folder in {place, self._own, os.path.realpath(place)})
        self._sources: dict[str, str] = {}
        self.reading = Reading() if reading is None else reading
        self.wrote: dict[str, None] = {}
        self.changed: dict[str, None] = {}

    def enter(self) -> None:
        """Make this folder the working directory, for one simulation."""
        if self.is_shared or (not self._root and not self._make()):
            with suppress(OSError):
                os.chdir(self._models)
            opened.watch(self.reading)
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
        work, self._root, self._sources = self._work, "", {}
        with suppress(OSError):
            os.close(self._root_fd)
        self._root_fd = -1
        with suppress(OSError):
            os.chdir(self._models or "/")
        if self._n:
            shutil.rmtree(work, ignore_errors=True)

    def update_changed(self) -> None:
        """Find out which of the model's files were changed since this was done last."""
        for path, before in self._stamps.items():
            with suppress(OSError):
                now = stamp_of(path)
                if now != before and len(self.changed) < MAX_PATHS:
                    self.changed[path] = None
                self._stamps[path] = now

    # What is about to happen

    def about_to_read(self, path: str) -> None:
        """Note a file that is not the simulation's own."""
        source = self._sources.get(path)
        if source is None:
            if len(self._sources) >= MAX_SOURCES:
                self._sources.clear()
            source = self._sources[path] = self._source_of(os.path.normpath(path))
        if source:
            self.reading.note(source)

    def _source_of(self, path: str) -> str:
        """The path outside of this folder of what is read here; empty for what a simulation made."""
        if not path.startswith(self._alone):
            return path
        if path not in self._copies and (not os.path.exists(path) or os.path.realpath(path).startswith(self._alone)):
            return ""
        # By the name that the model uses; links of the model's own are not followed.
        return os.path.normpath(os.path.join(self._models, os.path.relpath(path, self._root)))

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
        elif is_sure or stamp_of(theirs)[1] <= COPIED_BYTES:
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
        """Give a program copies of files that it may change; what it changes is looked for once the simulation is over.

        The copies are kept for the next simulation: making a file takes up to a millisecond of CPU, and some packages
        start a program in every simulation. What forks is watched there as it is here.
        """
        if is_python or self._is_changed():
            self._touch()
        if is_python or self._has_copies:
            return
        self._has_copies = True
        self._copy_for_programs()
        if not self._is_touched:
            self._seal(is_for_programs=True)

    def _copy_for_programs(self) -> None:
        n_entries, n_bytes, folders = 0, 0, [self._root]
        while folders:
            folder = folders.pop(0)
            with self._touched_if_incomplete():
                self._open_up(folder, is_all=False)
                self._folders[folder] = 0
            for name in listed(folder) or ():
                ours = f"{folder}/{name}"
                n_entries += 1
                if n_entries > COPIED_ENTRIES:
                    return
                if os.path.isdir(ours):
                    folders += [ours] if may_be_mirrored(ours, name, follow=True) else []
                    continue
                with self._touched_if_incomplete():
                    found = os.stat(ours)
                    if os.path.islink(ours) and not found.st_mode & 0o111 and n_bytes + found.st_size <= COPIED_BYTES:
                        n_bytes += found.st_size
                        self._copy_sealed(os.readlink(ours), ours)

    @contextmanager
    def _touched_if_incomplete(self) -> Iterator[None]:
        """Have this folder used for one simulation only where it could not be made whole, as on a full disk."""
        try:
            yield
        except (FileNotFoundError, PermissionError):
            pass  # the model's own: a link to nothing, a file that is not to be read
        except OSError:
            self._touch()

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
                self.reading.wrote(path)
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
            names = listed(theirs) or []
            os.unlink(ours)
            make_folder(ours)
            for name in names:
                self._link(f"{theirs}/{name}", f"{ours}/{name}")
        if is_all:
            for name in listed(ours) or ():
                if os.path.isdir(f"{ours}/{name}"):
                    self._open_up(f"{ours}/{name}", is_all=True)
