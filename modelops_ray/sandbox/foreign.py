"""Code of a model's author that runs outside of a simulation: imports, `__reduce__`, lazy tables.

Owns the one place where every exception is caught, since such code can raise anything, the end of processes that it
forked, and the way back to the working folder. What a simulation raises is that simulation's failure, and is caught
where it runs.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from .held import held

_T = TypeVar("_T")


@contextmanager
def authors_code(
    reworded: Callable[[BaseException], Exception], passing: tuple[type[BaseException], ...] = ()
) -> Iterator[None]:
    """Run an author's code, and raise what `reworded` makes of its exceptions; `passing` are raised as they are."""
    try:
        yield
    except passing:
        raise
    except (Exception, SystemExit) as error:
        raise reworded(error) from error


class _RaisedError(Exception):
    """An author's code raised something."""


def tried(code: Callable[[], _T], otherwise: _T) -> _T:
    """Return what an author's code returns, or `otherwise` where it raises."""
    with suppress(_RaisedError), authors_code(_RaisedError):
        return code()
    return otherwise


class ProcessEnds:
    """Around all that is left for this process to do: it ends with the block, also where that raises.

    What was raised is printed then, and `code` the exit code. Nothing that was forked goes on as a copy of its parent.
    """

    def __init__(self, code: int) -> None:
        self._code = code

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, _kind: object, error: BaseException | None, _frames: object) -> None:
        try:
            if error is not None:
                traceback.print_exception(type(error), error, error.__traceback__)
        finally:
            held.exit(0 if error is None else self._code)


class ForksEnded:
    """Around an author's code: a process that the code forked and that comes out of the block ends there.

    It has a copy of all that this process holds, and would go on with the run.
    """

    __slots__ = ("_pid",)

    def __enter__(self) -> None:
        self._pid = held.pid()

    def __exit__(self, _kind: object, error: BaseException | None, _frames: object) -> None:
        if held.pid() != self._pid:
            held.end_fork(error)


@contextmanager
def working_folder_kept() -> Iterator[None]:
    """Come back to the working folder at the end: relative paths that a user gave begin there."""
    before = working_folder()
    try:
        yield
    finally:
        back_to(before)


def working_folder() -> str:
    """Where this process is; empty where that has been removed, or must not be known."""
    with suppress(OSError):
        return os.getcwd()  # noqa: PTH109 (a string costs less, once per simulation)
    return ""


def back_to(folder: str) -> None:
    """Make it the working folder again, where that can be."""
    with suppress(OSError):
        os.chdir(folder)
