"""An exception of a simulation, as bounded text that can be kept: the same at every level of isolation.

Owns the bounds of that text, and which frames are shown. Names no causes. Runs in the model's interpreter.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from .foreign import tried

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

MAX_TYPE_CHARS = 200
MAX_MESSAGE_CHARS = 4096
MAX_TRACEBACK_CHARS = 16 * 1024
KINDS = frozenset({"bad_output", "out_of_memory", "model_error"})
"""The kinds of exceptions of a simulation."""
_OWN_FILES = tuple(str(Path(__file__).parents[1] / room) for room in ("sandbox", "runner"))
_UNSPEAKABLE = "what it says cannot be shown"
_name_of = type.__dict__["__name__"].__get__


class Told(NamedTuple):
    """What is told of an exception; `kind` is one of `KINDS`, the texts are bounded and valid UTF-8."""

    kind: str
    type: str
    message: str
    traceback: Optional[str]  # noqa: UP045 (Python 3.9 reads it)


def told_of(error: BaseException, where_it_returns: Callable[[], str] = str) -> Told:
    """Describe what a simulation raised, without our own frames that led to the model.

    `where_it_returns` is the line of the model that returned what cannot be read.
    """
    from .outputs import BadOutputError

    # `isinstance` would ask the exception for its class, and may be told anything.
    if issubclass(type(error), BadOutputError):
        return Told("bad_output", "BadOutput", bounded_message(str(error)), where_it_returns() or None)
    # The class may be asked safely; the text is made by code of the author's, which may do anything.
    name = type_of(error)
    kind = "out_of_memory" if issubclass(type(error), MemoryError) else "model_error"
    message, trace = tried(lambda: _shown(error), (_UNSPEAKABLE, ""))
    return Told(kind, name, bounded_message(message), bounded_traceback(trace))


def type_of(error: BaseException) -> str:
    """The bounded name of the class of an exception."""
    return _beginning(_name_of(type(error)), MAX_TYPE_CHARS)


def message_of(error: BaseException) -> str:
    """The bounded message of an exception, whose class is the author's and may raise when it is asked."""
    return tried(lambda: bounded_message(str(error)), _UNSPEAKABLE)


def _shown(error: BaseException) -> tuple[str, str]:
    shown = traceback.TracebackException(type(error), error, model_frames(error.__traceback__))
    return str(shown), "".join(shown.format())


def model_frames(frames: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of ours that led to the model."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    return frames


def bounded_message(text: str) -> str:
    """Keep the beginning of a message."""
    return _beginning(text, MAX_MESSAGE_CHARS)


def bounded_traceback(text: str | None, most_chars: int = MAX_TRACEBACK_CHARS) -> str | None:
    """Keep the end, where the exception itself stands."""
    kept = storable(str.__str__(text or "")[-most_chars - 1 :])
    return (kept if len(kept) <= most_chars else "… " + kept[2 - most_chars :]) or None


def _beginning(text: str, n_characters: int) -> str:
    kept = storable(str.__str__(text)[: n_characters + 1])
    return kept if len(kept) <= n_characters else kept[: n_characters - 2] + " …"


def storable(text: str) -> str:
    """Replace what UTF-8 cannot hold by escapes: a message may quote a broken file name."""
    return str.encode(text, "utf-8", "backslashreplace").decode()
