"""Deliberate bugs, one at a time: the world must find each of them within some thousand seeds.

Owns the list. Each bug is a place in the program and what stands there instead; it is put in when the module is
imported, in a process of its own. A bug that no seed finds is a promise that nothing watches.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple


class Bug(NamedTuple):
    """`before`, which stands once in the module, becomes `after`."""

    name: str
    module: str
    before: str
    after: str


BUGS = [
    Bug("a part is not synced before it is named", "store.storage.local", "            os.fsync(fd)\n", ""),
    Bug(
        "the folder of a new file is not synced", "store.storage.local",
        "            os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)\n"
        "            _sync_directory(_parent(path), self._fd)",
        "            os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)",
    ),
    Bug(
        "the folder of a commit is not synced", "store.storage.local",
        "                    _remove(temporary, self._fd)\n"
        "                    _sync_directory(_parent(path), self._fd)",
        "                    _remove(temporary, self._fd)",
    ),
    Bug(
        "a new folder is not synced", "store.storage.local",
        "                raise\n        _sync_directory(_parent(path), self._fd)\n",
        "                raise\n",
    ),
    Bug(
        "a commit replaces another of its number", "store.storage.local",
        "                    return self._name(temporary, path)",
        "                    os.replace(temporary, path, src_dir_fd=self._fd, dst_dir_fd=self._fd)\n"
        "                    return True",
    ),
    Bug(
        "parts are written in place", "store.storage.local",
        "            temporary, written = _fill_temporary(path, fill, self._fd)\n            os.replace",
        "            temporary, written = _fill_temporary(path, fill, self._fd)\n"
        "            _write_all(os.open(path, os.O_WRONLY | os.O_CREAT), bytearray(1))\n            os.replace",
    ),
]  # fmt: skip


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with a bug in it."""

    bug: Bug

    def source_to_code(self, data: Any, path: Any, **more: Any) -> CodeType:  # type: ignore[override]
        text = Path(path).read_text()
        if text.count(self.bug.before) != 1:
            raise SystemExit(f"{self.bug.name}: stands {text.count(self.bug.before)} times in {self.bug.module}")
        return compile(text.replace(self.bug.before, self.bug.after), path, "exec")

    def get_code(self, fullname: str) -> CodeType:
        """Never what was compiled before."""
        return self.source_to_code(b"", self.get_filename(fullname))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != f"modelops_ray.{self._bug.module}":
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert found is not None
        assert found.origin is not None
        loader = _Loader(fullname, found.origin)
        loader.bug = self._bug
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def put_in(bug: Bug) -> None:
    """Have this process import the program with a bug in it; nothing of it may be imported yet."""
    assert not any(name == f"modelops_ray.{bug.module}" for name in sys.modules)
    sys.meta_path.insert(0, _Finder(bug))
