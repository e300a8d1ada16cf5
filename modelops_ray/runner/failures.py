"""From the exception of a simulation to a failure that a modeller understands.

Owns causes, messages and tracebacks. Does not decide whether to try again: the core does.
"""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from modelops_ray.core.report import Cause, Failure
from modelops_ray.runner.guard import TimeUpError
from modelops_ray.runner.tables import BadOutputError

MAX_MESSAGE_CHARS = 4096
MAX_TRACEBACK_CHARS = 16 * 1024
_OWN_FILES = str(Path(__file__).parent)


def failure_of(error: BaseException, position: int, timeout_s: float) -> Failure:
    """Name the cause of what a simulation raised; only the model's own frames are shown."""
    if isinstance(error, TimeUpError):
        message = f"it took longer than {timeout_s:g} s; raise --timeout, or 0 for no limit"
        return Failure(position, Cause.TIMEOUT, "Timeout", message)
    if isinstance(error, BadOutputError):
        return Failure(position, Cause.BAD_OUTPUT, "BadOutput", bounded_message(str(error)))
    shown = traceback.TracebackException(type(error), error, _model_frames(error.__traceback__))
    cause = Cause.OUT_OF_MEMORY if isinstance(error, MemoryError) else Cause.MODEL_ERROR
    failure = Failure(position, cause, type(error).__name__, bounded_message(str(shown)))
    return replace(failure, traceback=bounded_traceback("".join(shown.format())))


def _model_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    return frames


def bounded_message(text: str) -> str:
    """Keep the beginning of a message."""
    text = _storable(text)
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 2] + " …"


def bounded_traceback(text: str | None) -> str | None:
    """Keep the end, where the exception itself stands."""
    text = _storable(text or "")
    return (text if len(text) <= MAX_TRACEBACK_CHARS else "… " + text[2 - MAX_TRACEBACK_CHARS :]) or None


def _storable(text: str) -> str:
    """Write what UTF-8 cannot hold as escapes: a message may quote a broken file name."""
    return text.encode("utf-8", "backslashreplace").decode()
