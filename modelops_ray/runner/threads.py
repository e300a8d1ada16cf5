"""Which module started the threads that a fork would lose.

Owns looking at this process's threads while a model is imported. Runs in the model's interpreter.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import time
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of pyarrow's allocator, which starts it again in the child.
SURVIVE_A_FORK = frozenset({"jemalloc_bg_thd"})
TRIAL_S = 5.0
_TASKS = Path("/proc/self/task")


class ThreadTracker:
    """While it is open, remembers during which import each thread was there for the first time."""

    def __init__(self) -> None:
        self._import = builtins.__import__
        self._found: dict[int, str] = {}

    def __enter__(self) -> ThreadTracker:  # noqa: PYI034 (Self is of Python 3.11)
        self._look("the interpreter")
        builtins.__import__ = self._imported  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import
        self._look("the model")

    def why_not_fork(self) -> str:
        """Name the module that started threads which a fork would lose; empty where nothing would be lost.

        OpenBLAS, for one, stops its threads before a fork and starts them again when it needs them. To know which do
        that, this process forks once.
        """
        if any(self._losing()) and not _forks_once():
            return "a fork of the model hangs"
        losing = list(self._losing())
        if not losing:
            return ""
        module = losing[0][1]
        threads = sorted({thread for thread, starter in losing if starter == module})
        return f"importing {module} starts threads ({', '.join(threads)})"

    def _imported(self, name: str, scope: Any = None, _locals: Any = None, names: Any = (), level: int = 0) -> Any:
        importer = (scope or {}).get("__name__", "the model")
        module = _absolute(name, scope, level)
        if module in sys.modules and not names:
            return self._import(name, scope, _locals, names, level)
        self._look(importer)
        try:
            return self._import(name, scope, _locals, names, level)
        finally:
            self._look(module)

    def _look(self, module: str) -> None:
        """Note new threads as those of a module: the one that imports before, the imported one after an import."""
        for task in os.listdir(_TASKS):  # noqa: PTH208 (twice as fast, twice per import)
            self._found.setdefault(int(task), module)

    def _losing(self) -> Iterator[tuple[str, str]]:
        for task, module in self._found.items():
            try:
                name = (_TASKS / str(task) / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            if task != os.getpid() and name not in SURVIVE_A_FORK:
                yield name, module


def _absolute(name: str, scope: Any, level: int) -> str:
    package = (scope or {}).get("__package__")
    return resolve_name("." * level + name, package) if level and package else name


def _forks_once() -> bool:
    """Fork a process that ends at once, and say whether it did."""
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
