"""Where everything printed goes through: text of others is made safe here, and a stream that fails ends nothing.

Owns stdout and stderr as this program uses them. Does not decide exit codes, but for commands whose task is to print.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, cast

from rich.console import Console, ConsoleDimensions
from rich.text import Text

from modelops_ray.errors import StorageError
from modelops_ray.report.text import printable

WIDTHS = (40, 2000)
"""The narrowest and the widest terminal that is believed, in characters."""


class Steady:
    """A text stream whose writing never raises; the first failure is kept.

    What the stream's encoding lacks is written as an escape. A stream that is closed takes nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Write to this stream; None is one that was closed before this process began."""
        self._stream = stream
        self.failure: OSError | None = OSError(errno.EBADF, "it is closed") if stream is None else None
        self.is_told = False

    def __getattr__(self, name: str) -> Any:
        """Be the stream in all else."""
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:
        """The encoding of the stream; UTF-8 where it names none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def is_broken(self) -> bool:
        """Whether the reader of a pipe has gone, or the stream is closed."""
        return self.failure is not None and self.failure.errno in {errno.EPIPE, errno.EBADF}

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def write(self, text: str) -> int:
        """Write text, as far as the stream takes it."""
        if self._stream is not None and not self.is_broken:
            with self._noting():
                self._stream.write(encodable(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Hand over what is held, as far as the stream takes it."""
        if self._stream is not None and not self.is_broken:
            with self._noting():
                self._stream.flush()

    def let_go(self) -> None:
        """Let a stream that failed lead to /dev/null, or what it still holds would fail once more when Python ends."""
        self.flush()
        if self.failure is None or self._stream is None:
            return
        # A stream of a test, or of a notebook, has no descriptor.
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
        except ValueError:  # what Python says of a file that is closed
            self.failure = self.failure or OSError(errno.EBADF, "it is closed")


def encodable(text: str, encoding: str) -> str:
    """Write what an encoding lacks as escapes; "…", which this program writes itself, as three dots."""
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("…", "...").encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:  # an encoding that Python does not know
        return text.encode("ascii", "backslashreplace").decode()
    return text


class Screen(Console):
    """A console on which no text is taken for markup, and none reaches the terminal as a control sequence."""

    def __init__(self, file: IO[str] | Steady, **settings: Any) -> None:
        """Print to a stream; `settings` are those of rich's console."""
        self.steady = file if isinstance(file, Steady) else Steady(cast("TextIO", file))
        plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        super().__init__(file=cast("IO[str]", self.steady), _environ=_believable(os.environ), **plain, **settings)

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Width and height in characters."""
        found = super().size
        narrowest, widest = WIDTHS
        return ConsoleDimensions(min(max(found.width, narrowest), widest), max(found.height, 1))

    def render_str(self, text: str, **settings: Any) -> Text:
        """Make what rich prints of a text: every one, and every cell of a table, comes through here."""
        return super().render_str(self.plain(text), **settings)

    def plain(self, text: str) -> str:
        """Write any text as it is shown here: one line, nothing that a terminal obeys or the encoding lacks."""
        return encodable(printable(text), self.steady.encoding)

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print one line, however long."""
        self.print(text, style=style, soft_wrap=True)

    def json(self, values: object) -> None:
        """Print a JSON object as one line, in ASCII."""
        self.verbatim(json.dumps(values) + "\n")

    def verbatim(self, text: str) -> None:
        """Print text as it is, for a program to read."""
        self.steady.write(text)
        self.steady.flush()


def _believable(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out `COLUMNS` and `LINES` of the environment where they are not whole numbers from 1."""
    sizes = {name: value for name, value in environ.items() if name in {"COLUMNS", "LINES"}}
    wrong = {name for name, value in sizes.items() if not re.fullmatch("[1-9][0-9]{0,5}", value)}
    return {name: value for name, value in environ.items() if name not in wrong}


def to_stdout() -> Screen:
    """What people, or a program, asked for."""
    return Screen(_steady(sys.stdout))


def to_stderr() -> Screen:
    """What is said beside it."""
    return Screen(_steady(sys.stderr))


def _steady(stream: object) -> Steady:
    return stream if isinstance(stream, Steady) else Steady(cast("TextIO | None", stream))


@contextmanager
def telling() -> Iterator[Screen]:
    """Print what is all that a command was asked for; StorageError if stdout takes nothing.

    A reader that has gone has read what it wanted, and changes nothing: `is_broken` says so.
    """
    screen = to_stdout()
    yield screen
    screen.steady.flush()
    failure = screen.steady.failure
    if failure is None or failure.errno == errno.EPIPE:
        return
    screen.steady.is_told = True
    raise StorageError(f"stdout: {failure.strerror or failure}; give a place that takes what is printed")


@contextmanager
def steady_streams() -> Iterator[None]:
    """Let no print of this process fail; what failed on stdout is said at the end on stderr."""
    _fill_gaps()
    before = sys.stdout, sys.stderr
    out, err = _steady(before[0]), _steady(before[1])
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", err)
    try:
        yield
    finally:
        out.let_go()
        if out.failure is not None and not out.is_broken and not out.is_told:
            err.write(f"modelops-ray: stdout: {out.failure.strerror}; what was to be printed there is lost\n")
        err.let_go()
        sys.stdout, sys.stderr = before


def _fill_gaps() -> None:
    """Take the numbers of standard streams that are closed, or a file of a run would get one and what is printed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            with suppress(OSError):
                # The lowest number that is free is this one.
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
