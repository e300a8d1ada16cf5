"""A discrete-event simulator of a cluster, in virtual time: behind `Backend`, or as a loop around the decision core.

Nodes have CPUs and memory and come and go; the scheduler places waiting chunks in any order, as Ray does; simulations
have a run time and a peak; a chunk in which one exceeds its limit is killed. Knows nothing of the core but its events
and actions, and measures what they lead to: makespan, tries, waiting, and whether the guards fired.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelops_ray.core.events import (
    CancelChunk,
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    Event,
    Finish,
    Node,
    PartCommitted,
    Segment,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.report import Cause, ChunkReport, Measured
from modelops_ray.core.state import RunState
from modelops_ray.errors import PayloadLostError
from modelops_ray.study.chunk import Chunk, Payload

TICK_S = 5.0
COMMIT_S = 0.1
CHUNK_S = 0.002
BASE_BYTES = 100 * 2**20


@dataclass(slots=True)
class SimulatedNode:
    """A node and what is free of it."""

    index: int
    cpus: float
    memory_bytes: int
    free_cpus: float = 0.0
    free_bytes: int = 0
    running: set[int] = field(default_factory=set)
    is_there: bool = True
    is_open: bool = True

    def __post_init__(self) -> None:
        self.free_cpus, self.free_bytes = self.cpus, self.memory_bytes

    def fits(self, cpus: float, request_bytes: int) -> bool:
        """Whether a task of this size can start now."""
        return self.is_there and self.free_cpus >= cpus and self.free_bytes >= request_bytes


@dataclass(frozen=True, slots=True)
class Workload:
    """Simulations by position: seconds and peak bytes of each, and how many replicates a parameter set has."""

    seconds: Sequence[float]
    peaks: Sequence[int]
    replicates: int

    def segments(self, batch: int = 4096) -> Iterator[tuple[Segment, ...]]:
        """Yield the parameter sets in batches, as the driver feeds them."""
        n, r = len(self.seconds), self.replicates
        segments = [Segment(i, i * r, min(n, i * r + r)) for i in range(-(-n // r))]
        for start in range(0, len(segments), batch):
            yield tuple(segments[start : start + batch])


@dataclass(slots=True)
class Result:
    """What a simulated run came to."""

    finish: Finish
    makespan_s: float
    n_events: int
    longest_wait_s: float
    slots_needed_s: float


class SimulatedNodes:
    """Nodes, what runs on them and what waits for them; a subclass says who is told of what happens."""

    def __init__(
        self,
        workload: Workload,
        nodes: Sequence[tuple[float, int]],
        *,
        cpus: float = 1.0,
        seed: int = 0,
        announce: bool = True,
    ) -> None:
        """Make the nodes, each of some CPUs and bytes; a simulation asks for `cpus`."""
        self.workload = workload
        self.nodes = [SimulatedNode(i, cpus, memory) for i, (cpus, memory) in enumerate(nodes)]
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.waiting: dict[tuple[int, int], deque[SubmitChunk]] = {}
        self.submitted_s: dict[int, float] = {}
        self.placed: dict[int, tuple[SubmitChunk, SimulatedNode]] = {}
        self.announce = announce
        self.longest_wait_s = 0.0
        self._serial = 0
        self._open = list(self.nodes)
        self._cpus = cpus

    def _tell(self, event: Event) -> None:
        """Let the run know."""
        raise NotImplementedError

    def _feed_more(self) -> None:
        """A chunk ended: let simulations come that the run has room for, where that is this side's to do."""

    def at(self, time_s: float, what: Callable[..., None], *args: Any) -> None:
        """Let something happen at a virtual time."""
        self._serial += 1
        heapq.heappush(self.events, (time_s, self._serial, what, args))

    def capacity(self) -> Capacity:
        """What the nodes that are there hold."""
        return Capacity(tuple(Node(n.cpus, n.memory_bytes) for n in self.nodes if n.is_there))

    def lose(self, index: int, address: str = "") -> None:
        """A node dies with everything that runs on it; `address` is what is told of where it was."""
        node = self.nodes[index]
        node.is_there = False
        for chunk_id in sorted(node.running):
            del self.placed[chunk_id]
            lost = ChunkFailed(self.now_s, chunk_id, Cause.NODE_LOST, "NodeDiedError", "its node died", address=address)
            self._tell(lost)
        node.running.clear()
        self._tell(CapacityChanged(self.now_s, self.capacity()))

    def gain(self, cpus: float, memory_bytes: int) -> None:
        """A node joins."""
        self.nodes.append(SimulatedNode(len(self.nodes), cpus, memory_bytes))
        self._open.append(self.nodes[-1])
        self._tell(CapacityChanged(self.now_s, self.capacity()))
        self._fill(self.nodes[-1])

    def _submit(self, chunk: SubmitChunk) -> None:
        self.submitted_s[chunk.chunk_id] = self.now_s
        line = self.waiting.setdefault((chunk.request_bytes, chunk.width), deque())
        node = None if line else self._find(chunk)
        if node is None:
            line.append(chunk)
        else:
            self._place(chunk, node)

    def _cpus_of(self, chunk: SubmitChunk) -> float:
        return self._cpus * chunk.width

    def _find(self, chunk: SubmitChunk) -> SimulatedNode | None:
        at = int(self.rng.random() * len(self._open))
        for _ in range(len(self._open)):
            at = at % len(self._open)
            node = self._open[at]
            if node.fits(self._cpus_of(chunk), chunk.request_bytes):
                return node
            if node.fits(self._cpus, 0):
                at += 1
                continue
            node.is_open = False
            self._open[at] = self._open[-1]
            self._open.pop()
        return None

    def _fill(self, node: SimulatedNode) -> None:
        """Place what waits on a node that has something free, sizes in random order."""
        lines = [line for line in self.waiting.values() if line]
        if len(lines) > 1:
            self.rng.shuffle(lines)
        for line in lines:
            while line and node.fits(self._cpus_of(line[0]), line[0].request_bytes):
                self._place(line.popleft(), node)

    def _place(self, chunk: SubmitChunk, node: SimulatedNode) -> None:
        node.free_cpus -= self._cpus_of(chunk)
        node.free_bytes -= chunk.request_bytes
        node.running.add(chunk.chunk_id)
        self.placed[chunk.chunk_id] = (chunk, node)
        self.longest_wait_s = max(self.longest_wait_s, self.now_s - self.submitted_s.pop(chunk.chunk_id))
        if self.announce and chunk.announce:
            self.at(self.now_s + 0.5, self._started, chunk.chunk_id)
        self._begin(chunk, node)

    def _begin(self, chunk: SubmitChunk, _node: SimulatedNode) -> None:
        """Decide when a chunk ends and what it comes to."""
        seconds, n_ran = CHUNK_S, 0
        for position in chunk.positions:
            seconds += self.workload.seconds[position]
            n_ran += 1
            if self.workload.peaks[position] > chunk.limit_bytes:
                break
        self.at(self.now_s + seconds, self._ended, chunk, n_ran)

    def _started(self, chunk_id: int) -> None:
        self._tell(ChunkStarted(self.now_s, chunk_id))

    def _ended(self, chunk: SubmitChunk, n_ran: int) -> None:
        placed = self.placed.pop(chunk.chunk_id, None)
        if placed is None:
            return
        node = placed[1]
        self._free(node, chunk)
        peaks = self.workload.peaks
        if peaks[chunk.positions[n_ran - 1]] > chunk.limit_bytes:
            self._tell(self._kill(chunk))
        else:
            done = tuple([Measured(p, self.workload.seconds[p], peaks[p]) for p in chunk.positions])
            report = ChunkReport(done, base_bytes=BASE_BYTES, payload_bytes=1000 * len(done))
            self._tell(ChunkFinished(self.now_s, chunk.chunk_id, report))
        self._feed_more()
        self._fill(node)

    def _kill(self, chunk: SubmitChunk) -> ChunkFailed:
        used = chunk.request_bytes + 2**20
        return ChunkFailed(self.now_s, chunk.chunk_id, Cause.OUT_OF_MEMORY, "OutOfMemoryError", "killed", used)

    def _free(self, node: SimulatedNode, chunk: SubmitChunk) -> None:
        node.running.discard(chunk.chunk_id)
        node.free_cpus += self._cpus_of(chunk)
        node.free_bytes += chunk.request_bytes
        if not node.is_open and node.is_there:
            node.is_open = True
            self._open.append(node)

    def _cancel(self, chunk_id: int) -> None:
        placed = self.placed.pop(chunk_id, None)
        if placed is not None:
            self._free(placed[1], placed[0])
            return
        for line in self.waiting.values():
            for chunk in list(line):
                if chunk.chunk_id == chunk_id:
                    line.remove(chunk)


class Cluster(SimulatedNodes):
    """Runs one workload on some nodes, deciding with a `RunState`."""

    def __init__(
        self,
        state: RunState,
        workload: Workload,
        nodes: Sequence[tuple[float, int]],
        *,
        seed: int = 0,
        announce: bool = True,
    ) -> None:
        super().__init__(workload, nodes, cpus=state.policy.cpus, seed=seed, announce=announce)
        self.state = state
        self.finish: Finish | None = None
        self._n_events = 0
        self._feed = workload.segments()

    def run(self, limit_s: float = 1e9) -> Result:
        """Run to the end, in virtual time."""
        self._tell(CapacityChanged(self.now_s, self.capacity()))
        self._feed_more()
        self.at(TICK_S, self._tick)
        while self.finish is None and self.events:
            self.now_s, _, what, args = heapq.heappop(self.events)
            if self.now_s > limit_s:
                raise AssertionError(f"not finished after {limit_s} virtual seconds")
            what(*args)
        assert self.finish is not None, "the run never ended"
        busy = sum(self.workload.seconds)
        return Result(self.finish, self.now_s, self._n_events, self.longest_wait_s, busy)

    def _tick(self) -> None:
        self._tell(Ticked(self.now_s))
        self.at(self.now_s + TICK_S, self._tick)

    def _tell(self, event: Event) -> None:
        self._n_events += 1
        for action in self.state.handle(event):
            match action:
                case SubmitChunk():
                    self._submit(action)
                case WritePart():
                    self.at(self.now_s + COMMIT_S, self._committed, action)
                case CancelChunk():
                    self._cancel(action.chunk_id)
                case Finish():
                    self.finish = action

    def _feed_more(self) -> None:
        while self.state.wants_tasks:
            batch = next(self._feed, ())
            self._tell(TasksAdded(self.now_s, batch, last=not batch))

    def _committed(self, write: WritePart) -> None:
        self._tell(PartCommitted(self.now_s, write.chunk_ids))


class SimulatedBackend(SimulatedNodes):
    """The nodes as the driver sees them: a backend in virtual time, which passes while the driver waits for it.

    `run_chunk` makes the outputs of a chunk in which no simulation exceeded its limit.
    """

    def __init__(
        self,
        workload: Workload,
        nodes: Sequence[tuple[float, int]],
        run_chunk: Callable[[Chunk], Payload],
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(workload, nodes, seed=seed)
        self._run_chunk = run_chunk
        self._chunks: dict[int, Chunk] = {}
        self._payloads: dict[int, Payload] = {}
        self._told: list[Event] = []

    def clock(self) -> float:
        """Read the virtual time, in seconds from 0."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass, with all that happens in it."""
        until_s = self.now_s + seconds
        while self.events and self.events[0][0] <= until_s:
            self._step()
        self.now_s = max(self.now_s, until_s)

    def submit(self, chunk: Chunk) -> None:
        """Place a chunk, or let it wait for a node."""
        self._chunks[chunk.chunk_id] = chunk
        positions = tuple(simulation.position for simulation in chunk.simulations)
        self._submit(
            SubmitChunk(
                chunk.chunk_id, positions, chunk.attempts, chunk.request_bytes, chunk.limit_bytes,
                announce=chunk.announce, width=chunk.width, enough_s=chunk.enough_s,
            )
        )  # fmt: skip

    def cancel(self, chunk_id: int) -> None:
        """Forget a chunk."""
        self._chunks.pop(chunk_id, None)
        self._payloads.pop(chunk_id, None)
        self._cancel(chunk_id)
        self._told = [event for event in self._told if getattr(event, "chunk_id", None) != chunk_id]

    def wait(self, timeout_s: float) -> list[Event]:
        """Let time pass until something has happened to a chunk."""
        until_s = self.now_s + timeout_s
        while not self._told and self.events and self.events[0][0] <= until_s:
            self._step()
        if not self._told:
            self.now_s = max(self.now_s, until_s)
        told, self._told = self._told, []
        return told

    def take(self, chunk_id: int) -> Payload:
        """Hand out a payload once."""
        try:
            return self._payloads.pop(chunk_id)
        except KeyError:
            raise PayloadLostError(f"the outputs of chunk {chunk_id} are gone; it has to run again") from None

    def forget(self, share: float) -> None:
        """Lose the payloads of about this share of the chunks that ended."""
        for chunk_id in list(self._payloads):
            if self.rng.random() < share:
                del self._payloads[chunk_id]

    def spilled_bytes(self) -> int:
        """Return 0: there is no disk here."""
        return 0

    def close(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._payloads.clear()

    def _step(self) -> None:
        at_s, _, what, args = heapq.heappop(self.events)
        self.now_s = max(self.now_s, at_s)
        what(*args)

    def _tell(self, event: Event) -> None:
        match event:
            case ChunkFinished(chunk_id=chunk_id):
                self._payloads[chunk_id] = self._run_chunk(self._chunks.pop(chunk_id))
            case ChunkFailed(chunk_id=chunk_id):
                del self._chunks[chunk_id]
            case CapacityChanged():
                return  # the driver asks
        self._told.append(event)
