"""Which module started the threads that a fork would lose.

Owns looking at this process's threads while a model is imported. Runs in the model's interpreter.
"""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

# Of pyarrow's allocator, which restarts it in the child.
SURVIVE_A_FORK = frozenset({"jemalloc_bg_thd"})
# OpenBLAS stops its pool before a fork and starts it again when it is needed; its threads have no name of their own.
SURVIVE_IN = frozenset({"numpy", "scipy"})
_TASKS = Path("/proc/self/task")


class ThreadTracker:
    """While it is open, remembers after which import each thread was there for the first time."""

    def __init__(self) -> None:
        self._import = builtins.__import__
        self._found: dict[int, str] = {}
        self._n_before = len(os.listdir(_TASKS))  # noqa: PTH208 (twice as fast, once per import)

    def __enter__(self) -> ThreadTracker:  # noqa: PYI034 (Self is of Python 3.11)
        self._look("the interpreter")
        builtins.__import__ = self._importing
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import
        self._look("the model")

    @property
    def unsafe(self) -> list[str]:
        """The names of the threads that are still there and that a fork would lose."""
        return sorted({name for name, _ in self._unsafe()})

    @property
    def culprit(self) -> str:
        """The module whose import started the first of them."""
        return self._unsafe()[0][1]

    def _importing(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        found = self._import(name, *arguments, **keywords)
        if len(os.listdir(_TASKS)) != self._n_before:  # noqa: PTH208
            self._look(name)
        return found

    def _look(self, module: str) -> None:
        tasks = [int(task) for task in os.listdir(_TASKS)]  # noqa: PTH208
        self._n_before = len(tasks)
        for task in tasks:
            self._found.setdefault(task, module)

    def _unsafe(self) -> list[tuple[str, str]]:
        threads = []
        for task, module in self._found.items():
            comm = _TASKS / str(task) / "comm"
            if task == os.getpid() or not comm.exists():
                continue
            name = comm.read_text().strip()
            if name not in SURVIVE_A_FORK and module.partition(".")[0] not in SURVIVE_IN:
                threads.append((name, module))
        return threads
