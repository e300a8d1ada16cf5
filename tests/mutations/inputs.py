"""One input: what is changed in a valid working folder, and the command that is given in it.

Owns how a change is made on disk, and how an input travels to the process that runs it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

What = Literal["file", "gone", "folder", "link", "pipe"]


@dataclass(frozen=True, slots=True)
class Change:
    """What stands at a path afterwards; `content` is that of a file, or where a link leads to."""

    what: What
    content: bytes = b""

    def make(self, path: Path) -> None:
        """Put it there in place of what was there."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if self.what == "gone":
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.what == "file":
            path.write_bytes(self.content)
        elif self.what == "folder":
            path.mkdir()
        elif self.what == "link":
            path.symlink_to(os.fsdecode(self.content))
        else:
            os.mkfifo(path)


@dataclass(frozen=True, slots=True)
class Input:
    """An input; `changes` are by path relative to the working folder."""

    seed: int
    kind: str
    arguments: tuple[str, ...]
    changes: Mapping[str, Change] = field(default_factory=dict)
    stdin: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """Make plain values of it."""
        document = asdict(self)
        document["stdin"] = self.stdin.decode("latin-1")
        document["changes"] = {path: [each.what, each.content.decode("latin-1")] for path, each in self.changes.items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Input:
        """Make it of plain values again."""
        changes = {path: Change(what, text.encode("latin-1")) for path, (what, text) in document["changes"].items()}
        stdin = document["stdin"].encode("latin-1")
        return cls(document["seed"], document["kind"], tuple(document["arguments"]), changes, stdin)


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: files by content, anything else by what it is."""
    found: dict[str, bytes | str] = {}
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in folders + files:
            path = Path(where, name)
            found[str(path.relative_to(folder))] = _seen(path)
    return found


def _seen(path: Path) -> bytes | str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.is_dir():
        return "folder"
    return path.read_bytes() if path.is_file() else "pipe"
