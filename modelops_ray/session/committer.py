"""The thread that commits: one write at a time, a heartbeat in between, so that the driver never waits for a disk.

Owns the thread, what passes to and fro, and what one commit consists of. `core` decides what is committed when.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

from modelops_ray.core.events import Event, PartCommitted, PayloadLost, WritePart
from modelops_ray.core.report import FailedAttempts
from modelops_ray.errors import PayloadLostError
from modelops_ray.sandbox import opened
from modelops_ray.session.ports import Snapshot
from modelops_ray.store.run_store import RunStore
from modelops_ray.study.chunk import Payload

HEARTBEAT_EVERY_S = 3.0


@dataclass(frozen=True, slots=True)
class Desk:
    """Does what a committer is asked, in the thread that calls it.

    `take` hands out a chunk's payload, or raises PayloadLostError; `clock` is monotonic, both clocks are in seconds.
    """

    store: RunStore
    take: Callable[[int], Payload]
    clock: Callable[[], float]
    unix_clock: Callable[[], float] = time.time

    def commit(self, write: WritePart, snapshot: Snapshot) -> list[Event]:
        """Commit the payloads that can still be had, and say what became of each chunk."""
        payloads: dict[int, Payload] = {}
        lost: list[Event] = []
        for chunk_id in write.chunk_ids:
            try:
                payloads[chunk_id] = self.take(chunk_id)
            except PayloadLostError:
                lost.append(PayloadLost(self.clock(), chunk_id))
        attempts = [self._dated(each) for each in write.attempts]
        rejected = self.store.commit(list(payloads.values()), write.failures, attempts)
        self.beat(snapshot)
        return [*lost, PartCommitted(self.clock(), tuple(payloads), rejected)]

    def _dated(self, attempts: FailedAttempts) -> FailedAttempts:
        """Attempts that ended unseen ended, as far as is known, when the run learned of it."""
        if attempts.failure.ended_unix_s is not None:
            return attempts
        ended_unix_s = self.unix_clock() - (self.clock() - attempts.noticed_s)
        return replace(attempts, failure=replace(attempts.failure, ended_unix_s=ended_unix_s))

    def beat(self, snapshot: Snapshot) -> None:
        """Say that the session lives, and how far it is."""
        self.store.heartbeat(snapshot.counters())


class CommitThread:
    """A committer with a thread of its own: it beats while the driver is busy, and the driver works while it commits.

    A context manager; the thread lives inside it, and ends after the commit it is at.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._snapshot: Snapshot | None = None
        self._jobs: queue.SimpleQueue[tuple[WritePart, Snapshot] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="modelops-ray-writer")

    def __enter__(self) -> Self:
        self._work = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._pool.shutdown()

    def submit(self, write: WritePart, snapshot: Snapshot) -> None:
        """Commit this after what was submitted before."""
        self._jobs.put((write, snapshot))

    def update(self, snapshot: Snapshot) -> None:
        """Let the next heartbeats show this."""
        self._snapshot = snapshot

    def poll(self, timeout_s: float = 0.0) -> list[Event]:
        """Return what became of one commit, [] while none has ended.

        ModelopsRayError if writing failed; the thread has ended then. Any other exception is a bug of the store.
        """
        try:
            return self._done.get(timeout=timeout_s) if timeout_s else self._done.get_nowait()
        except queue.Empty:
            if self._work.done():
                self._work.result()
            return []

    def _run(self) -> None:
        # With `--isolation none` a model may run in this process, and files that a model writes are noted.
        with opened.unheard():
            while self._one_job():
                pass

    def _one_job(self) -> bool:
        try:
            job = self._jobs.get(timeout=HEARTBEAT_EVERY_S)
        except queue.Empty:
            if self._snapshot is not None:
                self._desk.beat(self._snapshot)
            return True
        if job is not None:
            self._done.put(self._desk.commit(*job))
        return job is not None
