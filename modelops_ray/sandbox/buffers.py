"""What a model's files keep in memory of what was written to them, and writing it out.

Owns finding such files once, after the import. A fork has a copy of every buffer, and its processes end without
Python's own end: what an import wrote is written out before the first fork, what a simulation wrote before its answer
is sent. Standard library only.
"""

from __future__ import annotations

import _io
import ctypes
import gc
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from .foreign import tried

_fflush = ctypes.CDLL(None).fflush


class Buffers:
    """The files that are open for writing in this process now, and `others` that are to be treated alike."""

    def __init__(self, others: Iterable[Any] = (), *, any_open: bool = False) -> None:
        """Look for files where there are any."""
        self._files = [*(_written() if any_open else ()), *others]

    def flush(self) -> None:
        """Write out what they hold; a file that takes nothing any more is its model's affair."""
        for file in self._files:
            _flush(file)


def flush_c() -> None:
    """Write out what C code has printed or written."""
    _fflush(None)


def flush_standard() -> None:
    """Have what was printed arrive; the streams are the model's to replace, close and delete."""
    for name in ("stdout", "stderr"):
        _flush(getattr(sys, name, None))
    flush_c()


def _flush(file: Any) -> None:
    tried(lambda: file.flush(), None)  # noqa: PLW0108 (finding `flush` may raise, too)


def _written() -> list[Any]:
    files = [one for one in gc.get_objects() if issubclass(type(one), _io._IOBase)]  # noqa: SLF001 (of C: no `__class__` is asked)
    return [one for one in files if tried(partial(_is_written, one), otherwise=False)]


def _is_written(file: Any) -> bool:
    return not file.closed and bool(file.writable())
