"""The loop: wait for events, hand them to the state, perform its actions.

Owns the clock and the order of things; every decision is `core`'s and every write is `writer`'s. Knows neither Ray nor
files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from modelops_ray.backends.base import Backend
from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    Event,
    Finish,
    Node,
    Notify,
    PartCommitted,
    StopRequested,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.state import RunState
from modelops_ray.core.view import View
from modelops_ray.errors import ModelopsRayError
from modelops_ray.run.committer import Store, Writer
from modelops_ray.study.chunk import Chunk
from modelops_ray.study.simulations import Simulations

TICK_S = 0.2
CAPACITY_EVERY_S = 5.0
_SEGMENTS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment, `elapsed_s` seconds after its start.

    It is to answer `simulations`, of which `resumed` had a row before it began.
    """

    view: View
    elapsed_s: float
    simulations: int
    resumed: int

    @property
    def per_second(self) -> float:
        """Results and failures of this session per second."""
        return (self.view.completed + self.view.failed) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left(self) -> int:
        """Simulations without a row."""
        return self.simulations - self.resumed - self.view.completed - self.view.failed

    def counters(self) -> dict[str, int | float | str]:
        """What `status` shows of a live run."""
        return {
            "completed": self.view.completed,
            "failed": self.view.failed,
            "resumed": self.resumed,
            "attempts": self.view.attempts,
            "oom_retries": self.view.oom_retries,
            "infrastructure_retries": self.view.infrastructure_retries,
            "outstanding": self.view.outstanding,
            "elapsed_seconds": round(self.elapsed_s, 3),
        }


class Observer(Protocol):
    """Watches what Ray does not tell: the machines, or pods, behind its nodes."""

    def poll(self, now_s: float) -> list[Event]:
        """Return what happened since the last call, as of now; never waits."""
        ...

    def reachable(self) -> tuple[Node, ...]:
        """List the nodes there could be once everything has scaled; () where that is not known."""
        ...


class Driver:
    """Runs one session of a run to its end."""

    def __init__(  # noqa: PLR0913 (parts that know nothing of each other come together here)
        self,
        state: RunState,
        backend: Backend,
        store: Store,
        simulations: Simulations,
        *,
        only: Ranges | None = None,
        n_simulations: int | None = None,
        observer: Observer | None = None,
        observe: Callable[[Snapshot], None] = lambda _: None,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bring the parts together; `run` does the rest.

        Args:
            state: Decides.
            backend: Runs chunks.
            store: Keeps results.
            simulations: What there is to run.
            only: Leave out everything else.
            n_simulations: How many there are to be in the end; by default, all.
            observer: Is asked at every turn what became of the nodes.
            observe: Called at every turn of the loop with what a person may want to see; must be quick.
            notify: Called with each sentence that the user should be told.
            clock: Seconds, monotonic.
        """
        self._state = state
        self._backend = backend
        self._simulations = simulations
        self._observer = observer
        self._observe = observe
        self._notify = notify
        self._clock = clock
        self._began_s = clock()
        self._capacity = Capacity(())
        self._capacity_read_s = float("-inf")
        self._stop_reason: str | None = None
        self._finish: Finish | None = None
        self._first_commit_s: float | None = None
        done = store.done()
        self._n_resumed = len(done)
        self._n_simulations = len(simulations) if n_simulations is None else n_simulations
        self._segments = simulations.segments(done if only is None else done | only.complement(len(simulations)))
        self._shown = self.snapshot()
        self._writer = Writer(store, backend, self._counters, clock)

    @property
    def seconds_to_first_commit(self) -> float | None:
        """Seconds from the start to the first durable result."""
        return None if self._first_commit_s is None else self._first_commit_s - self._began_s

    def stop(self, reason: str) -> None:
        """Ask the run to end; safe to call from a signal handler."""
        self._stop_reason = reason

    def run(self) -> Finish:
        """Run until nothing is left to do or nothing can be done, and say which.

        Raises:
            ModelopsRayError: The run broke; what had finished before is committed if that was possible.
        """
        with self._writer:
            try:
                while self._finish is None:
                    self._turn()
            except ModelopsRayError:
                self._save_what_finished()
                raise
        return self._finish

    def snapshot(self) -> Snapshot:
        """The run at this moment."""
        return Snapshot(self._state.view(), self._clock() - self._began_s, self._n_simulations, self._n_resumed)

    def _counters(self) -> dict[str, int | float | str]:
        # The thread that commits does not read the state, which changes while it reads.
        return self._shown.counters()

    def _turn(self) -> None:
        """One turn: look at the cluster, feed, wait, decide, act."""
        self._look()
        self._feed()
        events = self._wait()
        if self._stop_reason is not None:
            events.append(StopRequested(self._clock(), self._stop_reason))
            self._stop_reason = None
        for event in events or [Ticked(self._clock())]:
            self._tell(event)
        self._shown = self.snapshot()
        self._observe(self._shown)

    def _look(self) -> None:
        now_s = self._clock()
        if now_s - self._capacity_read_s >= CAPACITY_EVERY_S:
            self._capacity_read_s = now_s
            self._capacity = self._backend.capacity()
            if self._observer is not None and not self._capacity.reachable:
                self._capacity = replace(self._capacity, reachable=self._observer.reachable())
            self._tell(CapacityChanged(now_s, self._capacity))

    def _feed(self) -> None:
        while self._state.wants_tasks:
            batch = tuple(islice(self._segments, _SEGMENTS_AT_ONCE))
            self._tell(TasksAdded(self._clock(), batch, last=len(batch) < _SEGMENTS_AT_ONCE))

    def _wait(self) -> list[Event]:
        if self._finish is not None:
            return []
        heard = [] if self._observer is None else self._observer.poll(self._clock())
        return [*heard, *self._wait_for_work()]

    def _wait_for_work(self) -> list[Event]:
        if self._state.has_outstanding:
            return [*self._backend.wait(TICK_S), *self._writer.poll()]
        return self._writer.poll(TICK_S)

    def _tell(self, event: Event) -> None:
        if isinstance(event, PartCommitted) and self._first_commit_s is None:
            self._first_commit_s = self._clock()
        for action in self._state.handle(event):
            match action:
                case SubmitChunk():
                    self._backend.submit(self._chunk(action))
                case CancelChunk():
                    self._backend.cancel(action.chunk_id)
                case WritePart():
                    self._writer.submit(action)
                case Notify():
                    self._notify(action.text)
                case Finish():
                    self._finish = action

    def _chunk(self, action: SubmitChunk) -> Chunk:
        return Chunk(
            chunk_id=action.chunk_id,
            simulations=self._simulations.take(action.positions),
            attempts=action.attempts,
            request_bytes=action.request_bytes,
            limit_bytes=action.limit_bytes,
            cpus=self._state.policy.cpus * action.width,
            width=action.width,
            enough_s=action.enough_s,
            announce=action.announce,
        )

    def _save_what_finished(self) -> None:
        """The run broke: commit what waits, unless it is committing itself that broke."""
        try:
            self._tell(StopRequested(self._clock(), "the run broke"))
            while self._finish is None and self._writer.is_alive:
                for event in self._writer.poll(TICK_S) or [Ticked(self._clock())]:
                    self._tell(event)
        except ModelopsRayError:
            # The first error is the one to tell; what is not committed runs again at the next start.
            return
