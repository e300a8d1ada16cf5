"""What must hold after every event, as code: `CheckedRun` is a `RunState` that looks at itself. Slow; for tests.

Positions are counted always and compared one by one while a run is small. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from modelops_ray.core import events
from modelops_ray.core.events import Action, Event
from modelops_ray.core.report import FailedAttempts, Follows
from modelops_ray.core.state import RunState

_SMALL = 2000
_TOLD = 12


class InvariantError(AssertionError):
    """The state contradicts itself: a bug of ours. Carries the last events."""


@dataclass(slots=True)
class Audit:
    """Follows a state from outside. `attempts` has (position, number, what follows) of each in a commit that began."""

    added: set[int] = field(default_factory=set)
    committed: set[int] = field(default_factory=set)
    n_added: int = 0
    attempts: list[tuple[int, int, Follows]] = field(default_factory=list)

    def check(self, state: RunState, event: Event, actions: list[Action]) -> None:
        """Raise InvariantError if anything is wrong after this event."""
        if isinstance(event, events.Ticked) and not actions:
            return
        if isinstance(event, events.TasksAdded):
            self.n_added += sum(s.stop - s.start for s in event.segments)
            if self.n_added <= _SMALL:
                self.added.update(chain.from_iterable(range(s.start, s.stop) for s in event.segments))
        self._counts(state)
        self._submissions(state, actions)
        self._attempts(state, actions)
        if self.n_added <= _SMALL:
            self._positions(state, event)
        if any(isinstance(a, events.Finish) for a in actions) and (
            state.dispatch.outstanding or state.journal.unwritten or state.journal.writing
        ):
            self._fail(state, "finished with chunks outstanding or unwritten")

    def _counts(self, state: RunState) -> None:
        in_flight = sum(len(c.group.positions) for c in state.dispatch.outstanding.values())
        unwritten = sum(len(u.group.positions) for u in state.journal.unwritten.values())
        waiting_failures = len(state.journal.failures) + (
            len(state.journal.writing.failures) if state.journal.writing else 0
        )
        total = state.dispatch.pending.n + in_flight + unwritten + waiting_failures + state.counters.committed
        if total != self.n_added:
            self._fail(state, f"{self.n_added} simulations were added and {total} are accounted for")
        if state.counters.completed + state.counters.failed > self.n_added:
            self._fail(state, "more results than simulations")
        journal = state.journal
        failures = chain(journal.failures, journal.writing.failures if journal.writing else ())
        payload_bytes = sum(unwritten.payload_bytes for unwritten in journal.unwritten.values())
        attempts = chain(journal.attempts, journal.writing.attempts if journal.writing else ())
        told_bytes = sum(f.text_bytes for f in failures) + sum(a.size_bytes for a in attempts)
        if journal.unwritten_bytes != payload_bytes + told_bytes:
            self._fail(state, "the bytes that wait to be committed are counted wrongly")

    def _submissions(self, state: RunState, actions: list[Action]) -> None:
        submitted = [a for a in actions if isinstance(a, events.SubmitChunk)]
        if len(state.dispatch.allocator.sizes.in_use) > state.policy.request_sizes:
            self._fail(state, f"{len(state.dispatch.allocator.sizes.in_use)} request sizes in use")
        top_bytes = state.dispatch.allocator.top_bytes
        for action in submitted:
            if action.request_bytes > top_bytes:
                self._fail(state, f"a request of {action.request_bytes} is above the largest node ({top_bytes})")
        if submitted:
            n_most = max(1, state.dispatch.window.size_at(min(state.dispatch.allocator.sizes.in_use)))
            if len(state.dispatch.outstanding) > n_most:
                self._fail(state, f"{len(state.dispatch.outstanding)} chunks outstanding, window {n_most}")
        is_idle = not state.dispatch.outstanding and not state.journal.unwritten_bytes
        if state.dispatch.pending.n and is_idle and not state.is_ending:
            self._fail(state, "something is pending and nothing is outstanding or waits to be committed")

    def _attempts(self, state: RunState, actions: list[Action]) -> None:
        """Every attempt that was counted gave a result or is kept, once; a failure is committed with its last one."""
        for write in [action for action in actions if isinstance(action, events.WritePart)]:
            rows = [row for each in write.attempts for row in _rows(each)]
            self.attempts += rows
            last = {(position, number) for position, number, follows in rows if follows is Follows.FAILED}
            if last != {(failure.position, failure.attempts) for failure in write.failures}:
                self._fail(state, "the failures of a commit are not the last attempts in it")
        n_kept = len(self.attempts) + sum(len(each.positions) for each in state.journal.attempts)
        if n_kept != state.counters.attempts - state.counters.completed:
            self._fail(state, f"{n_kept} attempts without a result are kept, of {state.counters}")
        if self.n_added <= _SMALL and len({row[:2] for row in self.attempts}) != len(self.attempts):
            self._fail(state, "an attempt is kept twice")

    def _positions(self, state: RunState, event: Event) -> None:
        parts = [
            list(state.dispatch.pending.positions()),
            [p for c in state.dispatch.outstanding.values() for p in c.group.positions],
            [p for u in state.journal.unwritten.values() for p in u.group.positions],
            [f.position for f in state.journal.failures],
            [f.position for f in state.journal.writing.failures] if state.journal.writing else [],
        ]
        seen = list(chain.from_iterable(parts))
        if len(seen) != len(set(seen)):
            self._fail(state, "a simulation is in two places")
        committed = self.added - set(seen)
        if not self.committed - self._rejected(event) <= committed:
            self._fail(state, "a committed simulation came back")
        if len(committed) != state.counters.committed:
            self._fail(state, f"{len(committed)} simulations are nowhere, {state.counters.committed} were committed")
        if committed != self.committed and not isinstance(event, events.PartCommitted | events.ChunkFinished):
            self._fail(state, "a simulation was done without a commit")
        self.committed = committed

    @staticmethod
    def _rejected(event: Event) -> set[int]:
        return {f.position for f in event.rejected} if isinstance(event, events.PartCommitted) else set()

    @staticmethod
    def _fail(state: RunState, what: str) -> None:
        story = [f"{event!s:.300} -> {decided!s:.300}" for event, decided, _ in state.story.last(_TOLD)]
        raise InvariantError("\n".join([what, *story]))


def _rows(attempts: FailedAttempts) -> Iterator[tuple[int, int, Follows]]:
    for position, number in zip(attempts.positions, attempts.numbers, strict=True):
        yield position, number, attempts.follows


class CheckedRun(RunState):
    """A run that raises InvariantError where it contradicts itself; made as a `RunState`."""

    def __init__(self, *args: Any, **more: Any) -> None:
        """Begin as a `RunState` does, with the same arguments."""
        super().__init__(*args, **more)
        self._audit = Audit()

    def handle(self, event: Event) -> list[Action]:
        """Do as `RunState.handle`, and look at what it led to."""
        was_finished = self.is_finished
        actions = super().handle(event)
        if not was_finished:
            self._audit.check(self, event, actions)
        return actions
