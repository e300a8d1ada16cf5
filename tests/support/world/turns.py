"""Virtual time, and the processes that live in it: one thread, one at a time, in an order that a seed decides.

Owns the clock, whose turn it is, and how a process is killed or stopped. Knows nothing of what they do.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from greenlet import getcurrent, greenlet


class DiedError(BaseException):
    """What a process sees of its own SIGKILL: nothing, so no handler of the program may catch it."""


class EndlessError(AssertionError):
    """The world went on for longer than anything in it may take."""


@dataclass(eq=False)
class Process:
    """A process of the world. `skew_s` is how far the clock of its machine is ahead."""

    name: str
    work: Callable[[Process], None]
    skew_s: float = 0.0
    is_dead: bool = False
    is_over: bool = False
    error: BaseException | None = None
    stopped_until_s: float = 0.0
    thread: greenlet = field(init=False)

    def __post_init__(self) -> None:
        """Prepare it; it runs once its turn comes."""
        self.thread = greenlet(self._run)

    def _run(self) -> None:
        try:
            self.work(self)
        except DiedError:
            self.is_dead = True
        except BaseException as error:  # noqa: BLE001 (the world looks at it)
            self.error = error
        finally:
            self.is_over = True


class Turns:
    """Gives turns in the order of virtual time; what happens at the same time happens in the order it was asked for."""

    def __init__(self) -> None:
        """Begin at 0 s."""
        self.now_s = 0.0
        self.here: Process | None = None
        self._serial = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time_s: float, what: Callable[[], None]) -> None:
        """Let something happen at a virtual time."""
        self._serial += 1
        heapq.heappush(self._agenda, (max(time_s, self.now_s), self._serial, what))

    def start(self, process: Process) -> Process:
        """Let a process begin at this moment."""
        self.at(self.now_s, lambda: self._go(process))
        return process

    def sleep(self, seconds: float) -> None:
        """Let the process whose turn it is wait; without one, time passes for all."""
        self.require_alive()
        process = self.here
        if process is None:
            self.run(until_s=self.now_s + seconds)
            return
        self.at(self.now_s + seconds, lambda: self._go(process))
        self._back(process)

    def require_alive(self) -> None:
        """End the process whose turn it is where it has been killed: nothing that it does from then on happens."""
        if self.here is not None and self.here.is_dead:
            raise DiedError(self.here.name)

    def kill(self, process: Process) -> None:
        """End a process where it is; the one whose turn it is ends at once."""
        if process.is_over or process.is_dead:
            return
        process.is_dead = True
        if process is self.here:
            raise DiedError(process.name)
        if not process.thread:
            process.is_over = True
            return
        before, self.here = self.here, process
        process.thread.parent = getcurrent()
        try:
            process.thread.throw(DiedError, DiedError(process.name))
        finally:
            self.here = before
        process.is_over = True

    def stop(self, process: Process, seconds: float) -> None:
        """Give a process no turn for some seconds, as SIGSTOP does."""
        process.stopped_until_s = self.now_s + seconds

    def run(self, *, until_s: float = float("inf"), is_over: Callable[[], bool] = lambda: False) -> None:
        """Give turns until something is so, or a time has come, or nothing is left to happen."""
        while self._agenda and not is_over():
            if self._agenda[0][0] > until_s:
                break
            time_s, _, what = heapq.heappop(self._agenda)
            self.now_s = max(self.now_s, time_s)
            what()
        if until_s != float("inf"):
            self.now_s = max(self.now_s, until_s)

    def _go(self, process: Process) -> None:
        if process.is_over:
            return
        if process.stopped_until_s > self.now_s:
            self.at(process.stopped_until_s, lambda: self._go(process))
            return
        process.thread.parent = getcurrent()
        self.here = process
        try:
            process.thread.switch()
        finally:
            self.here = None

    def _back(self, process: Process) -> None:
        process.thread.parent.switch()
        self.require_alive()
