"""What a run needs of the world outside: the five ports that the driver is handed.

Owns what each port promises, and no behaviour. What reads a clock, draws a random name, waits, or starts a thread or a
process is an adapter behind one of them: the backends, `committer.CommitThread`, the observer of pods, the display.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from modelops_ray.core.events import Capacity, Event, Node, Segment, WritePart
from modelops_ray.core.forecast import Forecast
from modelops_ray.core.view import View
from modelops_ray.study.chunk import Chunk, Payload, Simulation


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


class Backend(Protocol):
    """Runs chunks somewhere. Used by one thread, except `take`, which the committing thread calls."""

    def capacity(self) -> Capacity:
        """Look at the cluster. Cheap enough for every 5 seconds."""

    def submit(self, chunk: Chunk) -> None:
        """Start a chunk; never blocks, never raises for what goes wrong with the chunk itself."""

    def cancel(self, chunk_id: int) -> None:
        """Forget a chunk; no event about it is returned afterwards. An unknown chunk is ignored."""

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what happened, in chunk order, waiting at most `timeout_s` for the first; [] if nothing did."""

    def take(self, chunk_id: int) -> Payload:
        """Hand out the payload of a finished chunk, once, and let go of it; PayloadLostError if it no longer exists."""

    def spilled_bytes(self) -> int:
        """How many bytes of payloads went to disk so far because memory was short."""

    def close(self) -> None:
        """End everything this backend started; nothing of it survives. May be called twice."""


class Committer(Protocol):
    """Makes results and failures durable, one commit at a time, and tells the next session that this one lives.

    Reads nothing of the run but what each call hands to it.
    """

    def submit(self, write: WritePart, snapshot: Snapshot) -> None:
        """Begin a commit; what became of it comes through `poll`."""

    def update(self, snapshot: Snapshot) -> None:
        """Let the next heartbeats show this; called at every turn of the driver, never blocks."""

    def poll(self, timeout_s: float = 0.0) -> list[Event]:
        """Return what became of one commit, waiting at most `timeout_s` for it; [] if none ended.

        ModelopsRayError if a commit or a heartbeat failed, at every later call too. Any other error is a bug.
        """


@dataclass(frozen=True, slots=True)
class Segments:
    """Simulations that are to run: positions of a source, by parameter set."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class NotYet:
    """A source has nothing to run now; it may have something later."""


@dataclass(frozen=True, slots=True)
class TheEnd:
    """A source has handed out everything that it will ever have."""


Supply = Segments | NotYet | TheEnd


class Source(Protocol):
    """Where the simulations of a run come from."""

    def next(self) -> Supply:
        """Return what is to run next; never waits. After `TheEnd` it is not called again."""

    def take(self, positions: Sequence[int]) -> tuple[Simulation, ...]:
        """Return the simulations at these positions, which `next` handed out before."""


class Observer(Protocol):
    """Watches what Ray does not tell: the machines, or pods, behind its nodes."""

    def poll(self, now_s: float) -> list[Event]:
        """Return what happened since the last call, as of now; never waits."""

    def reachable(self) -> tuple[Node, ...]:
        """List the nodes there could be once everything has scaled; () where that is not known."""


class Watcher(Protocol):
    """Is told how a session goes, from one thread, often; must be quick."""

    def note(self, text: str) -> None:
        """One sentence worth a line."""

    def update(self, snapshot: Snapshot) -> None:
        """The run at this moment."""

    def planned(self, expected: Forecast) -> None:
        """What a large study will take, once the first simulations were measured."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside of it that a driver works with.

    `clock` is in seconds, monotonic. `observer` is None where only the backend tells of nodes.
    """

    backend: Backend
    committer: Committer
    source: Source
    watcher: Watcher
    clock: Callable[[], float]
    observer: Observer | None = None
