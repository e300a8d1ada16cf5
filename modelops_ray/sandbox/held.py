"""Functions of Python that our code needs as they are while a model patches them, held where no patch reaches.

Packages that freeze time replace these functions in every module that has them as attributes; attributes of an object
stay. The object `held` is made when this module is imported, before any model is. Standard library only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn


class _Held:
    """What is called around every simulation; `monotonic_s`, `perf_s` and `unix_s` read a clock, in seconds."""

    __slots__ = ("dumps", "exit", "loads", "monotonic_s", "perf_s", "pid", "sleep_s", "unix_s")

    def __init__(self) -> None:
        self.monotonic_s: Callable[[], float] = time.monotonic
        self.perf_s: Callable[[], float] = time.perf_counter
        self.unix_s: Callable[[], float] = time.time
        self.sleep_s: Callable[[float], None] = time.sleep
        self.pid: Callable[[], int] = os.getpid
        self.exit: Callable[[int], NoReturn] = os._exit
        self.dumps: Callable[[Any], str] = json.JSONEncoder().encode
        self.loads: Callable[[bytes | str], Any] = json.loads

    def end_fork(self, error: BaseException | None) -> NoReturn:
        """End a process that the model forked and that returned to our code, with the code Python would have given."""
        code = 0 if error is None else getattr(error, "code", None) if issubclass(type(error), SystemExit) else 1
        self.exit(code & 0xFF if type(code) is int else 0 if code is None else 1)


held = _Held()
