"""Which files a model needs where it runs, and which installed distributions its Python files import.

Reads files and looks modules up; runs none. Decides where they lie in a job: a model must have the same digest there.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath

from modelops_ray.errors import ModelError
from modelops_ray.sandbox.digest import MAX_ENTRIES, SHARED_FOLDERS, may_be_the_models, python_files
from modelops_ray.sandbox.loading import ModelRef, find_top_level, forget_model
from modelops_ray.sandbox.reading import is_module_elsewhere, name_of, path_of

MENTIONED_BYTES = 64 * 2**20
"""Larger files, and what comes after them, travel only where the import reads them or they are declared."""

_OURS = __name__.partition(".")[0]
_NEVER = sys.stdlib_module_names | {_OURS, "__future__"}


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of a model, by their path below the job's working directory, and what else they import.

    `model` is how a study in that directory names it, `folder` where its own folder is. `versions` are those of the
    distributions here that the files import, by name. `declared` are the files that it reads without telling Python.
    `left_here` are files beside a single-file model that are not known to be read and do not travel, `far` are files
    that it reads by a path which is not below the job's working directory.
    """

    model: str
    folder: str
    files: Mapping[str, Path]
    versions: Mapping[str, str]
    declared: tuple[str, ...]
    left_here: tuple[str, ...]
    far: tuple[str, ...]


def sources_of(ref: ModelRef, declared: Sequence[str] = ()) -> Sources:
    """Find what has to travel with a model that was looked at, and reads the files `declared` by absolute paths.

    ModelError if no file defines it, or its files are in several folders.
    """
    own = _own_files(ref)
    # Modules elsewhere travel to where they can be imported.
    reads = {state.path for state in ref.imported if not is_module_elsewhere(state.path)} | {
        name_of(path, ref.folder) for path in declared
    }
    reads |= {name_of(str(path), ref.folder) for path in _mentioned(ref, own.values())}
    far = sorted(name for name in reads if name.startswith("/"))
    base = _place_of(ref, reads.difference(far))
    files = {_below(base, name): path for name, path in own.items()}
    versions = _add_imports(files, ref.folder, base)
    files |= {_below(base, name): Path(path_of(name, ref.folder)) for name in sorted(reads.difference(far))}
    names = tuple(sorted({_below(base, name) for path in declared if (name := name_of(path, ref.folder)) not in far}))
    left_here = _beside(ref, files.values()) if ref.kind == "file" else ()
    model = _below(base, ref.label) if ref.kind == "file" else ref.label
    return Sources(model, base, files, versions, names, left_here, tuple(far))


def _place_of(ref: ModelRef, names: Iterable[str]) -> str:
    """Where the model's folder goes, so deep that what it reads beside that folder is in the job's directory, too."""
    n_up = max((PurePosixPath(name).parts.count("..") for name in names), default=0)
    if ref.kind == "file":
        return "/".join(("project", *Path(ref.folder).parts[-n_up:])) if n_up else "model"
    if n_up:
        outside = next(name for name in sorted(names) if name.startswith("../"))
        raise ModelError(f"model {ref.label} reads {outside}, which is not below {ref.folder}; move it there to submit")
    return ""


def _below(base: str, name: str) -> str:
    return os.path.normpath(f"{base}/{name}" if base else name)


def _mentioned(ref: ModelRef, sources: Iterable[Path]) -> list[Path]:
    """Files in the model's folder, or beside it, that its Python files name in texts: simulations may open them."""
    contents = (path.read_text(encoding="utf-8", errors="replace") for path in sources)
    texts = {text for each in contents for text in _texts_in(each)}
    names = {PurePosixPath(text).name for text in texts}
    beside = {path_of(text, ref.folder) for text in texts if text.startswith("../")}
    found = [Path(path) for path in sorted(beside) if os.path.isfile(path)]  # noqa: PTH113 (any text, not only a path)
    n_entries = n_bytes = 0
    for where, folders, files in os.walk(ref.folder):
        folders[:] = [
            name for name in folders if may_be_the_models(name) and not Path(where, name, "pyvenv.cfg").exists()
        ]
        n_entries += len(folders) + len(files)
        if n_entries > MAX_ENTRIES:
            break
        for path in (Path(where, name) for name in sorted(names.intersection(files))):
            n_bytes += path.stat().st_size
            if n_bytes <= MENTIONED_BYTES and path.suffix not in {".py", ".pyc"}:
                found.append(path)
    return found


def _texts_in(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _beside(ref: ModelRef, travelling: Iterable[Path]) -> tuple[str, ...]:
    """The names of files beside the model, none of Python's, that do not travel."""
    known = set(travelling)
    beside = (path for path in sorted(Path(ref.folder).iterdir()) if path.is_file() and path not in known)
    return tuple(path.name for path in beside if path.suffix not in {".py", ".pyc"} and not path.name.startswith("."))


def imported_names(source: str) -> set[str]:
    """Top-level names of the modules that a source imports anywhere in it; none where it is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _own_files(ref: ModelRef) -> dict[str, Path]:
    if ref.kind == "pickled":
        raise ModelError(f"model {ref.label} is in no file that could travel; define it at the top level of a .py file")
    if ref.kind == "file":
        folder = Path(ref.folder)
        return {path.relative_to(folder).as_posix(): path for path in python_files(folder)}
    spec = find_top_level(ref.location, ref.root)
    forget_model()
    folders = list(spec.submodule_search_locations or ())
    if len(folders) > 1:
        raise ModelError(f"package {spec.name} lies in {len(folders)} folders ({folders[0]}, ...); bring it into one")
    return dict(_files_of(spec))


def _files_of(spec: ModuleSpec) -> Iterator[tuple[str, Path]]:
    """The files of a top-level package or module, by their path below the folder it is imported from."""
    if spec.submodule_search_locations is None:
        yield Path(str(spec.origin)).name, Path(str(spec.origin))
    for location in spec.submodule_search_locations or ():
        folder = Path(location)
        yield from ((path.relative_to(folder.parent).as_posix(), path) for path in python_files(folder))


def _add_imports(files: dict[str, Path], folder: str, base: str) -> dict[str, str]:
    """Add the modules of the author's that files import from elsewhere, and return the versions of installed ones."""
    distributions = importlib.metadata.packages_distributions()
    versions: dict[str, str] = {}
    seen = {Path(name).parts[0].removesuffix(".py") for name in files}
    seen |= {name.removeprefix(f"{base}/").partition("/")[0].removesuffix(".py") for name in files}
    new = list(files.values())
    while new:
        sources = (path.read_text(encoding="utf-8", errors="replace") for path in new)
        names = set().union(*map(imported_names, sources)) - seen - _NEVER
        seen |= names
        new = []
        for name in sorted(names):
            if name in distributions:
                versions |= {each.lower(): importlib.metadata.version(each) for each in distributions[name]}
            elif (spec := _found(name, folder)) is not None:
                more = dict(_files_of(spec))
                files |= more
                new += more.values()
    return versions


def _found(name: str, folder: str) -> ModuleSpec | None:
    """Look up a module that no distribution lists: the author's own, on the search path or beside the model."""
    before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    finally:
        sys.path[:] = before
    if spec is None or (spec.submodule_search_locations is None and not str(spec.origin).endswith(".py")):
        return None
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return None if any(SHARED_FOLDERS & set(Path(place).parts) for place in places) else spec
