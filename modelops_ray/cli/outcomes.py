"""Errors to one line on stderr and their exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click

from modelops_ray.errors import NO_WORKING_FOLDER, ModelopsRayError
from modelops_ray.report.screen import steady_streams, to_stderr
from modelops_ray.report.text import one_line

EXIT_FAILURES = 3
EXIT_INTERRUPTED = 130
MOST_CHARS = 500
DEBUGGING = "modelops_ray.debugging"


class Commands(click.Group):
    """Turns errors into one line on stderr and their exit code; with --debug the traceback of ours shows."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> Any:
        """Do all of it with streams whose failures end nothing."""
        if args is None:
            # This is the process of a command: a fault of this program is one line as well.
            sys.excepthook = _say_fault
            _heed_sigterm()
        try:
            with steady_streams():
                return super().main(args, *more, **settings)
        finally:
            if args is None:
                _leave_stdout()

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments before the command."""
        with _one_line(lambda: False):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _one_line(lambda: bool(ctx.meta.get(DEBUGGING))):
            return super().invoke(ctx)


def _heed_sigterm() -> None:
    """Have SIGTERM end a command as Ctrl-C does, also while Ray starts or stops: in one line, after cleaning up."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _leave_stdout() -> None:
    """Have what a model prints when Python ends go to stderr: all is said, and stdout may carry the one JSON object."""
    with suppress(OSError):
        os.dup2(2, 1)


@contextmanager
def _one_line(is_debugging: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        command = error.ctx.command_path if error.ctx is not None else "modelops-ray"
        end(f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code)
    except ModelopsRayError as error:
        if is_debugging():
            raise
        end(str(error), error.exit_code)
    except OSError as error:
        if is_debugging():
            raise
        end(_of_the_system(error), 1)
    except KeyboardInterrupt:
        end("interrupted; run the same command to go on", EXIT_INTERRUPTED)


def _of_the_system(error: OSError) -> str:
    """Say what the system refused; where it is a relative path, the folder it is relative to may be gone."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return f"{NO_WORKING_FOLDER}, or give whole paths"
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}; give another path, or make this one usable"


def _say_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that an exception came which nothing here handles; Python ends with 1 after it."""
    place = traceback.extract_tb(trace)[-1]
    where = f"{Path(place.filename).name} line {place.lineno}"
    what = f"{kind.__name__}: {one_line(str(error), MOST_CHARS)} ({where})"
    say(f"unexpected {what}; --debug shows the traceback, what was committed is intact")


def end(message: str, code: int) -> NoReturn:
    """Say one line on stderr and leave with an exit code."""
    say(message)
    raise click.exceptions.Exit(code)


def say(message: str) -> None:
    """Say one line on stderr."""
    to_stderr().say(f"modelops-ray: {message}")
