"""Module names that a model shares with Python or installed packages: the model's code and ours find their own.

Owns `sys.modules` and `sys.path` for such names. While the model's code runs it finds what `python model.py` would
find, its own folder first; our code, and what that imports, finds Python's and installed modules. Names that Python
loads before it looks at any program are always Python's. Runs in the model's interpreter; standard library only.
"""

from __future__ import annotations

import dis
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder, all_suffixes
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .digest import SHARED_FOLDERS

if TYPE_CHECKING:
    from .calling import Model

NEVER_THE_MODELS = frozenset({"__main__", "ray", "modelops_ray"})
"""What a process of ours runs on, perhaps in other threads: a module of the model's must not have these names."""
_IMPORTS: dict[str, frozenset[str]] = {}
_STDLIB = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 (a string is compared with each module's)


def shared_names(folders: Iterable[str], at_start: frozenset[str]) -> tuple[str, ...]:
    """Sorted names of modules in a model's folders that Python or an installed package has too.

    `at_start` are the modules that Python loads at its start.
    """
    found: set[str] = set()
    for folder in folders:
        if os.path.basename(folder) in SHARED_FOLDERS:  # noqa: PTH119 (an entry of the search path)
            continue
        others = [entry for entry in sys.path if not _is_same(entry, folder)]
        found |= {name for name in _modules_in(folder) - at_start if _is_elsewhere(name, others)}
    return tuple(sorted(found))


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _modules_in(folder: str) -> frozenset[str]:
    # What is no folder, or may not be read, Python passes over on its path as well.
    if not os.path.isdir(folder):  # noqa: PTH112 (an entry of the search path)
        return frozenset()
    suffixes = tuple(all_suffixes())
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, PermissionError):
        return frozenset()
    files = {entry.name.partition(".")[0] for entry in entries if entry.name.endswith(suffixes)}
    packages = {
        entry.name
        for entry in entries
        if "." not in entry.name and any(os.path.exists(f"{entry.path}/__init__{end}") for end in suffixes)  # noqa: PTH110
    }
    return frozenset(name for name in files | packages if name.isidentifier())


def _is_elsewhere(name: str, path: list[str]) -> bool:
    """Whether `path` has a module of this name that a model's file could hide; no file hides a built-in one."""
    if BuiltinImporter.find_spec(name) is not None or FrozenImporter.find_spec(name) is not None:
        return False
    spec = PathFinder.find_spec(name, path)
    return spec is not None and spec.origin is not None


class Names:
    """While it is entered, shared names mean the model's modules."""

    def __init__(self, folder: str, shared: Iterable[str]) -> None:
        """Begin with no module of the model loaded; its folder is searched first while entered, else last."""
        self._shared = frozenset(shared)
        self._inside = [folder, *(entry for entry in sys.path if entry != folder)]
        self._outside: list[str] | None = None
        self._theirs: dict[str, ModuleType] = {}
        self._ours: dict[str, ModuleType] = {}
        self._known: frozenset[str] = frozenset()
        self._n_outside = self._n_inside = -1
        self._hidden: tuple[str, ...] = ()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The shared names under which modules of the model are loaded, while it is entered."""
        return tuple(sorted(name for name in self._shared if name in sys.modules))

    def __enter__(self) -> None:
        if self._outside is not None:
            # A time limit may have interrupted `__exit__`.
            self.__exit__()
        modules = sys.modules
        if len(modules) != self._n_outside:
            self._known = frozenset(modules)
            self._hidden = tuple(_of_others(self._shared, modules))
        self._outside = list(sys.path)
        sys.path[:] = self._inside
        for name in self._hidden:
            self._ours[name] = modules.pop(name)
        _put(self._theirs)
        self._n_inside = len(modules)

    def __exit__(self, *_: object) -> None:
        modules = sys.modules
        if len(modules) != self._n_inside:
            # What the model loaded and what imports it is the model's own, and hidden from our code.
            new = {name: module for name, module in modules.items() if name not in self._known or name in self._hidden}
            self._theirs = {name: modules[name] for name in _of_others(self._shared, new)}
        self._theirs = {name: modules.pop(name) for name in self._theirs if name in modules}
        _put(self._ours)
        self._ours = {}
        self._inside, outside = list(sys.path), self._outside or []
        sys.path[:] = [*outside, *(entry for entry in self._inside if entry not in outside)]
        self._n_outside, self._outside = len(modules), None

    def around(self, model: Model) -> Model:
        """Return the model as a function that enters this for every call."""

        def among_its_own(params: Any, seed: int, scenario: str) -> object:
            with self:
                copy = self._theirs.get("random")
                if copy is not None and copy.__file__ == f"{_STDLIB}random.py":
                    # Python's `random`, loaded again as it imports a module of the model's, was not seeded.
                    copy.seed(seed)
                return model(params, seed, scenario)

        return among_its_own


def _put(modules: Mapping[str, ModuleType]) -> None:
    """Put modules into `sys.modules`, and into their packages as attributes."""
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, part = name.rpartition(".")
        if package in sys.modules and package not in modules:
            setattr(sys.modules[package], part, module)


def _of_others(shared: frozenset[str], modules: Mapping[str, ModuleType]) -> list[str]:
    """Names of `modules` that are shared, and of Python's own that import one of these, also by way of others."""
    found = {name for name in modules if name.partition(".")[0] in shared}
    left = {name: _imports_of(name, module) for name, module in modules.items() if name not in found}
    while more := {name for name, imported in left.items() if not imported.isdisjoint(found | shared)}:
        found |= more
        left = {name: imported for name, imported in left.items() if name not in more}
    return [name for name in modules if name in found]


def _imports_of(name: str, module: ModuleType) -> frozenset[str]:
    """Names that a module of Python's own imports when it is imported; none for any other module."""
    file = getattr(module, "__file__", None)
    if type(file) is not str or not _is_standard(file):
        return frozenset()
    if file not in _IMPORTS:
        _IMPORTS[file] = _read_imports(name, module)
    return _IMPORTS[file]


def _read_imports(name: str, module: ModuleType) -> frozenset[str]:
    get_code: Callable[[str], Any] | None = getattr(getattr(module, "__loader__", None), "get_code", None)
    try:
        code = None if get_code is None else get_code(name)
    except (ImportError, FileNotFoundError):
        code = None
    return frozenset() if code is None else frozenset(_imported(code, module.__package__ or ""))


def _imported(code: Any, package: str) -> Iterator[str]:
    """Every name that the top level of a module imports, with the packages above it and the names taken from it."""
    level: Any = None
    taken: Any = None
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME" and type(level) is int:
            # The two instructions before loaded the level and the names taken, in this order.
            name = resolve_name("." * level + step.argval, package) if level else step.argval
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
            yield from (f"{name}.{one}" for one in taken or ())
        if step.opname != "EXTENDED_ARG":
            level, taken = taken, step.argval


def held_by_others(folder: str) -> frozenset[str]:
    """Names of modules in a folder under which this process has loaded others, except Python's own."""
    held = {name: getattr(sys.modules.get(name), "__file__", None) for name in _modules_in(folder) - NEVER_THE_MODELS}
    files = {name: file for name, file in held.items() if type(file) is str and not _is_standard(file)}
    return frozenset(name for name, file in files.items() if not _is_same(_folder_of(file), folder))


def _folder_of(file: str) -> str:
    folder, name = os.path.split(file)
    return os.path.dirname(folder) if name.startswith("__init__.") else folder  # noqa: PTH120


def _is_standard(file: str) -> bool:
    return file.startswith(_STDLIB) and SHARED_FOLDERS.isdisjoint(Path(file).parts)
