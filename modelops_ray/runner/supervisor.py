"""Running the simulations of a chunk in children of the fork server (`--isolation fork`, `reuse` and `fresh`).

Owns the loop, and what goes back in line when a child or the server ends. Which child runs what is `children`'s
business, what is known of one child `borrowed`'s, how many share one `sharing`'s, time limits `overdue`'s, and what an
end means for a simulation `failures`'.
"""

from __future__ import annotations

import gc
import selectors
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelops_ray.core.report import Failure
from modelops_ray.errors import ModelError
from modelops_ray.runner import failures
from modelops_ray.runner.borrowed import Borrowed
from modelops_ray.runner.children import Children
from modelops_ray.runner.executor import Attempt, ChunkContext, Read, Surroundings
from modelops_ray.runner.forkserver_client import ServerEndedError
from modelops_ray.runner.learned import require_same_once
from modelops_ray.runner.overdue import Excess, end_overdue, patience_s
from modelops_ray.runner.server_start import last_words
from modelops_ray.sandbox import protocol
from modelops_ray.sandbox.answers import Answer, answers_of
from modelops_ray.sandbox.board import ANSWERED, NOT_READY, RESTING
from modelops_ray.sandbox.boot import last_line
from modelops_ray.study.chunk import Chunk, Simulation
from modelops_ray.study.schema import PRINTED

_Attempts = Iterator[tuple[Simulation, Attempt]]

COLLECTED_AFTER = 20_000
"""While a chunk runs, Python looks for garbage after this many new objects have stayed; by itself it does after 700."""


@contextmanager
def in_children(context: ChunkContext, chunk: Chunk) -> Iterator[InChildren]:
    """Connect to the fork server of this node and run there; ModelError as `run_chunk`."""
    require_same_once(context.model)
    executor = InChildren(context, chunk)
    collected_after = gc.get_threshold()
    # What arrives is kept until the chunk ends: to look for garbage among it is a tenth of this process's work.
    gc.set_threshold(max(collected_after[0], COLLECTED_AFTER) if collected_after[0] else 0, *collected_after[1:])
    try:
        yield executor
    finally:
        gc.set_threshold(*collected_after)
        executor.close()


class InChildren:
    """An `Executor` in other processes, as many at a time as the chunk has slots."""

    def __init__(self, context: ChunkContext, chunk: Chunk) -> None:
        """Connect."""
        self._context = context
        self._children = Children(context, chunk)
        self._excess = Excess(context.tell_excess, chunk.chunk_id, self._children.limit.limit_bytes)

    def surroundings(self) -> Surroundings:
        """What this worker and a child own without the server's pages, and the fork server of this node."""
        children, learned, server = self._children, self._children.learned, self._children.connection
        notice = learned.shared_files.notice
        if server.notice and not notice:
            notice = f"{server.notice}: simulations run in processes that go on (--isolation reuse), not in forks"
        base_bytes = children.own_bytes + learned.own_bytes
        return Surroundings(base_bytes, learned.own_bytes, server.private_bytes, learned.sharing.life_s, notice)

    def run(self, simulations: tuple[Simulation, ...]) -> Generator[tuple[Simulation, Attempt]]:
        """Run simulations and yield what came of each, in the order in which they end.

        ModelError where the model cannot be loaded, or its server or children end again and again; OSError where this
        node has no process, descriptor or disk left for a child.
        """
        self._children.waiting.add(simulations)
        while self._children.waiting or self._children:
            try:
                self._children.assign()
                # Without a child there is nothing to wait for: the end of the last one does not matter.
                if self._children:
                    for simulation, attempt in self._what_came():
                        self._children.waiting.at_its_end.discard(simulation.position)
                        yield simulation, attempt
            except ServerEndedError:
                yield from self._start_over()

    def enough(self) -> None:
        """Give no child anything more; what one gives back, or dies with, is left to later chunks."""
        self._children.waiting.close()

    def close(self) -> None:
        """Let go of the children and of the server."""
        self._children.close()
        self._excess.end()

    def _start_over(self) -> _Attempts:
        """The server has ended. What ran then runs again, alone; one with which it ends once more has done it."""
        children, waiting = self._children, self._children.waiting
        running = [(child, one) for child in children for one in child.begun]
        it = running[0] if len(running) == 1 and running[0][1].position in waiting.at_its_end else None
        if it is None:
            children.lose(f"the fork server of model {self._context.model.label} ended{last_words(children.wanted)}")
        else:
            child, one = it
            child.drain_capture()
            waiting.at_its_end.discard(one.position)
            child.n_answered += 1
            yield (
                one,
                Attempt(
                    failures.failure_of_its_server(child.said(), one.position), time.monotonic() - child.stage[1], 0
                ),
            )
        waiting.at_its_end.update(one.position for child in children for one in child.begun)
        waiting.suspects |= waiting.at_its_end
        children.start_over()

    # What comes back

    def _what_came(self) -> _Attempts:
        timeout_s = self._context.timeout_s
        for key, events in self._children.selector.select(patience_s(self._children, timeout_s)):
            if key.fileobj is self._children.connection:
                self._children.connection.hear()
            elif key.data in self._children:
                if events & selectors.EVENT_WRITE:
                    key.data.send()
                if key.fileobj is key.data.lent.channel:
                    yield from self._hear(key.data)
                else:
                    key.data.read_capture()
        for child in self._children:
            if (ended := self._children.connection.end_of(child.lent.pid)) is not None:
                yield from self._bury(child, ended)
        end_overdue(self._children, timeout_s, self._context.model.label)
        if self._excess.is_due:
            # A server that was stopped is ended first: it would see to no limit.
            self._children.connection.end_if_stopped()
            self._excess.update(self._children)

    def _hear(self, child: Borrowed) -> _Attempts:
        """Take what a child has said: that it is ready, that it never will be, or answers."""
        message = child.hear()
        if message is None:
            return
        try:
            told = protocol.read_from_child(message.header, len(child.unanswered), is_ready=child.is_ready)
            answers = answers_of(told, message.blobs) if isinstance(told, protocol.Answered) else []
        except protocol.GarbledError as error:
            child.refuse(str(error))
            return
        if isinstance(told, protocol.CannotLoad):
            raise ModelError(told.why)
        if isinstance(told, protocol.Ready):
            child.arm(self._children.limit)
        else:
            yield from self._take(child, told, answers)

    def _take(self, child: Borrowed, told: protocol.Answered, answers: Sequence[Answer]) -> _Attempts:
        answered, first = child.unanswered[: told.n], child.n_answered
        child.n_answered += told.n
        self._learn(child, answered, answers, told.took_s)
        wrote = ((answered[at].position, path) for at, path in told.wrote)
        self._children.learned.note(told.own_bytes, wrote, told.changed)
        keeps_all = self._context.keep_output
        if told.failures or keeps_all:
            child.drain_capture()
        self._children.learned.prints |= child.printed.has_any
        read = {at: [(path, stamp) for one, path, stamp in told.read if one == at] for at, _, _ in told.read}
        for at, (simulation, answer) in enumerate(zip(answered, answers, strict=True)):
            child.read |= dict.fromkeys(read.get(at, ()))
            printed = child.printed.of(first + at) if keeps_all or answer.failure is not None else ""
            yield _attempted(simulation, answer, printed, Read(child.read, len(child.read)) if child.read else None)
        self._children.learned.shared_files.note_read(len(child.read))
        child.printed.forget_before(child.n_answered)
        if told.n_left:
            self._children.put_back(child, child.unanswered)

    def _learn(self, child: Borrowed, answered: Sequence[Simulation], answers: Sequence[Answer], took_s: float) -> None:
        self._children.gain()
        each_s, sets = [answer.seconds for answer in answers], {simulation.set_index for simulation in answered}
        if child.served.n == 0 and self._children.connection.forks:
            self._children.learned.sharing.forked(time.monotonic() - child.asked_s - took_s)
        self._children.learned.sharing.simulated(child.served, each_s)
        child.served = child.served.and_then(each_s, sets)

    # How it ends

    def _bury(self, child: Borrowed, ended: protocol.Ended) -> _Attempts:
        """The simulation that was running has this attempt fail; the others of its message go back in line."""
        # What it had answered before is still in the channel.
        while child.has_sent:
            yield from self._hear(child)
        child.drain_capture()
        if not child.garbled and ended.code == protocol.CANNOT_ANSWER and not ended.reason and len(child.begun) > 1:
            child.garbled, child.suspects = "its process could not answer", child.begun
        (index, since_s), simulation, unanswered = child.stage, child.running, child.unanswered
        seconds = time.monotonic() - since_s
        if child.garbled:
            yield from self._bury_garbled(child, seconds)
            return
        # The late one may have finished before the kill: its successor is not to blame.
        is_anothers = ended.reason == failures.TIMEOUT and seconds < self._context.timeout_s
        failure = None
        if simulation is not None and not is_anothers:
            unanswered.remove(simulation)
            failure = failures.failure_of_end(
                ended,
                child.printed.of(index),
                simulation.position,
                self._context.timeout_s,
                self._children.limit.limit_bytes,
            )
        self._children.put_back(child, unanswered)
        self._children.forget(child)
        if simulation is not None and failure is not None:
            yield simulation, Attempt(failure, seconds, ended.peak_bytes)
        elif index == NOT_READY or (index in (RESTING, ANSWERED) and unanswered):
            why = f"a process of model {self._context.model.label} ended with code {ended.code}"
            self._children.lose(f"{why}{last_line(child.said())}")

    def _bury_garbled(self, child: Borrowed, seconds: float) -> _Attempts:
        """A simulation that was alone has failed; where there were several, each runs again alone."""
        if not child.suspects:
            self._children.lose(
                f"a process of model {self._context.model.label} sent something that is no answer ({child.garbled})"
            )
        unanswered = child.unanswered
        self._children.waiting.suspects.update(simulation.position for simulation in child.suspects)
        one = unanswered.pop(0) if len(child.suspects) == 1 else None
        self._children.put_back(child, unanswered)
        self._children.forget(child)
        if one is not None:
            yield one, Attempt(failures.failure_of_garble(child.garbled, child.said(), one.position), seconds, 0)


def _attempted(simulation: Simulation, answer: Answer, printed: str, read: Read | None) -> tuple[Simulation, Attempt]:
    outcome: Failure | Mapping[str, Any] = answer.outputs
    if printed:
        # A model may have an output of that name itself.
        outcome = {PRINTED: {"printed": failures.bounded_printed(printed)}, **answer.outputs}
    if answer.failure is not None:
        outcome = failures.failure_of_told(answer.failure, printed, simulation.position)
    return simulation, Attempt(outcome, answer.seconds, answer.peak_bytes, read)
