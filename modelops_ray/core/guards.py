"""What happened so far, and guards that end a run which cannot succeed: nothing moves, or everything fails alike.

Counts and decides, never waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from modelops_ray.core.events import ChunkFailed, PodDied
from modelops_ray.core.reasons import AllFailAlike, Lacking, TooManyFailed
from modelops_ray.core.report import Cause, Failure


@dataclass(slots=True)
class Counters:
    """What happened so far, for people; `completed` and `failed` include what is not committed yet."""

    completed: int = 0
    failed: int = 0
    committed: int = 0
    attempts: int = 0
    oom_retries: int = 0
    infrastructure_retries: int = 0


ALL_PATIENCE = 10
"""Nothing may be committed for this many times as long as nothing may finish, even if simulations do finish."""


DEAD_POD_REMEMBERED_S = 600.0
"""The next pod may have the same address."""

MOST_LOST = 3
"""How often a run waits anew because something that had run for long was lost, while nothing finishes."""


@dataclass(slots=True)
class NoProgressGuard:
    """Fires when nothing finished and capacity did not grow for `patience_s`, or nothing was kept for ten times that.

    Nodes that come and go for ever look like growth, and outputs that are lost on their way like results. What was lost
    after a long time has to begin again, which is waited for a few times.
    """

    patience_s: float
    last_s: float | None = None
    kept_s: float | None = None
    best_slots: int = 0
    n_lost: int = 0

    def moved(self, now_s: float) -> None:
        """Something finished."""
        self.last_s, self.n_lost = now_s, 0

    def began(self, now_s: float) -> None:
        """Simulations came after a time in which there were none."""
        self.moved(now_s)
        self.kept(now_s)

    def lost(self, now_s: float) -> None:
        """What ran was lost and begins again."""
        if self.last_s is not None and now_s - self.last_s > self.patience_s / 3 and self.n_lost < MOST_LOST:
            self.last_s, self.n_lost = now_s, self.n_lost + 1

    def kept(self, now_s: float) -> None:
        """Something was committed."""
        self.kept_s = now_s

    def update(self, now_s: float, n_slots: int) -> None:
        """Note the capacity; growth counts as progress, a loss lowers the mark."""
        if n_slots > self.best_slots:
            self.moved(now_s)
        self.best_slots = n_slots

    def lacking(self, now_s: float) -> tuple[Lacking, float] | None:
        """What to give up for, and for how many seconds it did not happen; None while there is no reason to."""
        self.last_s = now_s if self.last_s is None else self.last_s
        self.kept_s = now_s if self.kept_s is None else self.kept_s
        if now_s - self.last_s > self.patience_s:
            return Lacking.FINISH, now_s - self.last_s
        if now_s - self.kept_s > ALL_PATIENCE * self.patience_s:
            return Lacking.COMMIT, now_s - self.kept_s
        return None


@dataclass(slots=True)
class PodGuard:
    """Ends a run whose pods die of memory again and again: the last few took more along than was completed meanwhile.

    A pod that dies now and then, while everything else goes on, costs what was on it and no more.
    """

    deaths: int = 5
    _last: deque[tuple[int, int]] = field(default_factory=deque)
    _dead: dict[str, PodDied] = field(default_factory=dict)

    def seen_from(self, event: ChunkFailed) -> ChunkFailed:
        """The end of a chunk, told as that of the pod it was on where that has died.

        Where a pod died of anything but memory, no simulation on it is to blame for using too much.
        """
        pod = self._dead.get(event.address)
        if pod is None or event.now_s - pod.now_s >= DEAD_POD_REMEMBERED_S:
            return event
        return replace(event, message=pod.sentence, excess=event.excess if pod.is_memory else ())

    def died(self, event: PodDied, counters: Counters) -> bool:
        """Take note of a pod that died, and say whether to give up."""
        if event.address:
            self._dead[event.address] = event
        if not event.is_memory:
            return False
        self._last.append((counters.completed, counters.attempts - counters.completed))
        if len(self._last) < self.deaths:
            return False
        completed, in_vain = self._last.popleft()
        n_completed = counters.completed - completed
        return n_completed <= counters.attempts - counters.completed - in_vain


SIZES = frozenset({Cause.OUT_OF_MEMORY, Cause.UNSCHEDULABLE})
"""Causes that tell of the size of these simulations and of the nodes: smaller ones may follow."""


@dataclass(slots=True)
class FailureGuard:
    """Ends a run with too many failures: by the user's number, else when the first ones all fail alike.

    Alike are those of one cause and error type, whichever these are.
    """

    max_failures: int | None
    alike: int
    n_failed: int = 0
    n_completed: int = 0
    _first: Failure | None = None
    _all_alike: bool = True

    def completed(self, n: int) -> None:
        """Count results."""
        self.n_completed += n

    def failed(self, failure: Failure) -> None:
        """Count a final failure."""
        self.n_failed += 1
        if self._first is None:
            self._first = failure
        is_alike = (failure.cause, failure.error_type) == (self._first.cause, self._first.error_type)
        if not is_alike or failure.cause in SIZES:
            self._all_alike = False

    @property
    def reason(self) -> TooManyFailed | AllFailAlike | None:
        """Why to stop, or None."""
        if self.max_failures is not None:
            return TooManyFailed(self.n_failed) if self.n_failed >= self.max_failures else None
        if self.n_completed or not self._all_alike or self._first is None or self.n_failed < self.alike:
            return None
        return AllFailAlike(self.n_failed, self._first)
