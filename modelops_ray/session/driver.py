"""The loop: wait for events, hand them to the state, perform its actions.

Owns the order of things; every decision is `core`'s. Everything outside is reached through `ports`: the driver itself
starts nothing, and knows neither Ray nor files nor what time it is.
"""

from __future__ import annotations

from dataclasses import replace

from modelops_ray.core.events import (
    CancelChunk,
    CapacityChanged,
    Event,
    Finish,
    Notify,
    PartCommitted,
    StopRequested,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.state import RunState
from modelops_ray.errors import ModelopsRayError
from modelops_ray.session.ports import NotYet, Ports, Segments, Snapshot, TheEnd
from modelops_ray.study.chunk import Chunk

TICK_S = 0.2
CAPACITY_EVERY_S = 5.0


class Driver:
    """Runs one session of a run to its end."""

    def __init__(self, state: RunState, ports: Ports, *, n_simulations: int, n_resumed: int = 0) -> None:
        """Bring the parts together; `n_simulations` are to have a row in the end, `n_resumed` of them have one."""
        self._state = state
        self._backend, self._committer, self._source = ports.backend, ports.committer, ports.source
        self._observer, self._watcher, self._clock = ports.observer, ports.watcher, ports.clock
        self._n_simulations, self._n_resumed = n_simulations, n_resumed
        self._began_s = self._clock()
        self._capacity_read_s = float("-inf")
        self._stop_reason: str | None = None
        self._finish: Finish | None = None
        self._first_commit_s: float | None = None

    @property
    def seconds_to_first_commit(self) -> float | None:
        """Seconds from the start to the first durable result."""
        return None if self._first_commit_s is None else self._first_commit_s - self._began_s

    def stop(self, reason: str) -> None:
        """Ask the run to end; safe to call from a signal handler."""
        self._stop_reason = reason

    def run(self) -> Finish:
        """Run until nothing is left to do or nothing can be done, and say which.

        ModelopsRayError if the run broke; what had finished before is committed if that was possible.
        """
        # The first turn may last as long as a simulation does.
        self._committer.update(self.snapshot())
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

    def _turn(self) -> None:
        self._read_capacity()
        self._feed()
        events = self._wait()
        if self._stop_reason is not None:
            events.append(StopRequested(self._clock(), self._stop_reason))
            self._stop_reason = None
        for event in events or [Ticked(self._clock())]:
            self._tell(event)
        snapshot = self.snapshot()
        self._committer.update(snapshot)
        self._watcher.update(snapshot)

    def _read_capacity(self) -> None:
        now_s = self._clock()
        if now_s - self._capacity_read_s >= CAPACITY_EVERY_S:
            self._capacity_read_s = now_s
            capacity = self._backend.capacity()
            if self._observer is not None and not capacity.reachable:
                capacity = replace(capacity, reachable=self._observer.reachable())
            self._tell(CapacityChanged(now_s, capacity))

    def _feed(self) -> None:
        while self._state.wants_tasks:
            match self._source.next():
                case Segments(segments):
                    self._tell(TasksAdded(self._clock(), segments, last=False))
                case TheEnd():
                    self._tell(TasksAdded(self._clock(), (), last=True))
                case NotYet():
                    return

    def _wait(self) -> list[Event]:
        if self._finish is not None:
            return []
        heard = [] if self._observer is None else self._observer.poll(self._clock())
        return [*heard, *self._wait_for_work()]

    def _wait_for_work(self) -> list[Event]:
        if self._state.has_outstanding:
            return [*self._backend.wait(TICK_S), *self._committer.poll()]
        return self._committer.poll(TICK_S)

    def _tell(self, event: Event) -> None:
        actions = self._state.handle(event)
        if isinstance(event, PartCommitted) and self._first_commit_s is None and self._state.view().committed:
            self._first_commit_s = self._clock()
        for action in actions:
            match action:
                case SubmitChunk():
                    self._backend.submit(self._chunk(action))
                case CancelChunk():
                    self._backend.cancel(action.chunk_id)
                case WritePart():
                    self._committer.submit(action, self.snapshot())
                case Notify():
                    self._watcher.note(action.text)
                case Finish():
                    self._finish = action

    def _chunk(self, action: SubmitChunk) -> Chunk:
        return Chunk(
            chunk_id=action.chunk_id,
            simulations=self._source.take(action.positions),
            attempts=action.attempts,
            request_bytes=action.request_bytes,
            limit_bytes=action.limit_bytes,
            cpus=self._state.policy.cpus * action.width,
            width=action.width,
            enough_s=action.enough_s,
            announce=action.announce,
            has_twin=action.has_twin,
        )

    def _save_what_finished(self) -> None:
        """The run broke: commit what waits, unless it is committing itself that broke."""
        try:
            self._tell(StopRequested(self._clock(), "the run broke"))
            while self._finish is None:
                for event in self._committer.poll(TICK_S) or [Ticked(self._clock())]:
                    self._tell(event)
        except ModelopsRayError:
            # The first error is the one to tell; what is not committed runs again at the next start.
            return
