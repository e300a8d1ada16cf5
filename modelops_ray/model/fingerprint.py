"""Fingerprints of models that no file defines: the parts of a notebook that make a difference to its results.

Owns what functions, classes and objects are made of. Does not run anything; `sandbox.digest` digests files.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType

from modelops_ray.sandbox.digest import SHARED_FOLDERS

Dump = Callable[[object], bytes]

_STDLIB = Path(os.__file__).parent
_CACHED = type(functools.lru_cache(max))
_DESCRIPTORS = (staticmethod, classmethod, property, functools.cached_property)
_TAKEN_APART = (
    FunctionType, CodeType, ModuleType, MethodType, MappingProxyType, functools.partial, type, set, frozenset, _CACHED,
    *_DESCRIPTORS,
)  # fmt: skip
_ATOMS = frozenset({str, bytes, int, float, complex, bool, type(None)})
# Whether two equal values of these types are one object is an accident.
_NO_IDENTITY = _ATOMS | {tuple, frozenset, CodeType}
# Attributes that say nothing about a class, or that differ from one process, or edit of another cell, to the next.
_NOT_THE_CLASSES = {"__dict__", "__weakref__", "__module__", "__firstlineno__", "__static_attributes__", "_abc_impl"}
_UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError)


def digest_callable(function: Callable[..., object], name: str, dump: Dump) -> str:
    """Digest a callable that no file defines: its code, and the values, classes and globals that it uses.

    The same notebook cell run twice has the same digest, of 64 hex digits. What is installed, or Python's own, counts
    by its name. Where a value has no stable form the digest differs between processes, which starts a run afresh and
    never mixes two models. `name` is that of the model in identities; `dump` pickles what plain pickle cannot.
    """
    return hashlib.sha256(name.encode() + _Fingerprint(dump, {}).of(function)).hexdigest()


class _Fingerprint:
    """Goes through what a callable is made of; a value that was met before counts by its number, so that cycles end."""

    def __init__(self, dump: Dump, known: dict[int, tuple[int, object]]) -> None:
        self._dump = dump
        # The objects are kept: Python gives the id of an object that is gone to another one.
        self._known = dict(known)

    def of(self, value: object) -> bytes:
        """Digest a value."""
        sha = hashlib.sha256()
        for part in self._parts(value):
            sha.update(len(part).to_bytes(8, "big") + part)
        return sha.digest()

    def _parts(self, value: object) -> Iterator[bytes]:
        yield type(value).__qualname__.encode()
        if type(value) not in _NO_IDENTITY:
            if id(value) in self._known:
                yield str(self._known[id(value)][0]).encode()
                return
            self._known[id(value)] = len(self._known), value
        if type(value) in _ATOMS:
            yield repr(value).encode()
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, ModuleType):
            yield value.__name__.encode()
        elif isinstance(value, (set, frozenset)):
            # Each is digested as if it came first, for their order is an accident.
            yield from sorted(_Fingerprint(self._dump, self._known).of(item) for item in value)
        elif (members := _members(value)) is not None:
            yield from map(self.of, members)
        else:
            yield self._pickled(value)

    def _function(self, function: FunctionType) -> Iterator[bytes]:
        yield function.__qualname__.encode()
        if _is_installed(function.__globals__.get("__name__")) and _is_found(function):
            yield str(function.__module__).encode()
            return
        yield self.of(function.__code__)
        yield self.of(function.__defaults__)
        yield self.of(sorted((function.__kwdefaults__ or {}).items()))
        yield from (self.of(cell.cell_contents) for cell in function.__closure__ or () if cell != CellType())
        for name in sorted(_names(function.__code__) & function.__globals__.keys()):
            yield name.encode()
            yield self.of(function.__globals__[name])

    def _class(self, kind: type) -> Iterator[bytes]:
        yield kind.__qualname__.encode()
        if _is_installed(kind.__module__):
            yield kind.__module__.encode()
            return
        yield from map(self.of, kind.__bases__)
        for name, member in sorted(vars(kind).items()):
            if name not in _NOT_THE_CLASSES:
                yield name.encode()
                yield self._member(member)

    def _member(self, member: object) -> bytes:
        try:
            return self.of(member)
        except _UNPICKLABLE:
            # The class travels by its name, so it may hold what cannot be pickled.
            return type(member).__qualname__.encode()

    def _pickled(self, value: object) -> bytes:
        sink = io.BytesIO()
        try:
            _Pickler(sink, self).dump(value)
        except _UNPICKLABLE:
            return self._dump(value)
        return sink.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles fingerprints of functions and classes in place of their names."""

    def __init__(self, sink: io.BytesIO, fingerprint: _Fingerprint) -> None:
        super().__init__(sink, protocol=5)
        self._fingerprint = fingerprint

    def persistent_id(self, value: object) -> bytes | None:
        """Return the fingerprint of a value that is code or has no order, None for any other."""
        return self._fingerprint.of(value) if isinstance(value, _TAKEN_APART) else None


def _members(value: object) -> Iterable[object] | None:
    """The members of a value, in order; None where pickle reads them."""
    if isinstance(value, (tuple, list, dict)) and type(value) not in (tuple, list, dict):
        return None  # a subclass, which may have more members
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, (dict, MappingProxyType)):
        return [member for item in value.items() for member in item]
    if isinstance(value, CodeType):
        facts = (value.co_names, value.co_varnames, value.co_freevars, value.co_argcount, value.co_flags)
        return [value.co_code, repr(facts), *value.co_consts]
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, value.args, sorted(value.keywords.items())
    if isinstance(value, (staticmethod, classmethod, _CACHED)):
        return (value.__wrapped__,)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    return (value.fget, value.fset, value.fdel) if isinstance(value, property) else None


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*map(_names, (const for const in code.co_consts if isinstance(const, CodeType))))


def _is_installed(module: str | None) -> bool:
    """Whether a module is Python's or a package's, whose version is recorded elsewhere."""
    # The file of `__main__` may be anywhere, and a notebook that runs in it is the user's.
    if module in (None, "__main__"):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module.partition(".")[0] in sys.stdlib_module_names
    return _STDLIB in Path(file).parents or not SHARED_FOLDERS.isdisjoint(Path(file).parts)


def _is_found(function: FunctionType) -> bool:
    """Whether its module has this very function, as it has not where a package wraps one of the user's."""
    try:
        found: object = attrgetter(function.__qualname__)(sys.modules.get(function.__module__))
    except AttributeError:
        return False
    return found is function
