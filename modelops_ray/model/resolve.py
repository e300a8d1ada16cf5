"""Finding a model in the driver: from what the user gave to a `ModelRef` that can be loaded anywhere.

Owns the forms a model may be given in. Does not load it in workers: `sandbox.loading` does.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from modelops_ray.errors import ModelError
from modelops_ray.model.fingerprint import Dump, digest_callable
from modelops_ray.model.inspection import look_at
from modelops_ray.sandbox.digest import SHARED_FOLDERS
from modelops_ray.sandbox.foreign import authors_code
from modelops_ray.sandbox.loading import ModelRef, digest_of, find_top_level

_FORMS = "write path/to/file.py:function or package.module:function"


def resolve_model(model: str | Callable[..., object], base: Path, pickle: Dump | None = None) -> ModelRef:
    """Find a model, digest it, and see that it can be called, by importing it once in a process made for that.

    The model is `path/to/file.py:function`, `package.module:function`, or a callable. Relative paths are relative to
    `base`, and modules are looked for there first. `pickle` pickles by value a callable that no file defines; without
    it such a callable is refused. ModelError where the model does not exist, does not import, or takes other parameters
    than (params, seed[, scenario]).
    """
    return look_at(find_model(model, base, pickle))


def find_model(model: str | Callable[..., object], base: Path, pickle: Dump | None = None) -> ModelRef:
    """Find a model and digest it, as `resolve_model` does; nothing of it is imported."""
    ref = _from_text(model, base) if isinstance(model, str) else _from_callable(model, pickle)
    return ref if ref.kind == "pickled" else replace(ref, digest=digest_of(ref))


def installed_versions() -> dict[str, str]:
    """Versions of all installed distributions by lower-case name, to be recorded beside the results."""
    found = ((dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions())
    return dict(sorted((name.lower(), version) for name, version in found if name))


def _from_text(text: str, base: Path) -> ModelRef:
    if "\0" in text:
        raise ModelError(f"model {text!r} is no path and no module; {_FORMS}")
    where, _, function = text.rpartition(":")
    if not where or not all(part.isidentifier() for part in function.split(".")):
        raise ModelError(f"model {text!r} names no function; {_FORMS}")
    if where.endswith(".py") or "/" in where:
        return _in_file(_path_of(where, base), function)
    if not all(part.isidentifier() for part in where.split(".")):
        raise ModelError(f"model {text!r} is neither a .py file nor a module; {_FORMS}")
    return _in_module(where, function, str(base.resolve()))


def _path_of(where: str, base: Path) -> Path:
    try:
        return (base / Path(where).expanduser()).resolve()
    except (OSError, RuntimeError) as error:  # a circle of links, or the home of an unknown user
        raise ModelError(f"model file {where} cannot be found: {error}; {_FORMS}") from error


def _in_file(path: Path, function: str) -> ModelRef:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"model file {path} {what}; {_FORMS}")
    if path.suffix != ".py":
        raise ModelError(f"model file {path} is not a .py file; {_FORMS}")
    stem = re.sub(r"^(?=\d)|\W", "_", path.stem)
    return ModelRef("file", f"{path.name}:{function}", f"{stem}.{function}", "", function, str(path))


def _in_module(module: str, function: str, base: str) -> ModelRef:
    spec = find_top_level(module, base)
    places = spec.submodule_search_locations or [str(spec.origin)]
    root = str(Path(next(iter(places))).parent)
    return ModelRef("module", f"{module}:{function}", f"{module}.{function}", "", function, module, root)


def _from_callable(function: Callable[..., object], pickle: Dump | None) -> ModelRef:
    if not callable(function):
        raise ModelError(f"model is a {type(function).__name__}; give a function, or {_FORMS}")
    module = _defining_module(function)
    if module is None:
        return _by_value(function, pickle)
    # The spec of `python -m package.module` has that name, where the module itself says `__main__`.
    name = module.__name__ if module.__spec__ is None else module.__spec__.name
    file = Path(str(module.__file__)).resolve()
    if (file.parent / "__init__.py").exists() or file.parent.name in SHARED_FOLDERS:
        return _in_module(name, function.__qualname__, "")
    return _in_file(file, function.__qualname__)


def _defining_module(function: Callable[..., object]) -> ModuleType | None:
    """Return the module whose file defines this very function under its name; None where no file does."""
    if not inspect.isfunction(function):
        return None
    module = sys.modules.get(function.__module__)
    if module is None or getattr(module, "__file__", None) is None:
        return None
    # A function typed at a prompt, or run by exec, has the module but not its file.
    if not Path(function.__code__.co_filename).is_file():
        return None
    try:
        found: object = attrgetter(function.__qualname__)(module)
    except AttributeError:
        # `f.<locals>.g` and lambdas end here, and so does a function that the module gives another name
        # or, while a script's top level still runs, no name yet.
        return None
    return module if found is function else None


def _by_value(function: Callable[..., object], pickle: Dump | None) -> ModelRef:
    inner = getattr(function, "func", function)
    name = getattr(inner, "__qualname__", type(inner).__qualname__).rpartition(".")[2].strip("<>")
    if pickle is None:
        raise ModelError(f"model {name} is not defined by a file; define it at the top level of one, or {_FORMS}")
    said = f"model {name} cannot be sent to workers"
    with authors_code(lambda error: ModelError(f"{said}: {type(error).__name__}: {error}")):
        pickled = pickle(function)
    entrypoint = f"{getattr(function, '__module__', None) or '__main__'}.{name}"
    return ModelRef("pickled", name, entrypoint, digest_callable(function, entrypoint, pickle), name, pickled=pickled)
