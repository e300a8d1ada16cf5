"""Runs chunks one after another in this process, for debugging and for tests without a cluster.

Owns the queue. Does not protect from what a model does: a crash of the model is a crash of this process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from modelops_ray.core.events import Capacity, ChunkFailed, ChunkFinished, ChunkStarted, Event, Node
from modelops_ray.core.report import Cause
from modelops_ray.errors import PayloadLostError
from modelops_ray.sandbox.machine import available_memory_bytes
from modelops_ray.study.chunk import Chunk, Payload, RunChunk


class LocalBackend:
    """Runs one chunk per `wait`, the oldest first; honours the contract of `session.ports.Backend`.

    `cpus` is what a simulation asks for: there is room for one. `memory_bytes` is for requests, None for what is free.
    """

    def __init__(
        self,
        run_chunk: RunChunk,
        *,
        cpus: float = 1.0,
        memory_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run_chunk = run_chunk
        self._node = Node(cpus, available_memory_bytes() if memory_bytes is None else memory_bytes)
        self._clock, self._sleep = clock, sleep
        self._queue: deque[Chunk] = deque()
        self._payloads: dict[int, Payload] = {}

    def capacity(self) -> Capacity:
        """Return one node that holds one simulation at a time."""
        return Capacity((self._node,))

    def submit(self, chunk: Chunk) -> None:
        """Queue a chunk."""
        self._queue.append(chunk)

    def cancel(self, chunk_id: int) -> None:
        """Take a chunk out of the queue, and forget its payload."""
        self._queue = deque(chunk for chunk in self._queue if chunk.chunk_id != chunk_id)
        self._payloads.pop(chunk_id, None)

    def wait(self, timeout_s: float) -> list[Event]:
        """Run the oldest chunk to its end, however long that takes, or sleep; ModelError if there is no model."""
        if not self._queue:
            self._sleep(timeout_s)
            return []
        chunk = self._queue.popleft()
        started: list[Event] = [ChunkStarted(self._clock(), chunk.chunk_id)] if chunk.announce else []
        return [*started, self._run(chunk)]

    def take(self, chunk_id: int) -> Payload:
        """Hand out a payload once; PayloadLostError if it was handed out before, or the chunk never finished."""
        try:
            return self._payloads.pop(chunk_id)
        except KeyError:
            raise PayloadLostError(f"the outputs of chunk {chunk_id} are gone; it has to run again") from None

    def spilled_bytes(self) -> int:
        """Return 0: nothing leaves this process."""
        return 0

    def close(self) -> None:
        """Forget everything."""
        self._queue.clear()
        self._payloads.clear()

    def _run(self, chunk: Chunk) -> ChunkFinished | ChunkFailed:
        try:
            report, payload = self._run_chunk(chunk)
        except MemoryError as error:
            message = str(error) or "out of memory outside the simulation itself"
            return ChunkFailed(self._clock(), chunk.chunk_id, Cause.OUT_OF_MEMORY, "MemoryError", message)
        self._payloads[chunk.chunk_id] = payload
        return ChunkFinished(self._clock(), chunk.chunk_id, report)
