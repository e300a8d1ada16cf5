"""The driver's side of importing a model to see what it is, which this process never does itself.

Owns the process that runs `sandbox.look`, its deadline, and which of its output people see: on stderr, bounded.
"""

from __future__ import annotations

import codecs
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import IO, Self

from modelops_ray.errors import ModelError, one_line
from modelops_ray.sandbox import protocol, wire
from modelops_ray.sandbox.boot import LOADING_WITHIN_S, THREAD_LIMITS, command, last_line
from modelops_ray.sandbox.loading import MAX_MESSAGE, ModelRef, workdir_of
from modelops_ray.sandbox.pidfd import open_process, signal_name
from modelops_ray.sandbox.protocol import GarbledError, LookAt, Looked, LookEnded, read_report
from modelops_ray.sandbox.reading import states_of

SHOWN_CHARACTERS = 64 * 1024
READ_BYTES = 64 * 1024
LAST_BYTES = 1000
ENDING_S = 10.0
LAST_WORDS_S = 1.0


class Look:
    """A process that imports a model, beside this one; leaving the context ends all that it started."""

    def __init__(self, ref: ModelRef, *, measure: bool = False, within_s: float = LOADING_WITHIN_S) -> None:
        """Begin to import, for up to `within_s`; `measure` also finds what loading takes, in some milliseconds."""
        self._ref, self._within_s = ref, within_s
        self._words = _Words()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(ref, theirs.fileno())
        except OSError as error:
            ours.close()
            raise ModelError(f"model {ref.label}: {ref.interpreter} cannot be started: {error.strerror}") from error
        self._channel = ours
        asked = LookAt(ref.to_json(), workdir_of(ref), within_s, measure)
        # A process that has ended already is noticed when its answer is read.
        with suppress(OSError):
            protocol.send(ours, asked)

    def __enter__(self) -> Self:
        return self

    @property
    def pid(self) -> int:
        """The process that waits for the one that imports."""
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        if not _ends(self._process.pid, ENDING_S):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        _said(self._process).close()

    def result(self) -> Looked:
        """Wait until it is over; what the model prints meanwhile goes to stderr.

        ModelError where it cannot be imported or called, or not in time.
        """
        answer = self._answer()
        label = self._ref.label
        if answer is None:
            ended = f"{self._ref.interpreter} ended before it began{self._words.last}"
            raise ModelError(f"model {label} cannot be looked at: {ended}")
        with suppress(GarbledError):
            report = read_report(b"".join(answer.blobs))
            if isinstance(report, Looked):
                return report
            raise ModelError(one_line(_shown(report.why), 2 * MAX_MESSAGE))
        code, timed_out, place = LookEnded(*answer.header["LookEnded"])
        place = place and f" ({place})"
        if timed_out:
            raise ModelError(f"model {label} was not imported within {self._within_s:g} s{place}")
        ended = f"ended Python with exit code {code}" if code >= 0 else f"was ended by {signal_name(-code)}"
        raise ModelError(f"model {label} does not import: it {ended} while it was imported{place or self._words.last}")

    def _answer(self) -> wire.Message | None:
        """The last message of the process, None where it ends without one."""
        said = _said(self._process)
        answer, end_s = None, time.monotonic() + self._within_s + ENDING_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(said, selectors.EVENT_READ)
            while selector.get_map() and (left_s := end_s - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    if key.fileobj is said:
                        if not self._words.hear(said):
                            selector.unregister(said)
                        continue
                    self._channel.settimeout(ENDING_S)
                    with suppress(ValueError, OSError):
                        answer = wire.receive(self._channel)
                    selector.unregister(self._channel)
                    # Every process that could print has ended: what they printed is there to be read.
                    end_s = time.monotonic() + LAST_WORDS_S
        self._words.end()
        return answer


def look_at(ref: ModelRef) -> ModelRef:
    """Import a model once, in a process made for it, and return it with what was seen; ModelError where that fails."""
    return ref if ref.shared is not None else _seen(ref, measure=False)[0]


def measured(ref: ModelRef) -> tuple[ModelRef, int]:
    """As `look_at`, with the memory in bytes that importing the model and what it imports adds to a bare process."""
    return _seen(ref, measure=True)


def _seen(ref: ModelRef, *, measure: bool) -> tuple[ModelRef, int]:
    with Look(ref, measure=measure) as look:
        looked = look.result()
    seen = replace(ref, shared=looked.shared, imported=states_of(looked.read, ref.folder))
    if looked.again and ref.shared is None:
        return _seen(replace(seen, imported=()), measure=measure)
    return seen, looked.loading_bytes


def _start(ref: ModelRef, channel_fd: int) -> subprocess.Popen[bytes]:
    surroundings = os.environ | dict.fromkeys(THREAD_LIMITS, "1")
    return subprocess.Popen(  # noqa: S603 (ourselves)
        command("look", str(channel_fd), python=ref.interpreter), pass_fds=(channel_fd,), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True, env=surroundings,
    )  # fmt: skip


def _said(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    return process.stdout


def _ends(pid: int, within_s: float) -> bool:
    pidfd = open_process(pid)
    try:
        ending = select.poll()
        ending.register(pidfd)
        return bool(ending.poll(1000 * within_s))
    finally:
        os.close(pidfd)


class _Words:
    """What a model prints while it is imported: shown as it comes, up to a bound; lost where stderr fails."""

    def __init__(self) -> None:
        self._decode: Callable[..., str] = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._n_shown = 0
        self._end = b""

    @property
    def last(self) -> str:
        """The last line, to go at the end of a sentence; empty if there is none."""
        return last_line(_shown(self._end.decode(errors="replace")))

    def hear(self, said: IO[bytes]) -> bool:
        """Read what was printed; False once no more can come."""
        data = os.read(said.fileno(), READ_BYTES)
        self._end = (self._end + data)[-LAST_BYTES:]
        if self._n_shown < SHOWN_CHARACTERS:
            self._show(self._decode(data))
        return bool(data)

    def end(self) -> None:
        """Show what is left of a character that was cut off."""
        self._show(self._decode(b"", True))

    def _show(self, text: str) -> None:
        shown = _shown(text)[: SHOWN_CHARACTERS - self._n_shown]
        self._n_shown += len(shown)
        # A terminal that fails does not change the outcome.
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(shown)


def _shown(text: str) -> str:
    """Replace what moves the cursor or cannot be encoded."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"} else "\N{REPLACEMENT CHARACTER}"
        for c in text.replace("\r", "\n")
    )
