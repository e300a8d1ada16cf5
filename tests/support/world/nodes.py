"""The cluster of one session, in the time of the world: nodes that come and go, and simulations that fail.

Owns what becomes of each attempt, and keeps what it knows of it, for the world to compare with what the program says.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from support.simulated_cluster import SimulatedBackend, SimulatedNode, Workload
from support.world.turns import Turns

from modelops_ray.core.events import Capacity, ChunkFailed, ChunkFinished, Event, Node, PodDied, SubmitChunk
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.errors import PayloadLostError
from modelops_ray.study.chunk import Chunk, Payload

MIB = 2**20
BASE_BYTES = 100 * MIB
DRAINED_S = (1.0, 20.0)
"""So long a node that drains still works on what it has."""
EARLY = 0.2
"""The share of chunks that end before they have reached their last simulation."""


@dataclass(slots=True)
class Fates:
    """What becomes of each simulation, by position: seconds, peak bytes, whether the model raises, how often it dies.

    Those that are `hopeless` die each time.

    `deaths` are those that are still to come. `ended` says as what each attempt ended that gave no result, and at which
    address if a node was lost, by position and number: in several ways, where a session was killed before it committed
    that.
    """

    seconds: Sequence[float]
    peaks: Sequence[int]
    raising: frozenset[int] = frozenset()
    hopeless: frozenset[int] = frozenset()
    deaths: dict[int, int] = field(default_factory=dict)
    ended: defaultdict[tuple[int, int], set[tuple[Cause, str]]] = field(default_factory=lambda: defaultdict(set))


class WorldBackend(SimulatedBackend):
    """Behind `Backend`, for one session: its time is the world's, and passes for all while it waits."""

    def __init__(
        self,
        turns: Turns,
        fates: Fates,
        nodes: Sequence[tuple[float, int]],
        outputs: Callable[[Chunk], Payload],
        met: Counter[str],
        *,
        seed: int,
    ) -> None:
        """Make the nodes, each of some CPUs and bytes."""
        self._turns, self._fates, self._met = turns, fates, met
        self._tries: dict[int, dict[int, int]] = {}
        self._reached: dict[int, Sequence[int]] = {}
        self._finished_s: dict[int, float] = {}
        self.longest_wait_for_commit_s = 0.0
        self.window: int | None = None
        self.attempts = 0
        self.pods_die = False
        self._dead_pods: list[Event] = []
        self._crashes: Counter[int] = Counter()
        self._leaving: set[int] = set()
        self._address_of: dict[int, str] = {}
        super().__init__(Workload(fates.seconds, fates.peaks, 1), nodes, outputs, seed=seed)

    @property
    def now_s(self) -> float:
        """The time of the world."""
        return self._turns.now_s

    @now_s.setter
    def now_s(self, _: float) -> None:
        """It passes by itself."""

    def sleep(self, seconds: float) -> None:
        """Let time pass, with all that happens in it."""
        self._turns.sleep(seconds)
        self._catch_up()

    def capacity(self) -> Capacity:
        """What can be placed on; as Ray tells it, a node that drains is no part of it."""
        there = [node for node in self.nodes if node.is_there and node.index not in self._leaving]
        return Capacity(tuple(Node(node.cpus, node.memory_bytes) for node in there))

    def staying(self) -> list[int]:
        """The nodes that are there and do not drain."""
        return [node.index for node in self.nodes if node.is_there and node.index not in self._leaving]

    def drain(self, index: int, seconds: float) -> None:
        """A node takes nothing new, and goes after some seconds with what still runs there."""
        self._leaving.add(index)
        # Then nothing fits, whatever ends.
        self.nodes[index].free_cpus -= 1000.0
        self.at(self.now_s + seconds, self.lose, index)

    def lose(self, index: int, address: str = "") -> None:
        """A node that is there dies, with everything that runs on it."""
        if not self.nodes[index].is_there:
            return
        address = address or self.address_of(index)
        if self.pods_die:
            self._met["pod_died"] += 1
            is_memory = self.rng.random() < 0.5
            self._dead_pods.append(PodDied(self.now_s, address, said_of(address), is_memory))
        super().lose(index, address)

    def poll(self, _now_s: float) -> list[Event]:
        """What is known of pods, as an observer of the cluster tells it."""
        told, self._dead_pods = self._dead_pods, []
        return told

    def reachable(self) -> tuple[Node, ...]:
        """What could come is not known."""
        return ()

    def come_back(self, index: int) -> None:
        """A node that was lost comes again, as another one with its address."""
        node = self.nodes[index]
        self._address_of[len(self.nodes)] = self.address_of(index)
        self.gain(node.cpus, node.memory_bytes)

    def address_of(self, index: int) -> str:
        """Where a node is; one that came back is where it was."""
        return self._address_of.get(index, f"10.0.0.{index}")

    def submit(self, chunk: Chunk) -> None:
        """Place a chunk, or let it wait for a node."""
        self._tries[chunk.chunk_id] = tries_of(chunk)
        n_outstanding = len(self._chunks) + 1
        assert self.window is None or n_outstanding <= self.window, f"{n_outstanding} chunks, window {self.window}"
        super().submit(chunk)

    def take(self, chunk_id: int) -> Payload:
        """Hand out a payload once."""
        waited_s = self.now_s - self._finished_s[chunk_id]
        self.longest_wait_for_commit_s = max(waited_s, self.longest_wait_for_commit_s)
        try:
            return super().take(chunk_id)
        except PayloadLostError:
            tries, fates = self._tries[chunk_id], self._fates
            lost = [(at, tries[at]) for at in self._reached[chunk_id] if at not in fates.raising]
            self._ended_as(lost, Cause.WORKER_LOST)
            raise

    def wait(self, timeout_s: float) -> list[Event]:
        """Let time pass until something has happened to a chunk."""
        until_s = self.now_s + timeout_s
        self._catch_up()
        while not self._told and self.now_s < until_s:
            next_s = min(until_s, self.events[0][0] if self.events else until_s)
            self._turns.sleep(max(0.0, next_s - self.now_s))
            self._catch_up()
        told, self._told = self._told, []
        for event in told:
            self._take_down(event)
        return told

    def _take_down(self, event: Event) -> None:
        match event:
            case ChunkFailed():
                self._ended_as(self._tries[event.chunk_id].items(), event.cause, event.address)
            case ChunkFinished():
                tries = self._tries[event.chunk_id]
                self._finished_s[event.chunk_id] = self.now_s
                for failure in event.report.failures:
                    self._ended_as([(failure.position, tries[failure.position])], failure.cause)

    def _ended_as(self, attempts: Iterable[tuple[int, int]], cause: Cause, address: str = "") -> None:
        for attempt in attempts:
            self._fates.ended[attempt].add((cause, address))

    def _catch_up(self) -> None:
        while self.events and self.events[0][0] <= self.now_s:
            _, _, what, args = heapq.heappop(self.events)
            what(*args)

    def _begin(self, chunk: SubmitChunk, _node: SimulatedNode) -> None:
        seconds, n_ran = 0.002, 0
        for position in chunk.positions:
            seconds += self._fates.seconds[position]
            n_ran += 1
            if self._fates.peaks[position] > chunk.limit_bytes or self._fates.deaths.get(position):
                break
        self.at(self.now_s + seconds, self._ended, chunk, n_ran)

    def _ended(self, chunk: SubmitChunk, n_ran: int) -> None:
        placed = self.placed.pop(chunk.chunk_id, None)
        if placed is None:
            return
        self._free(placed[1], chunk)
        self._tell(self._outcome(chunk, n_ran))
        self._fill(placed[1])

    def _outcome(self, chunk: SubmitChunk, n_ran: int) -> ChunkFailed | ChunkFinished:
        last, fates = chunk.positions[n_ran - 1], self._fates
        if fates.peaks[last] > chunk.limit_bytes:
            self._met["out_of_memory"] += 1
            return self._kill(chunk)
        if fates.deaths.get(last):
            fates.deaths[last] -= 1
            self._met["hopeless" if last in fates.hopeless else "crashed"] += 1
            self._crashes[last] += len(chunk.positions) == 1
            assert self._crashes[last] <= self.attempts, (
                f"simulation {last} crashes alone a {self._crashes[last]}th time"
            )
            return ChunkFailed(self.now_s, chunk.chunk_id, Cause.CRASHED, "SIGSEGV", "it crashed")
        reached = chunk.positions
        if len(reached) > 1 and self.rng.random() < EARLY:
            reached = reached[: self.rng.randint(1, len(reached) - 1)]
        self._reached[chunk.chunk_id] = reached
        done = [position for position in reached if position not in fates.raising]
        failed = [position for position in reached if position in fates.raising]
        self._met["model_error"] += bool(failed)
        report = ChunkReport(
            tuple(Measured(position, fates.seconds[position], fates.peaks[position]) for position in done),
            tuple(Failure(position, Cause.MODEL_ERROR, "ValueError", f"no luck at {position}") for position in failed),
            base_bytes=BASE_BYTES,
            payload_bytes=1000 * len(done),
        )
        return ChunkFinished(self.now_s, chunk.chunk_id, report)


def said_of(address: str) -> str:
    """What is told of a pod that died."""
    return f"the pod of {address} died"


def reached_of(backend: WorldBackend, chunk: Chunk) -> list[int]:
    """The simulations that a chunk which has finished has reached, in order."""
    return list(backend._reached[chunk.chunk_id])


def tries_of(chunk: Chunk) -> dict[int, int]:
    """Which try this is of each simulation, by position."""
    return {each.position: n for each, n in zip(chunk.simulations, chunk.attempts, strict=True)}
