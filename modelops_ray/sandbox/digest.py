"""Digests of models: what a model is, wherever its files are.

Owns which files beside a model may be its own; what it reads is `reading`'s business. Runs nothing. Models that no file
defines are `model.fingerprint`'s.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NoReturn

from ..errors import ModelError

MAX_FILES = 10_000
MAX_FILES_BYTES = 256 * 2**20
MAX_ENTRIES = 100_000
SHARED_FOLDERS = frozenset({"site-packages", "dist-packages"})
_NOT_THE_MODELS = SHARED_FOLDERS | {"__pycache__", "node_modules"}


def digest_entry(path: Path, name: str) -> str:
    """Digest the file that defines a model, and the model's name, as 64 hex digits; ModelError if it is unreadable.

    A folder without `__init__.py` is a package that no file defines.
    """
    content = _read(path) if path.is_file() else b""
    return hashlib.sha256(name.encode() + b"\0" + hashlib.sha256(content).digest()).hexdigest()


def digest_folder(folder: Path, name: str) -> str:
    """Digest every `.py` file below the folder of a single-file model, by relative path, and the model's name.

    Returns 64 hex digits; ModelError where the folder is too large to be a model's own, or cannot be read.
    """
    return _digest(folder, python_files(folder), name)


def digest_package(spec: ModuleSpec, name: str) -> str:
    """Digest a top-level package, or the one file of a top-level module, and the model's name; as `digest_folder`."""
    if spec.submodule_search_locations is None:
        return _digest(Path(str(spec.origin)).parent, [Path(str(spec.origin))], name)
    folders = [Path(location) for location in spec.submodule_search_locations]
    parts = [_digest(folder.parent, python_files(folder), name) for folder in folders]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()


def _digest(root: Path, files: Iterable[Path], name: str) -> str:
    sha = hashlib.sha256(name.encode())
    total_bytes = 0
    for path in files:
        content = _read(path)
        total_bytes += len(content)
        if total_bytes > MAX_FILES_BYTES:
            raise _too_large(root, f"more than {MAX_FILES_BYTES:,} bytes of Python files")
        sha.update(b"\0" + os.fsencode(path.relative_to(root).as_posix()) + b"\0" + hashlib.sha256(content).digest())
    return sha.hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"model file {path} cannot be read: {error.strerror}; make it readable or remove it"
        ) from error


def python_files(folder: Path) -> list[Path]:
    """Every `.py` file below a folder that can be a model's own, sorted; ModelError as `digest_folder`.

    A linked folder counts where Python files lie directly in it: data that is linked in may be a whole file system.
    """
    found: list[Path] = []
    n_entries = 0
    for where, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        folders[:] = [name for name in folders if _is_own(Path(where, name), folder)]
        found += [Path(where, name) for name in files if name.endswith(".py") and may_be_the_models(name)]
        n_entries += len(folders) + len(files)
        if len(found) > MAX_FILES or n_entries > MAX_ENTRIES:
            what = f"{MAX_FILES:,} Python files" if len(found) > MAX_FILES else f"{MAX_ENTRIES:,} files"
            raise _too_large(folder, f"more than {what}")
    return sorted(found)


def may_be_the_models(name: str) -> bool:
    """Whether a folder or file of this name below a model's folder can be part of the model."""
    return not name.startswith(".") and name not in _NOT_THE_MODELS


def _is_own(folder: Path, root: Path) -> bool:
    """Whether a folder below the model's can be part of the model, and has to be searched."""
    if not may_be_the_models(folder.name) or (folder / "pyvenv.cfg").exists():
        return False
    return not folder.is_symlink() or _is_linked_source(folder, root)


def _is_linked_source(folder: Path, root: Path) -> bool:
    target = folder.resolve()
    above = {each.resolve() for each in folder.parents if each.is_relative_to(root)}
    if not may_be_the_models(target.name) or target in above:
        return False
    try:
        return any(name.endswith(".py") for name in os.listdir(target))  # noqa: PTH208 (a million names, no paths)
    except OSError as error:
        _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    raise ModelError(
        f"folder {error.filename} next to the model cannot be read: {error.strerror}; "
        "move the model into a folder of its own"
    ) from error


def _too_large(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"the model's folder {folder}, with what is linked into it, has {what}; move the model into a folder of its own"
    )
