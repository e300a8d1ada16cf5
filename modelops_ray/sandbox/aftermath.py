"""What importing a model did to its process, at every level of isolation.

Ours is put back before our code relies on it; the model's is in force while the model's code runs. What was not
changed, which is nearly always everything, costs nothing. Two kinds are told apart: what our code meets in every
simulation is switched around every call of the model; what only a fork server, a worker or a driver minds is put in
force once, in a process that runs simulations and nothing else. Timers that an import started are stopped: a fork would
not have them. Owns finding and switching that; `aspects` knows what there is. Standard library only.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

from .aspects import COLD, HOT, Aspect
from .buffers import Buffers, flush_c, flush_standard
from .calling import Model
from .descriptors import ModelsDescriptors, high, open_descriptors, shared_mappings
from .held import held

_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
_RELIED_ON = frozenset({
    "builtins", "contextlib", "datetime", "gc", "json", "os", "pathlib", "pickle", "random", "select", "selectors",
    "shutil", "signal", "socket", "struct", "subprocess", "sys", "time",
})  # fmt: skip
_PYTHONS = getattr(sys, "stdlib_module_names", frozenset()) | _RELIED_ON
_ABSENT = object()
_Identity = tuple[int, int, int]
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
# Held here: by the time they are called a model may have replaced them in their modules.
_get_limit, _get_trace, _get_profile = sys.getrecursionlimit, sys.gettrace, sys.getprofile
_set_limit, _set_trace, _set_profile = sys.setrecursionlimit, sys.settrace, sys.setprofile


Interpreter = tuple[int, Any, Any]
"""The recursion limit, the tracer and the profiler of this thread."""


def interpreter_state() -> Interpreter:
    """What the interpreter does to all code of this thread."""
    return _get_limit(), _get_trace(), _get_profile()


def put_right(before: Interpreter) -> None:
    """Undo what a simulation did to that; some 200 ns where it did nothing, in every simulation."""
    limit, trace, profile = before
    if _get_limit() != limit:
        _set_limit(limit)
    if _get_trace() is not trace:
        _set_trace(trace)
    if _get_profile() is not profile:
        _set_profile(profile)


class NamesKept:
    """Puts back, at its end and when it is asked, what was replaced meanwhile of the functions of Python's modules."""

    def __enter__(self) -> NamesKept:  # noqa: PYI034 (Self is of Python 3.11)
        spaces = [vars(sys.modules[name]) for name in _RELIED_ON if name in sys.modules]
        self._kept = [(space, name, v) for space in spaces for name, v in space.items() if callable(v)]
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()

    def put_back(self) -> None:
        """Do so; some 40 us."""
        # No function is called by its name before it is put back.
        for space, name, value in self._kept:
            if space.get(name) is not value:
                space[name] = value


class _Change:
    """One thing that an import did change."""

    __slots__ = ("_ours", "_theirs", "_write", "what")

    def __init__(self, what: object, write: Callable[[Any], object], ours: Any, theirs: Any) -> None:
        self.what, self._write, self._ours, self._theirs = what, write, ours, theirs

    def theirs(self) -> None:
        self._write(self._theirs)

    def ours(self) -> None:
        self._write(self._ours)


class _Stream(_Change):
    """A standard stream that the import replaced; what is there between two simulations is put back as it was."""

    __slots__ = ()

    def theirs(self) -> None:
        self._ours = getattr(sys, str(self.what), None)
        super().theirs()


class _Standard:
    """Descriptor 0, 1 or 2, where the import put a file of its own in its place."""

    __slots__ = ("_number", "_ours", "_theirs")

    def __init__(self, number: int, theirs: int) -> None:
        self._number, self._theirs, self._ours = number, theirs, -1

    def theirs(self) -> None:
        flush_standard()
        self._ours = high(os.dup(self._number))
        os.dup2(self._theirs, self._number)

    def ours(self) -> None:
        flush_standard()
        os.dup2(self._ours, self._number)
        os.close(self._ours)


class _Limit(_Change):
    """The recursion limit: a model gets as many frames as it asked for, however deep the code is that calls it."""

    __slots__ = ()

    def theirs(self) -> None:
        frame, depth = sys._getframe(), 0  # noqa: SLF001 (there is no other way to count)
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        _set_limit(self._theirs + depth)


class Aftermath:
    """What one import changed; as a context it is the import.

    `descriptors` are what the import left open, `buffers` the model's files that keep in memory what was written to
    them.
    """

    def __init__(self) -> None:
        """Begin with a model that has changed nothing."""
        self._hot: list[Any] = []
        self._cold: list[_Change] = []
        self._in_force: list[_Change] = []
        self.descriptors = ModelsDescriptors()
        self.buffers = Buffers()

    def __enter__(self) -> Aftermath:  # noqa: PYI034 (Self is of Python 3.11)
        self._open = open_descriptors()
        self._maps = shared_mappings()
        self._standards = {number: (_identity(number), _kept_aside(number)) for number in (0, 1, 2)}
        self._streams = {name: getattr(sys, name, None) for name in _STREAMS}
        self._paths = {name: list(getattr(sys, name)) for name in ("path", "meta_path", "path_hooks")}
        self._aspects = {name: (aspect, aspect.read()) for name, aspect in (*HOT.items(), *COLD.items())}
        self._timed = {timer: signal.getitimer(timer) for timer in _TIMERS}
        self._began_s = held.monotonic_s()
        self._names = _names_of_pythons()
        self._interpreter = interpreter_state()
        return self

    def __exit__(self, *_: object) -> None:
        # In this order: with a low limit nothing can be called, and what is replaced cannot be relied upon. Up to
        # where the names are put back no function of Python's is called by its name.
        limit, trace, profile = interpreter_state()
        put_right(self._interpreter)
        replaced = []
        for namespace, name, ours in self._names:
            theirs = namespace.get(name, _ABSENT)
            if theirs is not ours:
                replaced += [(namespace, name, ours, theirs)]
                namespace[name] = ours
        self._names = []
        self._note(limit, trace, profile, replaced)

    def _note(self, limit: int, trace: Any, profile: Any, replaced: list[Any]) -> None:
        """Note what changed besides, and put ours back."""
        flush_standard()
        _search_also(self._paths)
        self._cold = self._changed(COLD)
        hot: list[Any] = [*self._changed_streams(), *self._changed_standards(), *self._changed(HOT)]
        # These last, and undone first: all that comes before them is written by code of ours.
        hot += [_Change(name, _name_setter(space, name), ours, th) for space, name, ours, th in replaced]
        our_limit, our_trace, our_profile = self._interpreter
        if trace is not our_trace:
            hot.append(_Change("tracer", _set_trace, our_trace, trace))
        if profile is not our_profile:
            hot.append(_Change("profiler", _set_profile, our_profile, profile))
        if limit != our_limit:
            hot.append(_Limit("limit", _set_limit, our_limit, limit))
        self._hot = hot
        self._put_timers_back()
        self.descriptors = ModelsDescriptors.left_since(self._open, self._maps)
        self.buffers = Buffers(self._replaced_streams(), any_open=self.descriptors.any_written)
        self.buffers.flush()
        flush_c()

    def around(self, model: Model) -> Model:
        """The model with its own state in force while it runs; the same function where the import changed nothing."""
        if not self._hot:
            return model
        changes, backwards = tuple(self._hot), tuple(reversed(self._hot))

        def in_its_own_state(params: Any, seed: int, scenario: str) -> object:
            for change in changes:
                change.theirs()
            try:
                return model(params, seed, scenario)
            finally:
                for change in backwards:
                    change.ours()

        return in_its_own_state

    def settle(self, but: Collection[int] = ()) -> None:
        """Put in force for good, or until `leave`, what only others than simulations mind; not the signals `but`."""
        self._in_force = [change for change in self._cold if change.what not in {("signal", n) for n in but}]
        for change in self._in_force:
            change.theirs()

    def leave(self) -> None:
        """Put ours back."""
        for change in reversed(self._in_force):
            change.ours()
        self._in_force = []

    def _changed(self, aspects: dict[str, Aspect]) -> list[_Change]:
        """The changes among these, undone. What is a dictionary is compared and written entry by entry."""
        changes = []
        for name in aspects:
            aspect, ours = self._aspects[name]
            theirs, found = aspect.read(), []
            if isinstance(ours, dict):
                keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
                setters = {key: _quiet(partial(_set_entry, aspect, key)) for key in keys}
                found = [_Change((name, k), write, ours.get(k), theirs.get(k)) for k, write in setters.items()]
            elif ours != theirs:
                found = [_Change(name, _quiet(aspect.write), ours, theirs)]
            # At once: what is read next may need it.
            for change in found:
                change.ours()
            changes += found
        return changes

    def _put_timers_back(self) -> None:
        """Stop what was started; a timer that ran before goes on, as far as it had come."""
        for timer, (left_s, interval_s) in self._timed.items():
            now_s, _ = signal.getitimer(timer)
            due_s = left_s - (held.monotonic_s() - self._began_s)
            if left_s == 0.0 and now_s:
                signal.setitimer(timer, 0)
            elif left_s and not due_s - 1.0 <= now_s <= left_s:
                signal.setitimer(timer, max(0.001, due_s), interval_s)
        if "faulthandler" in sys.modules:
            # Its timer is a thread in C, and may end the process.
            sys.modules["faulthandler"].cancel_dump_traceback_later()

    def _replaced_streams(self) -> list[Any]:
        return [change._theirs for change in self._hot if isinstance(change, _Stream)]  # noqa: SLF001 (our own)

    def _changed_streams(self) -> list[_Stream]:
        changes = []
        for name, ours in self._streams.items():
            theirs = getattr(sys, name, None)
            if theirs is not ours:
                changes.append(_Stream(name, partial(setattr, sys, name), ours, theirs))
                setattr(sys, name, ours)
        return changes

    def _changed_standards(self) -> list[_Standard]:
        changes = []
        for number, (identity, aside) in self._standards.items():
            now = _identity(number)
            if now not in (identity, None):
                changes.append(_Standard(number, high(os.dup(number))))
            if now != identity:
                _put_back(number, identity, aside)
            # The model may have closed it, and its number may be that of a file of the model's.
            if aside is not None and _identity(aside) == identity:
                os.close(aside)
        return changes


def _put_back(number: int, identity: _Identity | None, aside: int | None) -> None:
    """Have a standard descriptor as it was; it leads nowhere where the import closed what was kept of it, too."""
    if aside is not None and _identity(aside) == identity:
        os.dup2(aside, number)
    elif _identity(number) is None:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)


def _search_also(paths: Mapping[str, list[Any]]) -> None:
    """Have modules found where they were before, too: much of what ours and the model need is imported later."""
    for name, before in paths.items():
        now = getattr(sys, name, None)
        if not isinstance(now, list):
            now = []
            setattr(sys, name, now)
        now += [entry for entry in before if entry not in now]


def _names_of_pythons() -> list[tuple[dict[str, Any], str, Any]]:
    """Every name by which a loaded module leads to a function, class or module of Python's own."""
    modules = [module for module in list(sys.modules.values()) if type(module) is ModuleType]
    pythons = [module for module in modules if module.__name__.partition(".")[0] in _PYTHONS]
    wanted = {
        id(value)
        for module in pythons
        for value in vars(module).values()
        if type(value) is ModuleType or callable(value)
    }
    return [(vars(m), name, value) for m in modules for name, value in vars(m).items() if id(value) in wanted]


def _name_setter(namespace: dict[str, Any], name: str) -> Callable[[Any], object]:
    def write(value: Any) -> None:
        if value is _ABSENT:
            namespace.pop(name, None)
        else:
            namespace[name] = value

    return write


def _set_entry(aspect: Aspect, key: Any, value: Any) -> None:
    aspect.write((key, value))


def _quiet(write: Callable[[Any], object]) -> Callable[[Any], object]:
    """What cannot be written back (a limit that was lowered for good, a signal in another thread) stays as it is."""

    def attempt(value: Any) -> None:
        with suppress(OSError, ValueError, TypeError):
            write(value)

    return attempt


def _identity(number: int) -> _Identity | None:
    """Which file a standard descriptor is of; None where it is closed."""
    try:
        there = os.fstat(number)
    except OSError:
        return None
    return there.st_dev, there.st_ino, there.st_rdev


def _kept_aside(number: int) -> int | None:
    with suppress(OSError):
        return high(os.dup(number))
    return None


def mend_streams() -> None:
    """Put a new stream in the place of each standard one that is closed: a model that does that still has one."""
    made: dict[int, Any] = {}
    for name in _STREAMS:
        stream, number = getattr(sys, name, None), _NUMBERS[name.strip("_")]
        if getattr(stream, "closed", False) is True:
            made[number] = made.get(number) or _new_stream(number)
            setattr(sys, name, made[number])


def _new_stream(number: int) -> Any:
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    if number == 0:
        return io.TextIOWrapper(io.BufferedReader(raw))
    return io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True, errors="backslashreplace")
