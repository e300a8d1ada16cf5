"""A disk that loses power: real files in a folder, and a journal of what of them would be there after a crash.

Owns what a file system may do with what was not synced, and its faults. The program sees it as the module `os`: every
call happens to the real files and is written down. A crash throws the files away and makes those that a disk could
come back with: of each file, what was synced and any of the later writes, whole or torn; of each folder, the entries
that were synced and any of the later changes. A rename is one change, as journals of file systems have it.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR_BYTES = 512


@dataclass(slots=True)
class _File:
    """What is on the disk of a file, and what was written since: (offset, bytes)."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def after_crash(self, dice: random.Random, share: float, *, tears: bool) -> bytes:
        found = bytearray(self.durable)
        for offset, data in self.pending:
            if dice.random() < share:
                kept = data
                if tears and dice.random() < 0.5:
                    kept = data[: SECTOR_BYTES * dice.randint(0, len(data) // SECTOR_BYTES)]
                _apply(found, offset, kept)
        return bytes(found)


@dataclass(slots=True)
class _Folder:
    """The entries that are on the disk, and what was changed since: {name: node, or None where it was removed}."""

    durable: dict[str, int] = field(default_factory=dict)
    pending: list[dict[str, int | None]] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _change(self.durable, change)
        self.pending.clear()

    def after_crash(self, dice: random.Random, share: float) -> dict[str, int]:
        found = dict(self.durable)
        for change in self.pending:
            if dice.random() < share:
                _change(found, change)
        return found


def _apply(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _change(entries: dict[str, int], change: dict[str, int | None]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Disk:
    """The files below `root`, which is made anew by each crash.

    Attributes:
        is_full: Whether nothing more fits.
        lies: Whether a sync is said to have happened, and has not.
        fails: The share of syncs that end with an I/O error, after which what they were for may be lost.
        met: How often each fault happened.
    """

    def __init__(self, root: Path, dice: random.Random) -> None:
        """Begin with an empty folder, which is on the disk."""
        self.root = root
        self.is_full = self.lies = False
        self.fails = 0.0
        self.met: Counter[str] = Counter()
        self._dice = dice
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {}
        self._node_of: dict[int, int] = {}
        self._n_nodes = 0
        root.mkdir(parents=True, exist_ok=True)
        self._top = self._new_folder(root.stat().st_ino)

    # What the program does

    def os(self, step: Callable[[str], None]) -> Any:
        """The module `os` as the program sees it; `step` is told before each call that touches the disk."""
        return _Os(self, step)

    def made_file(self, path: str, fd: int, folder: int | None) -> None:
        """Take note of a new file."""
        self._entry(path, folder, self._new_file(os.fstat(fd).st_ino))

    def wrote(self, fd: int, offset: int, data: bytes) -> None:
        """Take note of bytes that are not on the disk yet."""
        file = self._files.get(self._node_of.get(os.fstat(fd).st_ino, -1))
        if file is not None:
            file.pending.append((offset, data))

    def sync(self, fd: int) -> None:
        """Bring a file, or the entries of a folder, to the disk."""
        node = self._node_of.get(os.fstat(fd).st_ino, -1)
        known = self._files.get(node) or self._folders.get(node)
        if known is None:
            return
        if self.lies:
            self.met["lying_sync"] += bool(known.pending)
            return
        if self._dice.random() < self.fails:
            self.met["failing_sync"] += 1
            if isinstance(known, _File):
                # The system takes what it could not write for written, and never tries it again; entries it keeps.
                known.pending = [each for each in known.pending if self._dice.random() < 0.5]
                known.sync()
            raise OSError(errno.EIO, "Input/output error")
        known.sync()

    def made_folder(self, path: str, folder: int | None) -> None:
        """Take note of a new folder."""
        self._entry(path, folder, self._new_folder(os.stat(path, dir_fd=folder).st_ino))

    def linked(self, source: str, target: str, folder: int | None) -> None:
        """Take note of another name of a file."""
        self._entry(target, folder, self._node_at(source, folder))

    def removed(self, path: str, folder: int | None, node: int | None) -> None:
        """Take note of a name that is gone."""
        if node is not None:
            self._entry(path, folder, None)

    def renamed(self, source: str, target: str, folder: int | None, node: int | None) -> None:
        """Take note of another name of the same thing, in the same folder."""
        head, _, name = source.rpartition("/")
        to_head, _, to_name = target.rpartition("/")
        assert head == to_head, "only within a folder"
        parent = self._folder_at(head, folder)
        if parent is not None and node is not None:
            parent.pending.append({name: None, to_name: node})

    def node_at(self, path: str, folder: int | None) -> int | None:
        """Which node a path leads to, None for none that is known."""
        try:
            return self._node_of.get(os.stat(path, dir_fd=folder, follow_symlinks=False).st_ino)
        except OSError:
            return None

    def moved_aside(self, move: Callable[[Path, str], Path], real: Path, ending: str) -> Path:
        """Let the program rename a run directory, and take note of it."""
        node = self.node_at(str(real), None)
        to = move(real, ending)
        self.renamed(str(real), str(to), None, node)
        return to

    # What happens to it

    def crash(self, *, tears: bool = False) -> None:
        """Lose power: what is there afterwards is one of those that were possible."""
        share = self._dice.choice([0.0, 0.3, 0.7, 1.0])
        unsynced = sum(len(each.pending) for each in (*self._files.values(), *self._folders.values()))
        self.met["power"] += 1
        self.met["unsynced"] += bool(unsynced)
        top = self._after_crash(self._top, share, tears=tears)
        for each in self.root.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        self._files, self._folders, self._node_of = {}, {}, {}
        self._top = self._restore(self.root, top)

    def _after_crash(self, node: int, share: float, *, tears: bool) -> dict[str, Any] | bytes:
        if node in self._files:
            return self._files[node].after_crash(self._dice, share, tears=tears)
        entries = self._folders[node].after_crash(self._dice, share)
        return {name: self._after_crash(child, share, tears=tears) for name, child in sorted(entries.items())}

    def _restore(self, path: Path, content: dict[str, Any] | bytes) -> int:
        if isinstance(content, bytes):
            path.write_bytes(content)
            node = self._new_file(path.stat().st_ino)
            self._files[node].durable = bytearray(content)
            return node
        path.mkdir(exist_ok=True)
        node = self._new_folder(path.stat().st_ino)
        for name, each in content.items():
            self._folders[node].durable[name] = self._restore(path / name, each)
        return node

    # Nodes

    def _new_file(self, inode: int) -> int:
        self._files[node := self._new_node(inode)] = _File()
        return node

    def _new_folder(self, inode: int) -> int:
        self._folders[node := self._new_node(inode)] = _Folder()
        return node

    def _new_node(self, inode: int) -> int:
        self._n_nodes += 1
        self._node_of[inode] = self._n_nodes
        return self._n_nodes

    def _node_at(self, path: str, folder: int | None) -> int | None:
        return self._node_of.get(os.stat(path, dir_fd=folder).st_ino)

    def _folder_at(self, path: str, folder: int | None) -> _Folder | None:
        return self._folders.get(self._node_at(path or ".", folder) or -1)

    def _entry(self, path: str, folder: int | None, node: int | None) -> None:
        head, _, name = path.rpartition("/")
        parent = self._folder_at(head or ("/" if path.startswith("/") else "."), folder)
        if parent is not None:
            parent.pending.append({name: node})


class _Os:
    """`os`, with the calls that touch files below the disk's root written down, and a turn handed back before each."""

    def __init__(self, disk: Disk, step: Callable[[str], None]) -> None:
        self._disk, self._step = disk, step

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _room(self) -> None:
        if self._disk.is_full:
            self._disk.met["full"] += 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self._step(f"open {path}")
        is_new = bool(flags & os.O_CREAT) and self._disk.node_at(path, dir_fd) is None
        if is_new:
            self._room()
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        if is_new:
            self._disk.made_file(path, fd, dir_fd)
        return fd

    def write(self, fd: int, data: Any) -> int:
        self._step("write")
        self._room()
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        n = os.write(fd, data)
        self._disk.wrote(fd, offset, bytes(data[:n]))
        return n

    def fsync(self, fd: int) -> None:
        self._step("fsync")
        self._disk.sync(fd)

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        self._step(f"stat {path}")
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def scandir(self, fd: int) -> Any:
        self._step("scandir")
        return os.scandir(fd)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._step(f"mkdir {path}")
        self._room()
        os.mkdir(path, mode, dir_fd=dir_fd)
        self._disk.made_folder(path, dir_fd)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self._step(f"unlink {path}")
        node = self._disk.node_at(path, dir_fd)
        os.unlink(path, dir_fd=dir_fd)
        self._disk.removed(path, dir_fd, node)

    def link(self, source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        self._step(f"link {target}")
        self._room()
        os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._disk.linked(source, target, dst_dir_fd)

    def replace(
        self, source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        self._step(f"replace {target}")
        node = self._disk.node_at(source, src_dir_fd)
        os.replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._disk.renamed(source, target, dst_dir_fd, node)
