"""The story of a run: its last events, what was decided on each, and what was known then. Always on, and bounded.

Owns the record and the search for what concerns one simulation. Decides nothing and writes no sentences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from modelops_ray.core.events import (
    Action,
    CancelChunk,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    Event,
    PartCommitted,
    PayloadLost,
    SubmitChunk,
    TasksAdded,
)
from modelops_ray.core.retry import Judgement
from modelops_ray.core.scheduler import Dispatch

ENTRIES_KEPT = 500
"""Events that are kept at most: few enough to stay in a processor's cache, as each event is decided."""
ITEMS_KEPT = 100_000
"""Simulations, parameter sets and nodes that all kept events together may name: about 15 MB."""
TROUBLED_KEPT = 1_000
"""Simulations with failed attempts whose judgements are kept after their events are gone."""
JUDGEMENTS_KEPT = 16
"""Judgements kept of each of these."""


class Known(NamedTuple):
    """What was known after an event, when it was decided; sizes in bytes.

    Simulations that wait, chunks in flight, peaks measured and the highest of them, bytes that wait to be committed,
    and the part of its size that the window had.
    """

    n_pending: int
    n_outstanding: int
    n_measured: int
    peak_bytes_max: int
    unwritten_bytes: int
    window_factor: float

    @classmethod
    def of(cls, dispatch: Dispatch, unwritten_bytes: int) -> Known:
        """Take it down."""
        memory = dispatch.memory
        n_pending, n_outstanding = dispatch.pending.n, len(dispatch.outstanding)
        peaks = memory.n_samples, memory.peak_bytes_max
        return cls(n_pending, n_outstanding, *peaks, unwritten_bytes, dispatch.window.factor)


class Step(NamedTuple):
    """One step of the story of a simulation: an event, a judgement or an action, and what was known then."""

    now_s: float
    what: Event | Judgement | Action
    known: Known


_Entry = tuple[Event, Sequence[Judgement], Sequence[Action], Known, int]
"""An event, what was decided on it and known then, and how many items it names; a tuple, for it is made at each."""


@dataclass(slots=True)
class Story:
    """The last events of a run; of simulations in trouble also what was decided on them before that."""

    _entries: deque[_Entry] = field(default_factory=deque)
    _n_items: int = 0
    _serial: int = 0
    _troubled: dict[int, deque[tuple[int, Step]]] = field(default_factory=dict)

    def note(self, event: Event, judgements: Sequence[Judgement], actions: Sequence[Action], known: Known) -> None:
        """Keep an event and what was decided on it, in place of the oldest one."""
        self._serial += 1
        n_items = _n_items(event, actions)
        self._entries.append((event, judgements, actions, known, n_items))
        self._n_items += n_items
        while len(self._entries) > ENTRIES_KEPT or (self._n_items > ITEMS_KEPT and len(self._entries) > 1):
            self._n_items -= self._entries.popleft()[-1]
        for judgement in judgements:
            if len(judgement.positions) == 1:
                self._keep(judgement.positions[0], Step(event.now_s, judgement, known))

    def _keep(self, position: int, step: Step) -> None:
        # The simulation that was judged last goes last.
        steps = self._troubled.pop(position, None) or deque(maxlen=JUDGEMENTS_KEPT)
        steps.append((self._serial, step))
        self._troubled[position] = steps
        if len(self._troubled) > TROUBLED_KEPT:
            del self._troubled[next(iter(self._troubled))]

    def last(self, n: int) -> list[tuple[Event, Sequence[Action]]]:
        """The last `n` events and what was done on each, oldest first."""
        return [(event, actions) for event, _, actions, *_ in list(self._entries)[-n:]]

    def of(self, position: int) -> list[Step]:
        """What is kept of one simulation, oldest first."""
        first = self._serial - len(self._entries) + 1
        earlier = [step for serial, step in self._troubled.get(position, ()) if serial < first]
        chunk_ids: set[int] = set()
        return earlier + list(chain.from_iterable(_steps(entry, position, chunk_ids) for entry in self._entries))


def _steps(entry: _Entry, position: int, chunk_ids: set[int]) -> Iterator[Step]:
    """What an entry says of a simulation; `chunk_ids` are the chunks it was in, and grows with each."""
    event, judgements, actions, known, _ = entry
    now_s = event.now_s
    if chunk_ids & _chunks_of(event):
        yield Step(now_s, event, known)
    for judgement in judgements:
        if position in judgement.positions:
            yield Step(now_s, judgement, known)
    for action in actions:
        if isinstance(action, SubmitChunk) and position in action.positions:
            chunk_ids.add(action.chunk_id)
            yield Step(now_s, action, known)
        elif isinstance(action, CancelChunk) and action.chunk_id in chunk_ids:
            yield Step(now_s, action, known)


def _chunks_of(event: Event) -> set[int]:
    match event:
        case ChunkStarted() | ChunkFinished() | ChunkFailed() | PayloadLost():
            return {event.chunk_id}
        case PartCommitted():
            return set(event.chunk_ids)
        case _:
            return set()


def _n_items(event: Event, actions: Sequence[Action]) -> int:
    """About what an entry takes in memory: the simulations, parameter sets and nodes that it names."""
    n = 0
    for action in actions:
        if isinstance(action, SubmitChunk):
            n += len(action.positions)
    if isinstance(event, ChunkFinished):
        n += len(event.report.completed)
        for failure in event.report.failures:
            # A hundred bytes of text count as one simulation.
            n += failure.text_bytes // 100
    elif isinstance(event, TasksAdded):
        n += len(event.segments)
    elif isinstance(event, CapacityChanged):
        n += len(event.capacity.nodes) + len(event.capacity.reachable)
    return n
