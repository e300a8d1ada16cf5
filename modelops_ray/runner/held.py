"""Functions of Python that ours must be able to rely on while a model patches them, held where no patch reaches.

Packages that freeze time replace every attribute of every module that is one of these functions; what is a member of an
object of ours stays. It is made when ours is imported, before any model. Standard library only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn


class _Held:
    """What a child does around every simulation; `monotonic_s` and `perf_s` read the clock, in seconds."""

    __slots__ = ("dumps", "exit", "loads", "monotonic_s", "perf_s", "pid")

    def __init__(self) -> None:
        self.monotonic_s: Callable[[], float] = time.monotonic
        self.perf_s: Callable[[], float] = time.perf_counter
        self.pid: Callable[[], int] = os.getpid
        self.exit: Callable[[int], NoReturn] = os._exit
        self.dumps: Callable[[Any], str] = json.JSONEncoder().encode
        self.loads: Callable[[bytes | str], Any] = json.loads

    def end_fork(self, error: BaseException | None) -> NoReturn:
        """End a process that the model forked and that came back to ours, as Python would have ended it."""
        code = 0 if error is None else getattr(error, "code", None) if issubclass(type(error), SystemExit) else 1
        self.exit(code & 0xFF if type(code) is int else 0 if code is None else 1)


held = _Held()
