"""The time limit of a simulation, and who interrupted it.

Owns this process's signal handlers while a chunk runs, and puts them back. Works in the main thread only, where
signals arrive; elsewhere nothing is limited. A limit takes effect between two Python instructions: code that stays in
C is not interrupted before it returns.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self, TypeVar

from modelops_ray.sandbox.held import held

_T = TypeVar("_T")
_Handler = Callable[[int, FrameType | None], object] | int | None


class TimeUpError(BaseException):
    """A simulation took longer than it may; no `Exception`, so that a model does not take it for its own."""


class Guard:
    """Runs simulations one at a time under a limit of `timeout_s` seconds each; 0 is none.

    `interrupted` tells whether this process was asked to end, so that an exception may not be the model's own.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self._fired = False
        self._previous: dict[int, _Handler] = {}
        self.interrupted = False

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM) if self._in_main_thread else ():
            previous = signal.getsignal(number)
            if callable(previous):
                self._previous[number] = signal.signal(number, self._remember(previous))
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def call(self, work: Callable[[], _T]) -> _T:
        """Run `work` and return what it returns; TimeUpError where it took too long, even if that was caught."""
        if not self._in_main_thread or not self._timeout_s:
            return work()
        started_s = held.monotonic_s()
        self._fired = False
        handler = signal.signal(signal.SIGALRM, self._on_alarm)
        timer = signal.setitimer(signal.ITIMER_REAL, self._timeout_s)
        try:
            try:
                result = work()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            _put_back(handler, timer, held.monotonic_s() - started_s)
        if self._fired:
            raise TimeUpError
        return result

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        self._fired = True
        raise TimeUpError

    def _remember(self, previous: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
        pid = held.pid()

        def handler(number: int, frame: FrameType | None) -> None:
            if held.pid() != pid:
                # A process that the model forked: it ends, as those that wait for it expect.
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
                return
            self.interrupted = True
            previous(number, frame)

        return handler


def _put_back(handler: _Handler, timer: tuple[float, float], elapsed_s: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
    remaining_s, interval_s = timer
    if remaining_s:
        signal.setitimer(signal.ITIMER_REAL, max(0.001, remaining_s - elapsed_s), interval_s)
