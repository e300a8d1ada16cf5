"""What a supervisor knows of one child that is lent to it: what it was given, what it sent and printed, and when.

Owns the child's channels while it is lent. What a child sends is foreign: it is never waited for, and what is no answer
ends that child. Who runs what is `supervisor`'s business.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from modelops_ray.runner.forkserver_client import Connection, LentChild
from modelops_ray.runner.sharing import Served
from modelops_ray.sandbox import wire
from modelops_ray.sandbox.board import RESTING
from modelops_ray.sandbox.limits import Limit
from modelops_ray.sandbox.measure import resident_parts
from modelops_ray.sandbox.printing import Printed
from modelops_ray.sandbox.protocol import MAX_ANSWER_HEADER_BYTES, Arm, Kill, Work, work_bytes
from modelops_ray.study.chunk import Simulation

GARBLED = "it sent what is no answer"
READ_BYTES = 2**16
MAX_PIPE_BYTES = 2**20
"""What a pipe holds at most, unless root has allowed for more."""


@dataclass(eq=False)
class Borrowed:
    """A child that was lent, and what it was given: answers come in that order.

    `asked_s` is when it was asked for, `read` what it has read so far. `garbled` says what was wrong with what it sent,
    if anything, and `suspects` are the simulations that may have sent it.
    """

    lent: LentChild
    asked_s: float
    connection: Connection
    selector: selectors.BaseSelector
    is_ready: bool = field(init=False)
    incoming: wire.Incoming = field(init=False)
    base_bytes: int = field(init=False)
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    garbled: str = ""
    suspects: list[Simulation] = field(default_factory=list)
    served: Served = field(default_factory=Served)
    given: list[Simulation] = field(default_factory=list)
    n_answered: int = 0
    since_s: float = 0.0
    is_late: bool = False
    printed: Printed = field(default_factory=Printed)
    read: dict[tuple[str, str], None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Listen to what it sends and prints."""
        self.is_ready = self.lent.is_ready
        self.incoming = wire.Incoming(self.lent.channel, MAX_ANSWER_HEADER_BYTES)
        self.base_bytes = resident_parts(self.lent.pid).made_bytes
        os.set_blocking(self.lent.capture, False)
        self.selector.register(self.lent.channel, selectors.EVENT_READ, self)
        self.selector.register(self.lent.capture, selectors.EVENT_READ, self)

    @property
    def is_busy(self) -> bool:
        """Whether it has to answer."""
        return self.n_answered < len(self.given)

    @property
    def unanswered(self) -> list[Simulation]:
        """What it was given and has not answered."""
        return self.given[self.n_answered :]

    @property
    def used_bytes(self) -> int:
        """What it has made itself since it was lent; what it started is the fork server's to watch."""
        return resident_parts(self.lent.pid).made_bytes - self.base_bytes

    @property
    def stage(self) -> tuple[int, float]:
        """Which of what it was given last it is in, and since when: its board may still tell of what it had before."""
        index, since_s = self.lent.board.state
        is_of_now = self.since_s <= since_s <= time.monotonic()
        return (index, since_s) if index < 0 or is_of_now else (RESTING, self.since_s)

    @property
    def begun(self) -> list[Simulation]:
        """The simulations that the child has begun and not answered, also once it has run all."""
        return self.given[self.n_answered : len(self.given) if self.is_done else max(0, self.stage[0] + 1)]

    @property
    def is_done(self) -> bool:
        """Whether it has sent all that it will send of what it was given."""
        return self.lent.board.answered_s >= self.since_s

    @property
    def running(self) -> Simulation | None:
        """The simulation it is in."""
        index, _ = self.stage
        return self.given[index] if self.n_answered <= index < len(self.given) else None

    def deadline_s(self, timeout_s: float) -> float:
        """When the simulation it is in will have taken this long, on the monotonic clock."""
        index, since_s = self.stage
        return (since_s if index >= 0 else self.since_s) + timeout_s

    def arm(self, limit: Limit) -> None:
        """It has loaded the model: hold it to its limit from here on."""
        self.is_ready = True
        self.base_bytes = resident_parts(self.lent.pid).made_bytes
        self.connection.tell(Arm(self.lent.pid, limit, self.base_bytes))

    def kill(self, reason: str) -> None:
        """Have it and everything it started killed."""
        self.connection.tell(Kill(self.lent.pid, reason))

    def refuse(self, what: str) -> None:
        """End it: what arrived is no answer, and nothing that comes after it can be told apart."""
        self.garbled, self.suspects = what, self.begun
        self.stop_hearing()
        self.kill(GARBLED)

    def give(self, simulations: list[Simulation], work: Work) -> None:
        """Have it run simulations."""
        self.given, self.n_answered = simulations, 0
        self.printed = Printed()
        self.since_s = time.monotonic()
        self.unsent = memoryview(work_bytes(work))
        self.send()

    def send(self) -> None:
        """Send what the child takes now; the rest once it takes more."""
        try:
            self.unsent = self.unsent[self.lent.channel.send(self.unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError:
            # It has died by now, and its exit arrives from the server.
            self.unsent = memoryview(b"")
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        with suppress(KeyError):
            if self.selector.get_key(self.lent.channel).events != events:
                self.selector.modify(self.lent.channel, events, self)

    def hear(self) -> wire.Message | None:
        """Return the next message; None while none is complete, or nothing can be expected any more."""
        try:
            return self.incoming.next()
        except EOFError:
            self.stop_hearing()
        except ValueError as error:
            self.refuse(str(error))
        return None

    def stop_hearing(self) -> None:
        """Read nothing more of what it sends."""
        with suppress(KeyError, ValueError):
            self.selector.unregister(self.lent.channel)

    @property
    def has_sent(self) -> bool:
        """Whether something it sent is waiting to be read."""
        return self._is_readable(self.lent.channel)

    def _is_readable(self, source: socket.socket | int) -> bool:
        if not any(key.fileobj is source for key in self.selector.get_map().values()):
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            return bool(selector.select(0))

    def said(self) -> str:
        """The end of what it printed since its last answers."""
        return self.printed.said()

    def drain_capture(self) -> None:
        """Read what it has printed; what it started may go on printing, and is not waited for."""
        for _ in range(MAX_PIPE_BYTES // READ_BYTES):
            if not self._is_readable(self.lent.capture):
                return
            self.read_capture()

    def read_capture(self) -> None:
        """Read once of what it has printed, where that has not been read since it was told of."""
        try:
            data = os.read(self.lent.capture, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.selector.unregister(self.lent.capture)
        self.printed.take(data)

    def close(self) -> None:
        """Let go of it: a fork ends."""
        for source in (self.lent.channel, self.lent.capture):
            with suppress(KeyError, ValueError):
                self.selector.unregister(source)
        self.lent.channel.close()
        self.lent.board.close()
        os.close(self.lent.capture)
