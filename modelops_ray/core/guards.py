"""Counters of a run, and guards that end one which cannot succeed: nothing finishes, or everything fails alike."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum

from modelops_ray.core.events import ChunkFailed, PodDied
from modelops_ray.core.reasons import AllFailAlike, Lacking, TooManyFailed
from modelops_ray.core.report import Cause, Failure


@dataclass(slots=True)
class Counters:
    """Counts of a session; `completed` and `failed` include simulations that are not committed yet."""

    completed: int = 0
    failed: int = 0
    committed: int = 0
    attempts: int = 0
    oom_retries: int = 0
    infrastructure_retries: int = 0


ALL_PATIENCE = 10
"""Give up after this multiple of `patience_s` without a commit, even if simulations finish."""


DEAD_POD_REMEMBERED_S = 600.0
"""A later pod may get the address of one that died."""

MOST_LOST = 3
"""How often the loss of a long task restarts the wait for the next result, while nothing finishes."""


@dataclass(slots=True)
class NoProgressGuard:
    """Fires when nothing finished and capacity did not grow for `patience_s`, or nothing was kept for ten times that.

    The second rule is for nodes that keep coming and going, which looks like growth, and for outputs that are lost each
    time, which look like results. A long task that is lost begins again, which is waited for `MOST_LOST` times.
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
        """A task was lost and begins again."""
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
    """Ends a run whose last pods that died of memory lost more simulations than were completed meanwhile.

    Pods that die while the others complete more than they lose end nothing.
    """

    deaths: int = 5
    _last: deque[tuple[int, int]] = field(default_factory=deque)
    _dead: dict[str, PodDied] = field(default_factory=dict)

    def seen_from(self, event: ChunkFailed) -> ChunkFailed:
        """The end of a chunk, with the sentence of the pod it was on where that pod has died.

        Where the pod did not die of memory, no simulation on it is blamed for its use of memory.
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


class Outcome(Enum):
    """One attempt, as `KillGuard` sees it."""

    DONE = "done"
    KILLED = "killed"
    RAISED = "raised"


@dataclass(slots=True)
class KillGuard:
    """Tells when over half of the last `window` attempts were killed for memory and none was followed by a raise."""

    window: int = 200
    _last: deque[Outcome] = field(default_factory=deque)
    _n_killed: int = 0
    _n_raised: int = 0

    def note(self, outcome: Outcome, n: int = 1) -> None:
        """Take note of attempts that ended alike."""
        for _ in range(min(n, self.window)):
            self._last.append(outcome)
            oldest = self._last.popleft() if len(self._last) > self.window else None
            self._n_killed += (outcome is Outcome.KILLED) - (oldest is Outcome.KILLED)
            self._n_raised += (outcome is Outcome.RAISED) - (oldest is Outcome.RAISED)

    @property
    def is_hopeless(self) -> bool:
        """Whether to give up."""
        return len(self._last) >= self.window and self._n_killed * 2 > self.window and not self._n_raised


OWN = frozenset({Cause.MODEL_ERROR, Cause.BAD_OUTPUT})
"""Causes that are the model's own error."""

SIZES = frozenset({Cause.OUT_OF_MEMORY, Cause.UNSCHEDULABLE})
"""Causes that do not show the model to be wrong: smaller simulations may follow."""


PLAIN = frozenset({
    "BadOutput", "AttributeError", "FileNotFoundError", "ImportError", "IndentationError", "KeyError",
    "ModuleNotFoundError", "NameError", "NotImplementedError", "SyntaxError", "TabError", "TypeError",
    "UnboundLocalError",
})  # fmt: skip
"""Errors that are a slip in the code: which parameters it was called with has nothing to do with them."""


@dataclass(slots=True)
class FailureGuard:
    """Ends a run with too many failures: by the user's number, else when the first ones all fail alike.

    Failures of one cause and error type are alike. How many it takes: `alike`, and one of a simulation that is tried
    before all others if it fails by a plain error. `is_trial` is set while the first simulation is such a one.
    """

    max_failures: int | None
    alike: int
    is_trial: bool = False
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
        if self.n_completed or not self._all_alike or self._first is None or self.n_failed < self._n_needed:
            return None
        return AllFailAlike(self.n_failed, self._first)

    @property
    def _n_needed(self) -> int:
        first = self._first
        is_plain = first is not None and first.cause in OWN and first.error_type in PLAIN
        return 1 if self.is_trial and is_plain else self.alike
