"""Running the simulations of a chunk in children of the fork server (`--isolation fork`, `reuse` and `fresh`).

Owns which child runs what, the time limit, and what goes back in line when a child or the server ends. What an end
means for a simulation is `deaths`' business, how many share a child `sharing`'s. What a child sends is foreign: it is
never waited for, and what is no answer ends that child and the simulation it was in.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from modelops_ray.core.report import Failure
from modelops_ray.errors import ModelError
from modelops_ray.runner.deaths import failure_of_answer, failure_of_death, failure_of_garble, failure_of_its_server
from modelops_ray.runner.executor import Attempt, ChunkContext
from modelops_ray.runner.forkserver_client import (  # fmt: skip
    KEPT_OUTPUT_BYTES,
    Connection,
    Death,
    Lent,
    NoChildError,
    ServerEndedError,
    Wanted,
    connect,
    last_words,
)
from modelops_ray.runner.shared_files import SharedFiles
from modelops_ray.runner.sharing import MAX_BATCH, Served, Sharing
from modelops_ray.sandbox import wire
from modelops_ray.sandbox.answers import CANNOT_ANSWER, MAX_HEADER_BYTES, Answer, GarbledError, answers_of
from modelops_ray.sandbox.board import ANSWERED, NOT_READY, RESTING
from modelops_ray.sandbox.boot import LOADING_WITHIN_S, last_line
from modelops_ray.sandbox.loading import ModelRef, require_same
from modelops_ray.sandbox.measure import private_bytes, resident_parts
from modelops_ray.sandbox.raised import bounded_message
from modelops_ray.study.chunk import Chunk, Simulation

TIMEOUT = "timeout"
GARBLED = "it sent what is no answer"
SILENT_S = 60.0
"""How long a child may be silent in the middle of a message, also without a time limit."""
LOSSES = 5
"""How often in a row the server, or a child before its first simulation, may end before the run fails."""
RETIRE_AFTER = 200
MAX_WORK_CHARACTERS = 16 * 2**20
READ_BYTES = 2**16
MAX_PIPE_BYTES = 2**20
"""What a pipe holds at most, unless root has allowed for more."""
LEFT_SHARE = 0.5
LOOK_EVERY_S = 1.0
NO_CHILD_PAUSE_S = 1.0
MEASURED_EVERY_S = 10.0


@contextmanager
def in_children(context: ChunkContext, chunk: Chunk) -> Iterator[InChildren]:
    """Connect to the fork server of this node and run there.

    Raises:
        ModelError: The model cannot be loaded here, or is not the one the run began with.
    """
    _require_same_once(context.model)
    executor = InChildren(context, chunk)
    try:
        yield executor
    finally:
        executor.close()


@functools.lru_cache(maxsize=1)
def _require_same_once(ref: ModelRef) -> None:
    require_same(ref)


@dataclass(slots=True)
class _Learned:
    """What this worker has learned of a model; it outlives chunks. `own_bytes` is what a child owns at birth."""

    sharing: Sharing
    own_bytes: int = 0
    shared_files: SharedFiles = field(default_factory=SharedFiles)


# Two, for where `fork` turned out not to be safe and `reuse` is what is done.
@functools.lru_cache(maxsize=2)
def _learned(_digest: str, isolation: str, per_child: int | None) -> _Learned:
    return _Learned(Sharing(1 if isolation == "fresh" else per_child, goes_on=isolation == "reuse"))


@functools.lru_cache(maxsize=1)
def _worker_bytes(_period: int) -> int:
    """Measure this process; reading it takes milliseconds, and it hardly changes."""
    return private_bytes()


@dataclass(eq=False)
class _Child:
    """A child that was lent, and what it was given: answers come in that order.

    `unsent` is what it has not taken yet of what it was told. `garbled` says what was wrong with what it sent, if
    anything, and `suspects` are the simulations that may have sent it.
    """

    lent: Lent
    is_ready: bool
    asked_s: float
    incoming: wire.Incoming
    base_bytes: int = 0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    garbled: str = ""
    suspects: list[Simulation] = field(default_factory=list)
    served: Served = field(default_factory=Served)
    given: list[Simulation] = field(default_factory=list)
    n_answered: int = 0
    since_s: float = 0.0
    is_late: bool = False
    printed: bytes = b""

    @property
    def is_busy(self) -> bool:
        return self.n_answered < len(self.given)

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
        index, since_s = self.lent.board.state
        return index == ANSWERED and since_s >= self.since_s

    @property
    def running(self) -> Simulation | None:
        """The simulation it is in."""
        index, _ = self.stage
        return self.given[index] if self.n_answered <= index < len(self.given) else None

    def said(self) -> str:
        """The end of what it printed since its last answers."""
        return self.printed.decode(errors="replace")


class InChildren:
    """An `Executor` in other processes, as many at a time as the chunk has slots."""

    def __init__(self, context: ChunkContext, chunk: Chunk) -> None:
        """Connect."""
        self._context, self._chunk = context, chunk
        self._wanted = Wanted(context.model, context.cpus, context.isolation, context.node_bytes)
        self._limit = context.limit_of(chunk)
        self._learned = _learned(context.model.digest, context.isolation, context.per_child)
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._todo: deque[Simulation] = deque()
        self._suspects: set[int] = set()
        self._at_its_end: set[int] = set()
        self._has_enough = False
        self._n_lost = 0
        self._excess: dict[int, int] = {}
        self._excess_read_s = time.monotonic()
        self._worker_bytes = _worker_bytes(int(time.monotonic() / MEASURED_EVERY_S))
        self._connection = self._connected()

    @property
    def base_bytes(self) -> int:
        """What this worker and a child own before the first simulation, the server's pages apart."""
        return self._worker_bytes + self._learned.own_bytes

    @property
    def child_bytes(self) -> int:
        """How much of that is the child's."""
        return self._learned.own_bytes

    @property
    def shared_bytes(self) -> int:
        """What the fork server of this node owns."""
        return self._connection.private_bytes

    @property
    def child_life_s(self) -> float | None:
        """How long a child is to run simulations, as far as this worker has learned."""
        return self._learned.sharing.life_s

    @property
    def notice(self) -> str:
        """What the user should be told once: of a file that several write, or why simulations are not forked."""
        if shared := self._learned.shared_files.notice:
            return shared
        why = self._connection.notice
        return why and f"{why}: simulations run in processes that go on (--isolation reuse), not in forks"

    def run(self, simulations: tuple[Simulation, ...]) -> Generator[tuple[Simulation, Attempt]]:
        """Run simulations and yield what came of each, in the order in which they end.

        Raises:
            ModelError: The model cannot be loaded, or its server or children end again and again.
            OSError: There is no process, descriptor or disk left here for a child.
        """
        self._todo.extend(simulations)
        while self._todo or self._children:
            try:
                self._assign()
                # Without a child there is nothing to wait for: the end of the last one does not matter.
                if self._children:
                    for simulation, attempt in self._what_came():
                        self._at_its_end.discard(simulation.position)
                        yield simulation, attempt
            except ServerEndedError:
                yield from self._start_over()

    def enough(self) -> None:
        """Give no child anything more; what one gives back, or dies with, is left to later chunks."""
        self._has_enough = True
        self._todo.clear()

    def close(self) -> None:
        """Let go of the children and of the server."""
        for child in list(self._children):
            self._forget(child)
        self._tell_excess({})
        self._selector.close()
        self._connection.close()

    def _connected(self) -> Connection:
        connection = connect(self._wanted)
        self._selector.register(connection, selectors.EVENT_READ)
        if not connection.forks and self._wanted.forks:
            self._learned = _learned(self._context.model.digest, "reuse", self._context.per_child)
        return connection

    def _start_over(self) -> Iterator[tuple[Simulation, Attempt]]:
        """The server has ended. What ran then runs again, alone; one with which it ends once more has done it."""
        running = [(child, one) for child in self._children for one in child.begun]
        it = running[0] if len(running) == 1 and running[0][1].position in self._at_its_end else None
        if it is None:
            self._lose(f"the fork server of model {self._context.model.label} ended{last_words(self._wanted)}")
        else:
            child, one = it
            self._drain_capture(child)
            self._at_its_end.discard(one.position)
            child.n_answered += 1
            yield one, Attempt(failure_of_its_server(child.said(), one.position), time.monotonic() - child.stage[1], 0)
        self._at_its_end.update(one.position for child in self._children for one in child.begun)
        self._suspects |= self._at_its_end
        for child in list(self._children):
            self._put_back(child, child.given[child.n_answered :])
            self._forget(child)
        self._selector.unregister(self._connection)
        self._connection.close()
        self._connection = self._connected()

    def _lose(self, what: str) -> None:
        self._n_lost += 1
        if self._n_lost >= LOSSES:
            raise ModelError(f"{what}, {LOSSES} times in a row without running a simulation")

    def _put_back(self, child: _Child, simulations: list[Simulation]) -> None:
        if not self._has_enough:
            self._todo.extendleft(reversed(simulations))
        child.given, child.n_answered = [], 0

    # What every child does next

    def _assign(self) -> None:
        for child in list(self._children):
            if child.is_ready and not (child.is_busy or child.is_late or child.garbled):
                self._give_more(child)
        width = 1 if self._at_its_end else self._chunk.width
        for _ in range(width - len(self._children)):
            if self._n_waiting_for() < len(self._todo):
                self._borrow()

    def _n_waiting_for(self) -> int:
        return sum(not child.is_ready for child in self._children)

    def _borrow(self) -> None:
        asked_s = time.monotonic()
        try:
            lent = self._connection.child(**self._limit._asdict(), worker_bytes=self._worker_bytes)
        except NoChildError:
            if not self._children:
                self._n_lost += 1
                if self._n_lost >= LOSSES:
                    raise
                time.sleep(NO_CHILD_PAUSE_S)
            return
        incoming = wire.Incoming(lent.channel, MAX_HEADER_BYTES)
        child = _Child(lent, lent.is_ready, asked_s, incoming, resident_parts(lent.pid).made_bytes)
        self._selector.register(lent.channel, selectors.EVENT_READ, child)
        self._selector.register(lent.capture, selectors.EVENT_READ, child)
        self._children.append(child)
        if child.is_ready:
            self._give_more(child)

    def _give_more(self, child: _Child) -> None:
        if child.served.n and self._keeps_too_much(child):
            self._part_with(child, has_served=True)
            return
        waiting = [simulation.set_index for simulation in islice(self._todo, MAX_BATCH * self._chunk.width)]
        n = self._learned.sharing.batch(child.served, waiting, self._chunk.width) if waiting else 0
        if n == 0:
            self._part_with(child)
            return
        n = self._apart(affordable(islice(self._todo, n)))
        if child.served.n and self._todo[0].position in self._suspects:
            self._part_with(child, has_served=True)
            return
        child.given, child.n_answered = [self._todo.popleft() for _ in range(n)], 0
        child.since_s = time.monotonic()
        asked = {
            "scenario": self._context.run.scenario,
            "outputs": self._context.outputs,
            "measure": self._learned.own_bytes == 0,
        }
        child.unsent = memoryview(wire.packed(asked, [work_of(child.given)]))
        self._send(child)

    def _apart(self, n: int) -> int:
        """How many of the next `n` a child is given: a suspect runs alone, so that it is known who it was."""
        for at, simulation in enumerate(islice(self._todo, n) if self._suspects else ()):
            if simulation.position in self._suspects:
                return max(1, at)
        return n

    def _send(self, child: _Child) -> None:
        """Send what the child takes now; the rest once it takes more."""
        try:
            child.unsent = child.unsent[child.lent.channel.send(child.unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError:
            # It has died by now, and its exit arrives from the server.
            child.unsent = memoryview(b"")
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.unsent else 0)
        with suppress(KeyError):
            if self._selector.get_key(child.lent.channel).events != events:
                self._selector.modify(child.lent.channel, events, child)

    def _keeps_too_much(self, child: _Child) -> bool:
        """Whether what earlier simulations left in a child takes much of what the next may use, and is killed for."""
        hard_bytes = self._limit.hard_bytes
        return hard_bytes is not None and child.used_bytes > LEFT_SHARE * hard_bytes

    def _part_with(self, child: _Child, *, has_served: bool = False) -> None:
        """Nothing more for this child: the next supervisor may have it unless it `has_served`, or it ends."""
        if child.incoming.is_partial:
            self._connection.kill(child.lent.pid, GARBLED)
        elif not self._connection.forks:
            has_served = has_served or self._context.isolation == "fresh"
            retire_after = 1 if has_served else self._context.per_child or RETIRE_AFTER
            self._connection.give_back(child.lent.pid, child.served.n, retire_after)
        self._forget(child)

    def _forget(self, child: _Child) -> None:
        self._children.remove(child)
        for source in (child.lent.channel, child.lent.capture):
            with suppress(KeyError, ValueError):
                self._selector.unregister(source)
        child.lent.channel.close()
        child.lent.board.close()
        os.close(child.lent.capture)

    # What comes back

    def _what_came(self) -> Iterator[tuple[Simulation, Attempt]]:
        for key, events in self._selector.select(self._patience_s()):
            if key.fileobj is self._connection:
                self._connection.hear()
            elif key.data in self._children:
                if events & selectors.EVENT_WRITE:
                    self._send(key.data)
                yield from self._read(key.data, is_channel=key.fileobj is key.data.lent.channel)
        for child in list(self._children):
            if (ended := self._connection.exit_of(child.lent.pid)) is not None:
                yield from self._died(child, ended)
        self._stop_the_late()
        self._stop_the_silent()
        self._give_up_on_the_unready()
        self._look_for_excess()

    def _read(self, child: _Child, *, is_channel: bool) -> Iterator[tuple[Simulation, Attempt]]:
        if not is_channel:
            self._read_capture(child)
            return
        try:
            message = child.incoming.next()
        except EOFError:
            self._selector.unregister(child.lent.channel)
        except ValueError as error:
            self._garbled(child, str(error))
        else:
            if message is not None:
                yield from self._take(child, message)

    def _take(self, child: _Child, message: wire.Message) -> Iterator[tuple[Simulation, Attempt]]:
        """Take what a child has said: that it is ready, that it never will be, or answers."""
        if not child.is_ready and "error" in message.header:
            raise ModelError(bounded_message(str(message.header["error"])))
        if message.header == {"ready": True} and not child.is_ready:
            child.is_ready = True
            child.base_bytes = resident_parts(child.lent.pid).made_bytes
            self._connection.arm(child.lent.pid, self._limit)
            return
        try:
            told = answers_of(message, len(child.given) - child.n_answered)
        except GarbledError as error:
            self._garbled(child, str(error))
            return
        answers, n_left, took_s, own_bytes, wrote, changed = told
        self._learned.own_bytes = max(self._learned.own_bytes, own_bytes)
        answered = child.given[child.n_answered : child.n_answered + len(answers)]
        child.n_answered += len(answers)
        self._learn(child, answered, answers, took_s)
        self._learned.shared_files.note(((answered[at].position, path) for at, path in wrote), changed)
        if any(answer.failure is not None for answer in answers):
            self._drain_capture(child)
        printed = child.said()
        for simulation, answer in zip(answered, answers, strict=True):
            yield _attempted(simulation, answer, printed)
        child.printed = b""
        if n_left:
            self._put_back(child, child.given[child.n_answered :])

    def _garbled(self, child: _Child, what: str) -> None:
        """What arrives is no answer: nothing that comes after it can be told apart, and the child is ended."""
        child.garbled, child.suspects = what, child.begun
        with suppress(KeyError):
            self._selector.unregister(child.lent.channel)
        self._connection.kill(child.lent.pid, GARBLED)

    def _learn(self, child: _Child, answered: list[Simulation], answers: list[Answer], took_s: float) -> None:
        self._n_lost = 0
        each_s, sets = [answer.seconds for answer in answers], {simulation.set_index for simulation in answered}
        if child.served.n == 0 and self._connection.forks:
            self._learned.sharing.forked(time.monotonic() - child.asked_s - took_s)
        self._learned.sharing.simulated(child.served, each_s)
        child.served = child.served.and_then(each_s, sets)

    def _died(self, child: _Child, ended: Mapping[str, Any]) -> Iterator[tuple[Simulation, Attempt]]:
        """The simulation that was running has this attempt fail; the others of its message go back in line."""
        # What it had answered before is still in the channel.
        while self._is_readable(child.lent.channel):
            yield from self._read(child, is_channel=True)
        self._drain_capture(child)
        if child.garbled:
            yield from self._died_garbling(child)
            return
        if ended["code"] == CANNOT_ANSWER and not ended["reason"] and len(child.begun) > 1:
            child.garbled, child.suspects = "its process could not answer", child.begun
            yield from self._died_garbling(child)
            return
        index, since_s = child.stage
        unanswered, simulation = child.given[child.n_answered :], child.running
        seconds = time.monotonic() - since_s
        # One that ended just before it was killed for being late has left that to the next.
        is_anothers = ended["reason"] == TIMEOUT and seconds < self._context.timeout_s
        if simulation is not None and not is_anothers:
            death = Death(
                seconds, ended["peak_bytes"], ended["code"], ended["reason"], ended["kernel_killed"],
                child.said(),
            )  # fmt: skip
            failure = failure_of_death(death, simulation.position, self._context.timeout_s, self._limit.limit_bytes)
            unanswered.remove(simulation)
            self._put_back(child, unanswered)
            self._forget(child)
            yield simulation, Attempt(failure, death.seconds, death.peak_bytes)
            return
        self._put_back(child, unanswered)
        self._forget(child)
        if index == NOT_READY or (index in (RESTING, ANSWERED) and unanswered):
            why = f"a process of model {self._context.model.label} ended with code {ended['code']}"
            self._lose(f"{why}{last_line(child.said())}")

    def _died_garbling(self, child: _Child) -> Iterator[tuple[Simulation, Attempt]]:
        """A simulation that was alone has failed; where there were several, each runs again alone."""
        printed, since_s = child.said(), child.stage[1]
        if not child.suspects:
            self._lose(
                f"a process of model {self._context.model.label} sent something that is no answer ({child.garbled})"
            )
        unanswered = child.given[child.n_answered :]
        self._suspects.update(simulation.position for simulation in child.suspects)
        one = unanswered.pop(0) if len(child.suspects) == 1 else None
        self._put_back(child, unanswered)
        self._forget(child)
        if one is not None:
            failure = failure_of_garble(child.garbled, printed, one.position)
            yield one, Attempt(failure, time.monotonic() - since_s, 0)

    def _is_readable(self, source: socket.socket | int) -> bool:
        if not any(key.fileobj is source for key in self._selector.get_map().values()):
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _drain_capture(self, child: _Child) -> None:
        # What it started may go on printing, and is not waited for.
        for _ in range(MAX_PIPE_BYTES // READ_BYTES):
            if not self._is_readable(child.lent.capture):
                return
            self._read_capture(child)

    def _read_capture(self, child: _Child) -> None:
        data = os.read(child.lent.capture, READ_BYTES)
        if not data:
            self._selector.unregister(child.lent.capture)
        child.printed = (child.printed + data)[-KEPT_OUTPUT_BYTES:]

    # Time limits

    def _patience_s(self) -> float:
        if not self._context.timeout_s:
            return LOOK_EVERY_S
        deadlines = (self._deadline_s(child) for child in self._children if child.is_busy and not child.is_late)
        return min(LOOK_EVERY_S, max(0.0, min(deadlines, default=float("inf")) - time.monotonic()))

    def _deadline_s(self, child: _Child) -> float:
        index, since_s = child.stage
        return (since_s if index >= 0 else child.since_s) + self._context.timeout_s

    def _give_up_on_the_unready(self) -> None:
        """Loading a model takes a while, but not for ever."""
        for child in self._children:
            if not child.is_ready and time.monotonic() - child.asked_s > LOADING_WITHIN_S:
                label = self._context.model.label
                raise ModelError(
                    f"model {label} was not imported within {LOADING_WITHIN_S:g} s by a process of its own"
                )

    def _look_for_excess(self) -> None:
        """Tell which simulations use more than their soft limit: if that costs the node, this process is gone, too.

        A server that was stopped is ended first: it would see to no limit.
        """
        if time.monotonic() - self._excess_read_s < LOOK_EVERY_S:
            return
        self._excess_read_s = time.monotonic()
        self._connection.end_if_stopped()
        used = ((child.running, child.used_bytes) for child in self._children)
        limit_bytes = self._limit.limit_bytes
        self._tell_excess({one.position: n for one, n in used if one is not None and n > limit_bytes})

    def _tell_excess(self, excess: dict[int, int]) -> None:
        if self._context.tell_excess is not None and excess != self._excess:
            self._excess = excess
            self._context.tell_excess(self._chunk.chunk_id, excess)

    def _stop_the_late(self) -> None:
        if not self._context.timeout_s:
            return
        now_s = time.monotonic()
        for child in self._children:
            if child.is_busy and not child.is_late and not child.garbled and now_s >= self._deadline_s(child):
                child.is_late = True
                self._connection.kill(child.lent.pid, TIMEOUT)

    def _stop_the_silent(self) -> None:
        """End children that stopped in the middle of a message, and those that are done and left out an answer."""
        for child in self._children:
            if child.garbled or not (child.is_busy or child.incoming.is_partial):
                continue
            if time.monotonic() - child.incoming.heard_s > SILENT_S and child.incoming.is_partial:
                self._garbled(child, f"nothing more came for {SILENT_S:g} s in the middle of a message")
            elif child.is_done and not self._is_readable(child.lent.channel):
                self._garbled(child, "an answer is missing")


def affordable(simulations: Iterable[Simulation]) -> int:
    """How many of these a child may be given at once for the size of their parameters; the first one always."""
    sets: set[int] = set()
    n = n_characters = 0
    for simulation in simulations:
        if simulation.set_index not in sets:
            sets.add(simulation.set_index)
            n_characters += sum(len(value) for value in simulation.params.values() if isinstance(value, str))
        if n and n_characters > MAX_WORK_CHARACTERS:
            break
        n += 1
    return n


def work_of(simulations: list[Simulation]) -> bytes:
    """What a child is given to run; parameters that several share travel once."""
    sets: dict[int, int] = {}
    params: list[dict[str, Any]] = []
    for simulation in simulations:
        if simulation.set_index not in sets:
            sets[simulation.set_index] = len(params)
            params.append(dict(simulation.params))
    return json.dumps({"params": params, "runs": [(sets[one.set_index], one.seed) for one in simulations]}).encode()


def _attempted(simulation: Simulation, answer: Answer, printed: str) -> tuple[Simulation, Attempt]:
    outcome: Failure | Mapping[str, Any] = answer.outputs
    if answer.failure is not None:
        outcome = failure_of_answer(answer.failure, printed, simulation.position)
    return simulation, Attempt(outcome, answer.seconds, answer.peak_bytes)
