"""The thread that commits: one write at a time, a heartbeat in between, so that the driver never waits for a disk.

Owns the thread and what passes to and fro. What is committed when is `core`'s decision, and how, the store's.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self

from modelops_ray.backends.base import Backend
from modelops_ray.core.events import Event, PartCommitted, PayloadLost, WritePart
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Failure
from modelops_ray.errors import PayloadLostError
from modelops_ray.sandbox import opened
from modelops_ray.study.chunk import Payload

HEARTBEAT_EVERY_S = 3.0


class Committed(Protocol):
    """What a commit says of itself."""

    @property
    def rejected(self) -> tuple[Failure, ...]:
        """Simulations whose outputs did not fit."""
        ...


class Store(Protocol):
    """One run directory, one session."""

    def done(self) -> Ranges:
        """Positions that have a row already."""
        ...

    def commit(self, payloads: Sequence[Payload], failures: Sequence[Failure]) -> Committed:
        """Make these results and failures durable, all or none."""
        ...

    def heartbeat(self, counters: dict[str, int | float | str]) -> None:
        """Say that the session lives."""
        ...


class Writer:
    """The thread that owns the store: commits one after the other, and a heartbeat while there are none.

    A context manager; the thread lives inside it, and ends after the job it is at.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        counters: Callable[[], dict[str, int | float | str]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._backend = backend
        self._counters = counters
        self._clock = clock
        self._jobs: queue.SimpleQueue[WritePart | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="modelops-ray-writer")

    def __enter__(self) -> Self:
        self._work = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._pool.shutdown()

    @property
    def is_alive(self) -> bool:
        """Whether it can still commit."""
        return not self._work.done()

    def submit(self, write: WritePart) -> None:
        """Commit this; the outcome comes through `poll`."""
        self._jobs.put(write)

    def poll(self, timeout_s: float = 0.0) -> list[Event]:
        """Return what became of a commit, [] while nothing did.

        Raises:
            ModelopsRayError: Writing failed; the writer has ended. Any other exception is a bug of the store.
        """
        try:
            return self._done.get(timeout=timeout_s) if timeout_s else self._done.get_nowait()
        except queue.Empty:
            if not self.is_alive:
                self._work.result()
            return []

    def _run(self) -> None:
        # With `--isolation none` a model may run beside it, and what a model writes is looked at.
        with opened.unheard():
            while self._one_job():
                pass

    def _one_job(self) -> bool:
        try:
            job = self._jobs.get(timeout=HEARTBEAT_EVERY_S)
        except queue.Empty:
            self._store.heartbeat(self._counters())
            return True
        if job is not None:
            self._done.put(self._commit(job))
        return job is not None

    def _commit(self, write: WritePart) -> list[Event]:
        payloads: dict[int, Payload] = {}
        lost: list[Event] = []
        for chunk_id in write.chunk_ids:
            try:
                payloads[chunk_id] = self._backend.take(chunk_id)
            except PayloadLostError:
                lost.append(PayloadLost(self._clock(), chunk_id))
        commit = self._store.commit(list(payloads.values()), write.failures)
        self._store.heartbeat(self._counters())
        return [*lost, PartCommitted(self._clock(), tuple(payloads), commit.rejected)]
