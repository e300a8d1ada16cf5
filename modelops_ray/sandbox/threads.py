"""Which module started the threads that a fork would lose.

Owns looking at this process's threads while a model is imported. Runs in the model's interpreter.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import time
from contextlib import suppress
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of pyarrow's allocator, which starts it again in the child.
SURVIVE_A_FORK = frozenset({"jemalloc_bg_thd"})
TRIAL_S = 5.0
# Loaded when the first parallel function runs; with one thread, too, which no look at threads finds.
_ENDS_A_FORK = "numba.np.ufunc.omppool"
_TASKS = "/proc/self/task"
_OURS = frozenset({"modelops_ray", "_modelops_ray"})


class ThreadTracker:
    """While it is open, remembers during which import each thread was there for the first time."""

    def __init__(self) -> None:
        self._import = self._hook = builtins.__import__
        self._is_open = False
        self._found: dict[int, str] = {}
        # Held: a model may replace it while it is imported. Twice as fast as a `Path`, and twice per import.
        self._tasks = os.listdir

    def __enter__(self) -> ThreadTracker:  # noqa: PYI034 (Self is of Python 3.11)
        self._update("the interpreter")
        self._is_open, self._hook = True, self._imported
        builtins.__import__ = self._hook
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        # Else it is the model's, which may well call this one.
        if builtins.__import__ is self._hook:
            builtins.__import__ = self._import
        self._update("the model")

    def why_not_fork(self) -> str:
        """Name the module that started threads which a fork would lose; empty where nothing would be lost.

        OpenBLAS, for one, stops its threads before a fork and starts them again when it needs them. To know which do
        that, this process forks once.
        """
        if _ENDS_A_FORK in sys.modules:
            return "importing the model runs parallel functions of numba, and OpenMP ends a fork that runs more"
        if any(self._losing()) and not _forks_once():
            return "a fork of the model hangs"
        losing = list(self._losing())
        if not losing:
            return ""
        module = losing[0][1]
        threads = sorted({thread for thread, starter in losing if starter == module})
        return f"importing {module} starts threads ({', '.join(threads)})"

    def _imported(self, *args: Any, **kwargs: Any) -> Any:
        """Import as `__import__` does, called in any way that it may be called."""
        if not self._is_open:
            return self._import(*args, **kwargs)
        importer, module, is_there = _asked_for(*args, **kwargs)
        if is_there:
            return self._import(*args, **kwargs)
        self._update(importer)
        try:
            return self._import(*args, **kwargs)
        finally:
            self._update(module)

    def _update(self, module: str) -> None:
        """Note new threads as those of a module: the one that imports before, the imported one after an import."""
        for task in self._tasks(_TASKS):
            self._found.setdefault(int(task), module)

    def _losing(self) -> Iterator[tuple[str, str]]:
        for task, module in self._found.items():
            try:
                name = Path(_TASKS, str(task), "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            if task != os.getpid() and name not in SURVIVE_A_FORK:
                yield name, module


def _asked_for(
    name: Any = "",
    globals: Any = None,  # noqa: A002 (its name in a call)
    _locals: Any = None,
    fromlist: Any = (),
    level: Any = 0,
    **_others: Any,
) -> tuple[str, str, bool]:
    """Who imports what, and whether it is loaded already; what is wrong with a name, the import itself raises."""
    scope = globals if type(globals) is dict else {}
    importer, package = scope.get("__name__"), scope.get("__package__")
    module = str(name)
    if type(level) is int and level > 0 and type(package) is str:
        with suppress(ImportError, ValueError):
            module = resolve_name("." * level + module, package)
    if str(importer).partition(".")[0] in _OURS:
        importer = None  # it was there before ours went on
    return str(importer or "the model"), module, module in sys.modules and not fromlist


def _forks_once() -> bool:
    child = os.fork()
    if not child:
        os._exit(0)
    end_s = time.monotonic() + TRIAL_S
    while time.monotonic() < end_s:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
