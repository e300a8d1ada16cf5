"""Running the simulations of a chunk in children of the fork server (`--isolation fork`, `reuse` and `fresh`).

Owns the loop: which child runs what, and what goes back in line when a child or the server ends. What is known of one
child is `borrowed`'s business, the line `waiting`'s, time limits `overdue`'s, how many share a child `sharing`'s, and
what an end means for a simulation `failures`'.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelops_ray.core.report import Failure
from modelops_ray.errors import ModelError
from modelops_ray.runner.borrowed import GARBLED, Borrowed
from modelops_ray.runner.executor import Attempt, ChunkContext
from modelops_ray.runner.failures import (  # fmt: skip
    TIMEOUT,
    failure_of_end,
    failure_of_garble,
    failure_of_its_server,
    failure_of_told,
)
from modelops_ray.runner.forkserver_client import Connection, NoChildError, ServerEndedError
from modelops_ray.runner.learned import learned, require_same_once, worker_bytes
from modelops_ray.runner.overdue import Excess, end_overdue, patience_s
from modelops_ray.runner.server_start import Wanted, connect, last_words
from modelops_ray.runner.sharing import MAX_BATCH
from modelops_ray.runner.waiting import Waiting, work_of
from modelops_ray.sandbox.answers import Answer, answers_of
from modelops_ray.sandbox.board import ANSWERED, NOT_READY, RESTING
from modelops_ray.sandbox.boot import last_line
from modelops_ray.sandbox.protocol import (  # fmt: skip
    CANNOT_ANSWER,
    Answered,
    CannotLoad,
    Ended,
    GarbledError,
    Ready,
    read_from_child,
)
from modelops_ray.study.chunk import Chunk, Simulation

LOSSES = 5
"""How often in a row the server, or a child before its first simulation, may end before the run fails."""
RETIRE_AFTER = 200
LEFT_SHARE = 0.5
NO_CHILD_PAUSE_S = 1.0

_Attempts = Iterator[tuple[Simulation, Attempt]]


@contextmanager
def in_children(context: ChunkContext, chunk: Chunk) -> Iterator[InChildren]:
    """Connect to the fork server of this node and run there.

    Raises:
        ModelError: The model cannot be loaded here, or is not the one the run began with.
    """
    require_same_once(context.model)
    executor = InChildren(context, chunk)
    try:
        yield executor
    finally:
        executor.close()


class InChildren:
    """An `Executor` in other processes, as many at a time as the chunk has slots."""

    def __init__(self, context: ChunkContext, chunk: Chunk) -> None:
        """Connect."""
        self._context, self._width = context, chunk.width
        self._wanted = Wanted(context.model, context.cpus, context.isolation, context.node_bytes)
        self._limit = context.limit_of(chunk)
        self._learned = learned(context.model.digest, context.isolation, context.per_child)
        self._selector = selectors.DefaultSelector()
        self._children: list[Borrowed] = []
        self._waiting = Waiting()
        self._n_lost = 0
        self._excess = Excess(context.tell_excess, chunk.chunk_id, self._limit.limit_bytes)
        self._worker_bytes = worker_bytes()
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
        self._waiting.add(simulations)
        while self._waiting or self._children:
            try:
                self._assign()
                # Without a child there is nothing to wait for: the end of the last one does not matter.
                if self._children:
                    for simulation, attempt in self._what_came():
                        self._waiting.at_its_end.discard(simulation.position)
                        yield simulation, attempt
            except ServerEndedError:
                yield from self._start_over()

    def enough(self) -> None:
        """Give no child anything more; what one gives back, or dies with, is left to later chunks."""
        self._waiting.close()

    def close(self) -> None:
        """Let go of the children and of the server."""
        for child in list(self._children):
            self._forget(child)
        self._excess.end()
        self._selector.close()
        self._connection.close()

    def _connected(self) -> Connection:
        connection = connect(self._wanted)
        self._selector.register(connection, selectors.EVENT_READ)
        if not connection.forks and self._wanted.forks:
            self._learned = learned(self._context.model.digest, "reuse", self._context.per_child)
        return connection

    def _start_over(self) -> _Attempts:
        """The server has ended. What ran then runs again, alone; one with which it ends once more has done it."""
        waiting = self._waiting
        running = [(child, one) for child in self._children for one in child.begun]
        it = running[0] if len(running) == 1 and running[0][1].position in waiting.at_its_end else None
        if it is None:
            self._lose(f"the fork server of model {self._context.model.label} ended{last_words(self._wanted)}")
        else:
            child, one = it
            child.drain_capture()
            waiting.at_its_end.discard(one.position)
            child.n_answered += 1
            yield one, Attempt(failure_of_its_server(child.said(), one.position), time.monotonic() - child.stage[1], 0)
        waiting.at_its_end.update(one.position for child in self._children for one in child.begun)
        waiting.suspects |= waiting.at_its_end
        for child in list(self._children):
            waiting.put_back(child.unanswered)
            self._forget(child)
        self._selector.unregister(self._connection)
        self._connection.close()
        self._connection = self._connected()

    def _lose(self, what: str) -> None:
        self._n_lost += 1
        if self._n_lost >= LOSSES:
            raise ModelError(f"{what}, {LOSSES} times in a row without running a simulation")

    # What every child does next

    def _assign(self) -> None:
        for child in list(self._children):
            if child.is_ready and not (child.is_busy or child.is_late or child.garbled):
                self._give_more(child)
        width = 1 if self._waiting.at_its_end else self._width
        for _ in range(width - len(self._children)):
            if sum(not child.is_ready for child in self._children) < len(self._waiting):
                self._borrow()

    def _borrow(self) -> None:
        asked_s = time.monotonic()
        try:
            lent = self._connection.child(self._limit, self._worker_bytes)
        except NoChildError:
            if not self._children:
                self._n_lost += 1
                if self._n_lost >= LOSSES:
                    raise
                time.sleep(NO_CHILD_PAUSE_S)
            return
        child = Borrowed(lent, asked_s, self._connection, self._selector)
        self._children.append(child)
        if child.is_ready:
            self._give_more(child)

    def _give_more(self, child: Borrowed) -> None:
        if child.served.n and self._keeps_too_much(child):
            self._part_with(child, has_served=True)
            return
        sets = self._waiting.sets(MAX_BATCH * self._width)
        n = self._learned.sharing.batch(child.served, sets, self._width) if sets else 0
        if n == 0:
            self._part_with(child)
            return
        n = self._waiting.together(n)
        if child.served.n and self._waiting.next_is_suspect:
            self._part_with(child, has_served=True)
            return
        simulations, context = self._waiting.take(n), self._context
        is_measured = self._learned.own_bytes > 0
        child.give(simulations, work_of(simulations, context.run.scenario, context.outputs, measure=not is_measured))

    def _keeps_too_much(self, child: Borrowed) -> bool:
        """Whether what earlier simulations left in a child takes much of what the next may use, and is killed for."""
        hard_bytes = self._limit.hard_bytes
        return hard_bytes is not None and child.used_bytes > LEFT_SHARE * hard_bytes

    def _part_with(self, child: Borrowed, *, has_served: bool = False) -> None:
        """Nothing more for this child: the next supervisor may have it unless it `has_served`, or it ends."""
        if child.incoming.is_partial:
            child.kill(GARBLED)
        elif not self._connection.forks:
            has_served = has_served or self._context.isolation == "fresh"
            retire_after = 1 if has_served else self._context.per_child or RETIRE_AFTER
            self._connection.give_back(child.lent.pid, child.served.n, retire_after)
        self._forget(child)

    def _forget(self, child: Borrowed) -> None:
        self._children.remove(child)
        child.close()

    # What comes back

    def _what_came(self) -> _Attempts:
        timeout_s = self._context.timeout_s
        for key, events in self._selector.select(patience_s(self._children, timeout_s)):
            if key.fileobj is self._connection:
                self._connection.hear()
            elif key.data in self._children:
                if events & selectors.EVENT_WRITE:
                    key.data.send()
                if key.fileobj is key.data.lent.channel:
                    yield from self._hear(key.data)
                else:
                    key.data.read_capture()
        for child in list(self._children):
            if (ended := self._connection.end_of(child.lent.pid)) is not None:
                yield from self._bury(child, ended)
        end_overdue(self._children, timeout_s, self._context.model.label)
        if self._excess.is_due:
            # A server that was stopped is ended first: it would see to no limit.
            self._connection.end_if_stopped()
            self._excess.update(self._children)

    def _hear(self, child: Borrowed) -> _Attempts:
        """Take what a child has said: that it is ready, that it never will be, or answers."""
        message = child.hear()
        if message is None:
            return
        try:
            told = read_from_child(message.header, len(child.unanswered), is_ready=child.is_ready)
            answers = answers_of(told, message.blobs) if isinstance(told, Answered) else []
        except GarbledError as error:
            child.refuse(str(error))
            return
        if isinstance(told, CannotLoad):
            raise ModelError(told.why)
        if isinstance(told, Ready):
            child.arm(self._limit)
        else:
            yield from self._take(child, told, answers)

    def _take(self, child: Borrowed, told: Answered, answers: Sequence[Answer]) -> _Attempts:
        answered = child.unanswered[: told.n]
        child.n_answered += told.n
        self._learn(child, answered, answers, told.took_s)
        wrote = ((answered[at].position, path) for at, path in told.wrote)
        self._learned.note(told.own_bytes, wrote, told.changed)
        if told.failures:
            child.drain_capture()
        printed = child.said()
        for simulation, answer in zip(answered, answers, strict=True):
            yield _attempted(simulation, answer, printed)
        child.printed = b""
        if told.n_left:
            self._put_back(child, child.unanswered)

    def _learn(self, child: Borrowed, answered: Sequence[Simulation], answers: Sequence[Answer], took_s: float) -> None:
        self._n_lost = 0
        each_s, sets = [answer.seconds for answer in answers], {simulation.set_index for simulation in answered}
        if child.served.n == 0 and self._connection.forks:
            self._learned.sharing.forked(time.monotonic() - child.asked_s - took_s)
        self._learned.sharing.simulated(child.served, each_s)
        child.served = child.served.and_then(each_s, sets)

    def _put_back(self, child: Borrowed, simulations: Sequence[Simulation]) -> None:
        self._waiting.put_back(simulations)
        child.given, child.n_answered = [], 0

    # How it ends

    def _bury(self, child: Borrowed, ended: Ended) -> _Attempts:
        """The simulation that was running has this attempt fail; the others of its message go back in line."""
        # What it had answered before is still in the channel.
        while child.has_sent:
            yield from self._hear(child)
        child.drain_capture()
        if not child.garbled and ended.code == CANNOT_ANSWER and not ended.reason and len(child.begun) > 1:
            child.garbled, child.suspects = "its process could not answer", child.begun
        (index, since_s), simulation, unanswered = child.stage, child.running, child.unanswered
        seconds = time.monotonic() - since_s
        if child.garbled:
            yield from self._bury_garbled(child, seconds)
            return
        # The late one may have finished before the kill: its successor is not to blame.
        is_anothers = ended.reason == TIMEOUT and seconds < self._context.timeout_s
        failure = None
        if simulation is not None and not is_anothers:
            unanswered.remove(simulation)
            failure = failure_of_end(
                ended, child.said(), simulation.position, self._context.timeout_s, self._limit.limit_bytes
            )
        self._put_back(child, unanswered)
        self._forget(child)
        if simulation is not None and failure is not None:
            yield simulation, Attempt(failure, seconds, ended.peak_bytes)
        elif index == NOT_READY or (index in (RESTING, ANSWERED) and unanswered):
            why = f"a process of model {self._context.model.label} ended with code {ended.code}"
            self._lose(f"{why}{last_line(child.said())}")

    def _bury_garbled(self, child: Borrowed, seconds: float) -> _Attempts:
        """A simulation that was alone has failed; where there were several, each runs again alone."""
        if not child.suspects:
            self._lose(
                f"a process of model {self._context.model.label} sent something that is no answer ({child.garbled})"
            )
        unanswered = child.unanswered
        self._waiting.suspects.update(simulation.position for simulation in child.suspects)
        one = unanswered.pop(0) if len(child.suspects) == 1 else None
        self._put_back(child, unanswered)
        self._forget(child)
        if one is not None:
            yield one, Attempt(failure_of_garble(child.garbled, child.said(), one.position), seconds, 0)


def _attempted(simulation: Simulation, answer: Answer, printed: str) -> tuple[Simulation, Attempt]:
    outcome: Failure | Mapping[str, Any] = answer.outputs
    if answer.failure is not None:
        outcome = failure_of_told(answer.failure, printed, simulation.position)
    return simulation, Attempt(outcome, answer.seconds, answer.peak_bytes)
