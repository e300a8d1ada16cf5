"""Loading a model in a process, once, and only if it is the model the run began with.

Owns `ModelRef` and what this process has loaded. Does not look for models: `runner.model` does, in the driver.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import pickle
import platform
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from operator import attrgetter
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

from ..errors import ModelError, one_line
from . import opened
from .aftermath import Aftermath, mend_streams
from .calling import Model, calling, returning
from .digest import SHARED_FOLDERS, digest_entry, digest_folder, digest_package, may_be_the_models
from .foreign import ForksEnded, authors_code, working_folder
from .generators import seeding
from .names import NEVER_THE_MODELS, Names, held_by_others
from .raised import message_of, type_of
from .reading import FileState, Reading, digest_at, digest_of_file, is_module_elsewhere, path_of

# Python's own `test` package is not used by anything, and a good name for a first try. Python 3.9 names no others.
_STANDARD = getattr(sys, "stdlib_module_names", frozenset(sys.builtin_module_names)) - {"test"}
_HERE = Path(__file__).parent
# What Ray calls an unpacked package: `_ray_pkg_<hash>`.
_PACKAGE = "_ray_pkg_"
# In `sys`, for the module that a model imports to start a run is not this one where ours go by another name.
_LOADING = "_modelops_ray_loading"
_REFUSALS = {(f"{name}.errors", "ModelError") for name in ("modelops_ray", "_modelops_ray")}
MAX_MESSAGE = 2000
"""Characters kept of what an import raises."""
_NEVER_FORGOTTEN = _STANDARD | {__name__.partition(".")[0]}


@dataclass(frozen=True)
class ModelRef:
    """A model as it travels to where it runs.

    `location` is a file's absolute path or a module's name, `root` the folder from which a module is imported. `shared`
    are the names in the model's folder that are also those of Python's or installed modules; None before a look at it.
    `imported` are the files that its import reads, and those that are declared, by path relative to its folder.
    `label` is for people. `entrypoint_name` and `digest` (64 hex digits) are the model's identity: neither depends on
    where its files lie, and the digest is that of the file that defines it. `python` is the interpreter that has its
    packages, at least 3.9, with pyarrow and numpy; empty for the one that Ray runs on.
    """

    kind: Literal["file", "module", "pickled"]
    label: str
    entrypoint_name: str
    digest: str
    function: str
    location: str = ""
    root: str = ""
    pickled: bytes = b""
    python: str = ""
    shared: tuple[str, ...] | None = None
    imported: tuple[FileState, ...] = ()

    @property
    def folder(self) -> str:
        """The folder that names of files it reads are relative to; empty for a model that no file defines."""
        return str(Path(self.location).parent) if self.kind == "file" else self.root

    @property
    def interpreter(self) -> str:
        """The path of the Python that runs it."""
        return self.python or sys.executable

    def to_json(self) -> dict[str, Any]:
        """Its fields as JSON has them, for a process of another interpreter."""
        return asdict(self) | {"pickled": self.pickled.hex()}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> ModelRef:
        """The model that `to_json` was asked of."""
        shared = fields["shared"]
        made = {
            "pickled": bytes.fromhex(fields["pickled"]),
            "shared": None if shared is None else tuple(shared),
            "imported": tuple(FileState(*state) for state in fields["imported"]),
        }
        return ModelRef(**{**fields, **made})


@dataclass
class _Process:
    """What this process has loaded: one model at a time, so that two models never share a helper module."""

    ref: ModelRef | None = None
    model: Model | None = None
    function: Callable[..., object] | None = None
    working_folder: str = ""
    aftermath: Aftermath = field(default_factory=Aftermath)
    modules_before: dict[str, ModuleType] = field(default_factory=dict)
    path_added: list[str] = field(default_factory=list)
    names: Names | None = None
    reading: Reading = field(default_factory=Reading)
    finder: Callable[[str], FileFinder] | None = None


_process = _Process()


def refuse_while_loading() -> None:
    """Refuse, with a ModelError, to start a run from the top level of a model's own file, which is being imported."""
    if label := getattr(sys, _LOADING, ""):
        raise ModelError(f'importing model {label} starts a run; put that call under `if __name__ == "__main__":`')


def load_model(ref: ModelRef) -> Model:
    """Return the model as a function of (params, seed, scenario); loaded on the first call, then kept.

    What its import did to this process is in force only while the function runs: see `aftermath`. ModelError where its
    files are missing here or are not those the run began with, it does not import, or takes other parameters.
    """
    if _process.model is not None and _process.ref == ref and _process.reading.is_current():
        return _process.model
    forget_model()
    _process.ref, _process.modules_before = ref, dict(sys.modules)
    require_same(ref)
    _process.reading = Reading(_own_files(ref))
    names = _process.names = _names_of(ref)
    path = list(sys.path)
    try:
        if names is None:
            _put_first(workdir_of(ref) if ref.kind == "file" else ref.root)
            importlib.invalidate_caches()
        with names or nullcontext():
            with _noting_what_is_read(ref):
                function = _import(ref)
            model = seeding(calling(function, ref.label), _models_names(ref, function))
            _process.function = function
    finally:
        left = Counter(sys.path) - Counter(path)
        _process.path_added = list(left.elements())
    # Names inside: what an aftermath does around a call is ours.
    _process.model = _process.aftermath.around(names.around(model) if names else model)
    _process.working_folder = working_folder()
    return _process.model


@contextmanager
def _noting_what_is_read(ref: ModelRef) -> Iterator[None]:
    """Note what the import reads; ModelError where that is not what the run began with."""
    reading = _process.reading
    _compile_anew(_own_files(ref))
    opened.watch(reading)
    try:
        yield
    finally:
        opened.watch(None)
    expected = {path_of(state.path, ref.folder): state for state in ref.imported}
    for path, stamp in reading.found.items():
        if path in expected and digest_at(path, stamp) != expected[path].sha256:
            raise _changed(ref, expected[path].path)
    reading.known = {(path, stamp) for path, stamp in reading.found.items() if path in expected}
    reading.tell_again()


def _own_files(ref: ModelRef) -> str:
    """What the paths of a model's own files begin with; empty for a model that no file defines."""
    if ref.kind == "module" and Path(ref.root).name in SHARED_FOLDERS:
        top = f"{ref.root}/{ref.location.partition('.')[0]}"
        return f"{top}/" if Path(top).is_dir() else f"{top}.py"
    return f"{ref.folder.rstrip('/')}/" if ref.folder else ""


def reading() -> Reading:
    """What this process has read of the model that is loaded, and for it."""
    return _process.reading


def _models_names(ref: ModelRef, function: Callable[..., object]) -> Iterator[dict[str, Any]]:
    """The names of each module of the model's own, in an order that every process has."""
    if ref.kind == "pickled":
        yield getattr(function, "__globals__", {})
        return
    before = _process.modules_before
    for name, module in sorted(sys.modules.items()):
        if module is not before.get(name) and _came_with(ref, name, module):
            yield vars(module)


def _names_of(ref: ModelRef) -> Names | None:
    """What keeps the model's modules from ours where both have some of one name; None where they have none.

    ModelError where one of them names a module that must be Python's in every process.
    """
    folder = own_folder(ref)
    if never := sorted(NEVER_THE_MODELS.intersection(ref.shared or ())):
        raise ModelError(
            f"model {ref.label}: {never[0]} in {folder} has the name of a module that runs simulations; rename it"
        )
    shared = {*(ref.shared or ()), *held_by_others(folder)} if folder else set()
    return Names(folder, shared) if shared else None


def own_folder(ref: ModelRef) -> str:
    """The folder where modules of the model's own are found; empty where that is none, or shared with all."""
    folder = str(Path(ref.location).parent) if ref.kind == "file" else ref.root
    return "" if Path(folder).name in SHARED_FOLDERS else folder


def workdir_of(ref: ModelRef) -> str:
    """The folder that a process made for a model begins in: where `python model.py` would be started."""
    return str(Path(ref.location).parent) if ref.kind == "file" else ref.root or working_folder()


def where_it_returns() -> str:
    """The place where the model that is loaded returns, as in a traceback; its first line where there are several."""
    return "" if _process.function is None else returning(_process.function)


def aftermath() -> Aftermath:
    """What the import of the model that is loaded did to this process."""
    return _process.aftermath


def models_folder() -> str:
    """Where the model's import left this process: what lies there is to be in every simulation's own folder."""
    return _process.working_folder


def require_same(ref: ModelRef) -> None:
    """Make sure that the files which the model reads are on this node as the run began; ModelError otherwise."""
    if ref.kind != "pickled" and digest_of(ref) != ref.digest:
        raise _changed(ref, Path(ref.location).name if ref.kind == "file" else ref.location)
    for name, sha256 in ref.imported:
        found = digest_of_file(path_of(name, ref.folder))
        if found is None and (name.startswith("/") or is_module_elsewhere(name)):
            continue  # this node may have it elsewhere, or need it not: the import says
        if found is None:
            raise ModelError(
                f"{name}, which model {ref.label} reads, is not on node {platform.node()}; put it on storage that all "
                "nodes mount, into their image, or send it with the job (--include)"
            )
        if found != sha256:
            raise _changed(ref, name)


def _changed(ref: ModelRef, name: str) -> ModelError:
    return ModelError(
        f"model {ref.label} changed while the run was on (node {platform.node()} has another version of {name}); "
        "start the run again"
    )


def relocated(ref: ModelRef, here: Path) -> ModelRef:
    """The model as it lies on this node, where it came with a Ray job.

    Ray unpacks a job's working directory on every node below a folder for temporary files, which need not be the same
    on all of them; the folder it unpacks to has the name of the package everywhere. `ref` has the places of the
    driver's node; `here` is the working directory of a Ray worker, which is that folder if there is one.
    """
    if not here.name.startswith(_PACKAGE):
        return ref
    return replace(ref, location=_moved(ref.location, here), root=_moved(ref.root, here))


def _moved(place: str, here: Path) -> str:
    before, package, behind = place.rpartition(f"/{here.name}")
    return f"{here}{behind}" if package and before and behind[:1] in {"", "/"} else place


def forget_model() -> None:
    """Take the model loaded before out of this process: its modules, and what it added to the search path."""
    gc.unfreeze()
    _compile_as_before()
    for entry in _process.path_added:
        with suppress(ValueError):
            sys.path.remove(entry)
    ref, _process.ref, _process.model, _process.working_folder = _process.ref, None, None, ""
    _process.function = None
    _process.aftermath = Aftermath()
    _process.names, _process.path_added, _process.reading = None, [], Reading()
    if ref is None or ref.kind == "pickled":
        return
    before = _process.modules_before
    for name in [name for name, module in sys.modules.items() if module is not before.get(name)]:
        if _came_with(ref, name, sys.modules[name]):
            del sys.modules[name]
            sys.modules.update({name: before[name]} if name in before else {})


def _came_with(ref: ModelRef, name: str, module: ModuleType) -> bool:
    """Whether a module is the model's own; what is installed stays, for much of it cannot be imported twice."""
    file, top = getattr(module, "__file__", None) or "", name.partition(".")[0]
    if not file.endswith(".py") or top in _NEVER_FORGOTTEN:
        return False
    if ref.kind == "module" and (top == ref.location.partition(".")[0] or Path(ref.root).name in SHARED_FOLDERS):
        return top == ref.location.partition(".")[0]
    folder = Path(ref.location).parent if ref.kind == "file" else Path(ref.root)
    return Path(file).is_relative_to(folder) and all(map(may_be_the_models, Path(file).relative_to(folder).parts))


def digest_of(ref: ModelRef) -> str:
    """Digest the name of a model and the file that defines it, as it is here; ModelError where it cannot be read."""
    if ref.kind == "module":
        return digest_entry(_file_of_module(ref), ref.entrypoint_name)
    path = Path(ref.location)
    if not path.exists():
        raise ModelError(
            f"model file {path} is not on node {platform.node()}; put it on storage that all nodes mount, into their "
            "image, or send it as the job's working directory"
        )
    return digest_entry(path, ref.entrypoint_name)


def _file_of_module(ref: ModelRef) -> Path:
    """The file of a module; that of the package it should be in where there is none: to import it says why."""
    spec = find_top_level(ref.location, ref.root)
    top = Path(str(spec.origin))
    for folder in spec.submodule_search_locations or ():
        module = Path(folder, *ref.location.split(".")[1:])
        for path in (module / "__init__.py", module.with_name(f"{module.name}.py")):
            if path.is_file():
                return path
    return top


def former_digest_of(ref: ModelRef) -> str:
    """Digest a model as versions did that kept no record of what it read: with all Python files beside it."""
    if ref.kind == "pickled":
        return ref.digest
    if ref.kind == "module":
        return digest_package(find_top_level(ref.location, ref.root), ref.entrypoint_name)
    return digest_folder(Path(ref.location).parent, ref.entrypoint_name)


def find_top_level(module: str, root: str) -> ModuleSpec:
    """Find the top-level package of a module without importing it; `root` is searched where nothing else is.

    ModelError where there is none, or it is not Python source.
    """
    top = module.partition(".")[0]
    try:
        spec = _found_first_in(root, top)
    except (ImportError, ValueError) as error:
        raise ModelError(f"module {top} cannot be looked up: {error}") from error
    if spec is None:
        raise ModelError(f"there is no module {top} on node {platform.node()}; install it there or correct --model")
    if spec.submodule_search_locations is None and not str(spec.origin).endswith(".py"):
        raise ModelError(f"module {top} is not Python source ({spec.origin}); name a module written in Python")
    return spec


def _found_first_in(root: str, name: str) -> ModuleSpec | None:
    """Look for a top-level module as a program in that folder would, also where one of its name is loaded here."""
    importlib.invalidate_caches()
    before = list(sys.path)
    _put_first(root)
    try:
        looks = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = (look(name, None) for look in looks if look is not None)
        spec = next((spec for spec in found if spec is not None), None)
        return spec or importlib.util.find_spec(name)
    finally:
        sys.path[:] = before


def _import(ref: ModelRef) -> Callable[..., object]:
    with ForksEnded(), _running_foreign_code(ref), _process.aftermath:
        if ref.kind == "pickled":
            return _as_callable(pickle.loads(ref.pickled), ref.label)  # noqa: S301 - our own driver wrote it
        module = _import_file(Path(ref.location)) if ref.kind == "file" else importlib.import_module(ref.location)
    return _function_of(module, ref)


@contextmanager
def _running_foreign_code(ref: ModelRef) -> Iterator[None]:
    setattr(sys, _LOADING, ref.label)
    try:
        # Stdout may carry the one JSON object of `--json`; what a model prints is for people.
        with authors_code(partial(_not_importing, ref), passing=(ModelError,)), redirect_stdout(sys.stderr):
            yield
    finally:
        setattr(sys, _LOADING, "")
        mend_streams()


def _not_importing(ref: ModelRef, error: BaseException) -> ModelError:
    if (type(error).__module__, type(error).__name__) in _REFUSALS:
        return ModelError(str(error))
    return ModelError(f"model {ref.label} does not import: {in_one_line(error)}{_hint(ref, error)}")


def _hint(ref: ModelRef, error: BaseException) -> str:
    """What to do where an import may have failed because it got something of the model's for Python's."""
    taken = _process.names.loaded if _process.names else ()
    frames = traceback.extract_tb(error.__traceback__)
    if not taken or not frames or Path(frames[-1].filename).is_relative_to(own_folder(ref)):
        return ""
    return f"; rename {', '.join(taken)} in {own_folder(ref)}, which others take for Python's or an installed module"


def in_one_line(error: BaseException) -> str:
    """What an author's code raised, with the last place in a file of theirs; bounded, for it may say anything."""
    text = one_line(f"{type_of(error)}: {message_of(error)}", MAX_MESSAGE)
    if issubclass(type(error), SyntaxError):
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_the_authors(frame.filename)]
    return f"{text} ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else text


def _is_the_authors(filename: str) -> bool:
    return not filename.startswith("<frozen") and filename != importlib.__file__ and Path(filename).parent != _HERE


class _Source(SourceFileLoader):
    """Compiles what the file says now: cached bytecode is stale after two edits of one size in one second."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the signature of the base class
        return self.source_to_code(self.get_data(self.path), self.path)


def _compile_anew(own: str) -> None:
    """Have the model's own modules compiled from what their files say, also those that are imported later."""
    loaders = (
        (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Source, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES)
    )  # fmt: skip

    def finder(folder: str) -> FileFinder:
        if not f"{folder}/".startswith(own) or not SHARED_FOLDERS.isdisjoint(folder.split("/")):
            raise ImportError(folder)
        return FileFinder(folder, *loaders)

    if own.endswith("/"):
        sys.path_hooks.insert(0, finder)
        _process.finder = finder
        _forget_finders(own)


def _compile_as_before() -> None:
    if _process.finder is not None:
        with suppress(ValueError):
            sys.path_hooks.remove(_process.finder)
        _process.finder = None
        _forget_finders("")


def _forget_finders(own: str) -> None:
    for folder in [folder for folder in sys.path_importer_cache if f"{folder}/".startswith(own)]:
        del sys.path_importer_cache[folder]


def _import_file(path: Path) -> ModuleType:
    name = path.stem
    known = sys.modules.get(name)
    if name in _STANDARD or (known is not None and not _is_from(known, path)):
        raise ModelError(f"model file {path} has the name of the module {name}, which it would hide; rename the file")
    spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
    if spec is None or spec.loader is None:
        raise ModelError(f"model file {path} cannot be imported; it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses and pickle look a class's module up by name.
    sys.modules[name] = module
    with ExitStack() as undo:
        undo.callback(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        undo.pop_all()
    return module


def _is_from(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _put_first(folder: str) -> None:
    """Have a folder of a model's searched before all others, and one of installed modules wherever it is already."""
    is_there = folder in sys.path if Path(folder).name in SHARED_FOLDERS else sys.path[:1] == [folder]
    if folder and not is_there:
        sys.path.insert(0, folder)


def _function_of(module: ModuleType, ref: ModelRef) -> Callable[..., object]:
    try:
        function = attrgetter(ref.function)(module)
    except AttributeError:
        there = sorted(n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_"))
        has = f"it has {', '.join(there[:10])}" if there else "it defines no function"
        raise ModelError(f"model {ref.label}: there is no {ref.function} in {ref.location}; {has}") from None
    return _as_callable(function, ref.label)


def _as_callable(function: object, label: str) -> Callable[..., object]:
    if not callable(function):
        raise ModelError(f"model {label} is a {type(function).__name__}, not a function of (params, seed[, scenario])")
    return function
