"""The story of a run: its last events, what was decided on each, and what was known then. Always on, and bounded.

Owns the record and the search for what concerns one simulation. Decides nothing and writes no sentences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from modelops_ray.core.events import (
    Action,
    CancelChunk,
    ChunkFailed,
    ChunkFinished,
    ChunkStarted,
    Event,
    PartCommitted,
    PayloadLost,
    SubmitChunk,
)
from modelops_ray.core.retry import Judgement

ENTRIES_KEPT = 500
"""Places for events: few enough to stay in a processor's cache, as each event is decided."""
ITEMS_PER_PLACE = 200
"""An event takes one more place for each 200 simulations, parameter sets or nodes that it names.

So all kept events together name at most 100,000 (about 15 MB), and simulations that wait to be committed.
"""
TROUBLED_KEPT = 1_000
"""Simulations with failed attempts whose judgements are kept after their events are gone."""
JUDGEMENTS_KEPT = 16
"""Judgements kept of each of these."""

Decision = Judgement | Action


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


class Step(NamedTuple):
    """One step of the story of a simulation: an event, a judgement or an action, and what was known then."""

    now_s: float
    what: Event | Decision
    known: Known


class Entry(NamedTuple):
    """An event, what was decided on it, judgements first, and what was known then."""

    event: Event
    decided: Sequence[Decision]
    known: Known


_Kept = tuple[Event, Decision | Sequence[Decision], int, int, int, int, int, float]
"""An entry as it is kept: a decision alone is in no list, and the fields of `Known` follow.

One is made at each event, and each object that is kept costs more than the noting does: its memory is not used again
while it is in the processor's cache.
"""


class Story:
    """The last events of a run; of simulations in trouble also what was decided on them before that.

    `note` keeps an event in the place of the oldest one.
    """

    __slots__ = ("_places", "_troubled", "note")

    def __init__(self) -> None:
        """Begin with nothing noted."""
        self._places: deque[_Kept | None] = deque(maxlen=ENTRIES_KEPT)
        self._troubled: dict[int, deque[Step]] = {}
        self.note: Callable[[_Kept], None] = self._places.append

    def make_room(self, n_items: int) -> None:
        """Forget older events where this many simulations, parameter sets or nodes were, or are to be, noted."""
        self._places.extend([None] * (n_items // ITEMS_PER_PLACE))

    def keep_judged(self) -> None:
        """Keep what was decided last on single simulations for longer than the event is kept."""
        [entry] = self.last(1)
        for judgement in entry.decided:
            if isinstance(judgement, Judgement) and len(judgement.positions) == 1:
                [position] = judgement.positions
                # The simulation that was judged last goes last.
                steps = self._troubled.pop(position, None) or deque(maxlen=JUDGEMENTS_KEPT)
                steps.append(Step(entry.event.now_s, judgement, entry.known))
                self._troubled[position] = steps
        while len(self._troubled) > TROUBLED_KEPT:
            del self._troubled[next(iter(self._troubled))]

    def last(self, n: int) -> list[Entry]:
        """The last `n` events and what was decided on each, oldest first."""
        kept = list(islice((place for place in reversed(self._places) if place is not None), n))
        return [Entry(e, d if isinstance(d, Sequence) else [d], Known._make(known)) for e, d, *known in reversed(kept)]

    def of(self, position: int) -> list[Step]:
        """What is kept of one simulation, oldest first."""
        entries, chunk_ids = self.last(ENTRIES_KEPT), set[int]()
        told = {id(decision) for entry in entries for decision in entry.decided}
        earlier = [step for step in self._troubled.get(position, ()) if id(step.what) not in told]
        return earlier + [step for entry in entries for step in _steps(entry, position, chunk_ids)]


def _steps(entry: Entry, position: int, chunk_ids: set[int]) -> Iterator[Step]:
    """What an entry says of a simulation; `chunk_ids` are the chunks it was in, and grows with each."""
    event, decided, known = entry
    if chunk_ids & _chunks_of(event):
        yield Step(event.now_s, event, known)
    for decision in decided:
        match decision:
            case Judgement() | SubmitChunk() if position in decision.positions:
                if isinstance(decision, SubmitChunk):
                    chunk_ids.add(decision.chunk_id)
                yield Step(event.now_s, decision, known)
            case CancelChunk() if decision.chunk_id in chunk_ids:
                yield Step(event.now_s, decision, known)


def _chunks_of(event: Event) -> set[int]:
    match event:
        case ChunkStarted() | ChunkFinished() | ChunkFailed() | PayloadLost():
            return {event.chunk_id}
        case PartCommitted():
            return set(event.chunk_ids)
        case _:
            return set()
