"""Digests of models: what a model is, apart from where it lies.

Owns which files count as a model's own and how a function without a file is fingerprinted.
Does not import or run anything.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from ..errors import ModelError

MAX_FILES = 10_000
MAX_FILES_BYTES = 256 * 2**20
MAX_ENTRIES = 100_000
SHARED_FOLDERS = frozenset({"site-packages", "dist-packages"})
_NOT_THE_MODELS = SHARED_FOLDERS | {"__pycache__", "node_modules"}

Dump = Callable[[object], bytes]


def digest_folder(folder: Path, name: str) -> str:
    """Digest every `.py` file below the folder of a single-file model, by relative path, and the model's name.

    Returns:
        64 hex digits.

    Raises:
        ModelError: The folder is too large to be a model's own, or cannot be read.
    """
    return _digest(folder, python_files(folder), name)


def digest_package(spec: ModuleSpec, name: str) -> str:
    """Digest a top-level package, or the one file of a top-level module, and the model's name.

    Raises:
        ModelError: The package is too large, has no Python source, or cannot be read.
    """
    if spec.submodule_search_locations is None:
        return _digest(Path(str(spec.origin)).parent, [Path(str(spec.origin))], name)
    folders = [Path(location) for location in spec.submodule_search_locations]
    parts = [_digest(folder.parent, python_files(folder), name) for folder in folders]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()


def digest_callable(function: Callable[..., object], name: str, dump: Dump) -> str:
    """Digest a callable that no file defines: its code, defaults, closure and the globals it uses.

    The same notebook cell run twice has the same digest. Where a value has no stable form the digest differs from
    one process to the next, which starts a run afresh and never mixes two models.

    Args:
        function: The callable.
        name: What the model is called in identities.
        dump: Pickles what plain pickle cannot.
    """
    sha = hashlib.sha256(name.encode())
    for part in _fingerprint(function, dump, set()):
        sha.update(len(part).to_bytes(8, "big") + part)
    return sha.hexdigest()


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
    """Every `.py` file below a folder that can be a model's own, sorted.

    Raises:
        ModelError: The folder is too large to be a model's own, or cannot be read.
    """
    found: list[Path] = []
    n_entries = 0
    for where, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if may_be_the_models(name) and not _is_environment(Path(where, name))]
        found += [Path(where, name) for name in files if name.endswith(".py") and may_be_the_models(name)]
        n_entries += len(folders) + len(files)
        if len(found) > MAX_FILES or n_entries > MAX_ENTRIES:
            what = f"{MAX_FILES:,} Python files" if len(found) > MAX_FILES else f"{MAX_ENTRIES:,} files"
            raise _too_large(folder, f"more than {what}")
    return sorted(found)


def may_be_the_models(name: str) -> bool:
    """Whether a folder or file of this name below a model's folder can be part of the model."""
    return not name.startswith(".") and name not in _NOT_THE_MODELS


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists()


def _unreadable(error: OSError) -> None:
    raise ModelError(
        f"folder {error.filename} next to the model cannot be read: {error.strerror}; "
        "move the model into a folder of its own"
    ) from error


def _too_large(folder: Path, what: str) -> ModelError:
    return ModelError(f"the model's folder {folder} has {what}; move the model into a folder of its own")


def _fingerprint(value: object, dump: Dump, seen: set[int]) -> Iterator[bytes]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        yield from _function(value, dump, seen)
    elif isinstance(value, CodeType):
        yield from _code(value, dump, seen)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
    elif isinstance(value, (set, frozenset)):
        yield repr(sorted(map(repr, value))).encode()
    elif isinstance(value, (tuple, list)):
        yield type(value).__name__.encode()
        for item in value:
            yield from _fingerprint(item, dump, set(seen))
    else:
        yield _pickled(value, dump)


def _function(function: FunctionType, dump: Dump, seen: set[int]) -> Iterator[bytes]:
    yield function.__qualname__.encode()
    yield from _fingerprint(function.__code__, dump, seen)
    kept = [function.__defaults__, sorted((function.__kwdefaults__ or {}).items())]
    kept += [cell.cell_contents for cell in function.__closure__ or ()]
    for value in kept:
        yield from _fingerprint(value, dump, seen)
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield name.encode()
        yield from _fingerprint(function.__globals__[name], dump, seen)


def _names(code: CodeType) -> set[str]:
    nested = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, nested))


def _code(code: CodeType, dump: Dump, seen: set[int]) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_flags)).encode()
    for const in code.co_consts:
        yield from _fingerprint(const, dump, set(seen))


def _pickled(value: object, dump: Dump) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError):
        return dump(value)
