"""Which Python files a model needs where it runs, and which installed distributions they import.

Reads files and looks modules up; runs none. Decides where they lie in a job: a model must have the same digest there.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from modelops_ray.errors import ModelError
from modelops_ray.sandbox.digest import SHARED_FOLDERS, python_files
from modelops_ray.sandbox.loading import ModelRef, find_top_level, forget_model

FOLDER = "model"
"""Where the folder of a model that is one file goes, below the job's working directory."""

_OURS = __name__.partition(".")[0]
_NEVER = sys.stdlib_module_names | {_OURS, "__future__"}


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of a model, by their path below the job's working directory, and what else they import.

    `model` is how a study in that directory names it. `versions` are those of the distributions here that the files
    import, by name. `left_here` are files beside a single-file model that are not Python and do not travel.
    """

    model: str
    files: Mapping[str, Path]
    versions: Mapping[str, str]
    left_here: tuple[str, ...]


def sources_of(ref: ModelRef) -> Sources:
    """Find what has to travel with a model; ModelError if no file defines it, or its files are in several folders."""
    files = _own_files(ref)
    folder = str(Path(ref.location).parent) if ref.kind == "file" else ref.root
    versions = _add_imports(files, folder)
    if ref.kind != "file":
        return Sources(ref.label, files, versions, ())
    beside = (path for path in sorted(Path(folder).iterdir()) if path.is_file())
    left_here = (path.name for path in beside if path.suffix not in {".py", ".pyc"} and not path.name.startswith("."))
    return Sources(f"{FOLDER}/{ref.label}", files, versions, tuple(left_here))


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
        folder = Path(ref.location).parent
        return {f"{FOLDER}/{path.relative_to(folder).as_posix()}": path for path in python_files(folder)}
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


def _add_imports(files: dict[str, Path], folder: str) -> dict[str, str]:
    """Add the modules of the author's that files import from elsewhere, and return the versions of installed ones."""
    distributions = importlib.metadata.packages_distributions()
    versions: dict[str, str] = {}
    seen = {Path(name).parts[0].removesuffix(".py") for name in files}
    seen |= {name.removeprefix(f"{FOLDER}/").partition("/")[0].removesuffix(".py") for name in files}
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
