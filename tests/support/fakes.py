"""A backend in virtual time whose every misfortune is written down beforehand, for unit tests of the driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modelops_ray.core.events import Capacity, ChunkFailed, ChunkFinished, ChunkStarted, Event, Node
from modelops_ray.core.report import Cause
from modelops_ray.errors import PayloadLostError
from modelops_ray.study.chunk import Chunk, Payload, RunChunk

GIB = 2**30


@dataclass(frozen=True)
class Fault:
    """How a chunk dies without a report."""

    cause: Cause
    used_bytes: int | None = None
    kernel_killed: bool | None = None


@dataclass(frozen=True)
class Script:
    """What goes wrong, and when.

    `faults` maps a position to the faults of the attempts of any chunk with that position, in order; after them it
    succeeds. `chunk_faults` does the same for chunk ids, which never repeat. `lost` and `hanging` are ids of chunks
    whose payload is lost, and that never finish. `capacities` are (from this second on, capacity). `pick` chooses the
    id of the next chunk to finish among those outstanding; the oldest by default. `seconds` is how long one takes.
    """

    faults: Mapping[int, Sequence[Fault]] = field(default_factory=dict)
    chunk_faults: Mapping[int, Fault] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    hanging: frozenset[int] = frozenset()
    capacities: Sequence[tuple[float, Capacity]] = ((0.0, Capacity((Node(4.0, 8 * GIB),))),)
    pick: Callable[[Sequence[int]], int] = min
    seconds: Callable[[Chunk], float] = lambda _: 1.0


class FakeBackend:
    """Finishes one chunk per `wait` as the script says; `clock` reads its virtual time, in seconds from 0.

    `submitted` and `cancelled` keep what was asked for, in order; `closed` counts the calls of `close`.
    """

    def __init__(self, run_chunk: RunChunk, script: Script | None = None) -> None:
        self.submitted: list[Chunk] = []
        self.cancelled: list[int] = []
        self.closed = 0
        self.now_s = 0.0
        self._run_chunk = run_chunk
        self._script = script or Script()
        self._outstanding: dict[int, Chunk] = {}
        self._unannounced: set[int] = set()
        self._payloads: dict[int, Payload] = {}
        self._failed: Counter[int] = Counter()

    def clock(self) -> float:
        """Read the virtual time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.now_s += seconds

    @property
    def outstanding(self) -> tuple[int, ...]:
        """The ids of the chunks that were neither finished nor cancelled, oldest first."""
        return tuple(self._outstanding)

    def capacity(self) -> Capacity:
        """Return the last capacity of the script whose time has come."""
        return [capacity for from_s, capacity in self._script.capacities if from_s <= self.now_s][-1]

    def submit(self, chunk: Chunk) -> None:
        """Keep a chunk until a wait picks it."""
        self.submitted.append(chunk)
        self._outstanding[chunk.chunk_id] = chunk
        if chunk.announce:
            self._unannounced.add(chunk.chunk_id)

    def cancel(self, chunk_id: int) -> None:
        """Forget a chunk."""
        self.cancelled.append(chunk_id)
        self._outstanding.pop(chunk_id, None)
        self._payloads.pop(chunk_id, None)
        self._unannounced.discard(chunk_id)

    def wait(self, timeout_s: float) -> list[Event]:
        """Finish one chunk and let its seconds pass, or let the timeout pass."""
        started: list[Event] = [ChunkStarted(self.now_s, chunk_id) for chunk_id in sorted(self._unannounced)]
        self._unannounced.clear()
        able = [chunk_id for chunk_id in self._outstanding if chunk_id not in self._script.hanging]
        if not able:
            self.now_s += 0.0 if started else timeout_s
            return started
        chunk = self._outstanding.pop(self._script.pick(able))
        self.now_s += self._script.seconds(chunk)
        return [*started, self._end(chunk)]

    def take(self, chunk_id: int) -> Payload:
        """Hand out a payload once, unless the script loses it."""
        payload = self._payloads.pop(chunk_id, None)
        if payload is None or chunk_id in self._script.lost:
            raise PayloadLostError(f"the outputs of chunk {chunk_id} are gone; it has to run again")
        return payload

    def spilled_bytes(self) -> int:
        """Return 0: there is no disk in a fake."""
        return 0

    def close(self) -> None:
        """Forget everything."""
        self.closed += 1
        self._outstanding.clear()
        self._payloads.clear()

    def _end(self, chunk: Chunk) -> ChunkFinished | ChunkFailed:
        fault = self._fault(chunk)
        if fault is not None:
            return ChunkFailed(
                self.now_s, chunk.chunk_id, fault.cause, "Scripted", f"scripted {fault.cause}",
                fault.used_bytes, fault.kernel_killed,
            )  # fmt: skip
        report, payload = self._run_chunk(chunk)
        self._payloads[chunk.chunk_id] = payload
        return ChunkFinished(self.now_s, chunk.chunk_id, report)

    def _fault(self, chunk: Chunk) -> Fault | None:
        if chunk.chunk_id in self._script.chunk_faults:
            return self._script.chunk_faults[chunk.chunk_id]
        for simulation in chunk.simulations:
            faults = self._script.faults.get(simulation.position, ())
            failed = self._failed[simulation.position]
            if failed < len(faults):
                self._failed[simulation.position] += 1
                return faults[failed]
        return None
