"""What has ended and waits to be committed, and when a commit is due. Does not know what outputs hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from modelops_ray.core.backlog import Group
from modelops_ray.core.events import WritePart
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import FailedAttempts, Failure, Follows

_WRITE_S = 1.5
"""Seconds allowed for writing a commit, at least."""
_ATTEMPTS_WITHIN_S = 60.0
"""How long attempts that gave no result wait for results to be committed with."""


@dataclass(frozen=True, slots=True)
class Unwritten:
    """The completed simulations of a chunk whose payload waits to be committed; the first ended at `since_s`."""

    group: Group
    payload_bytes: int
    since_s: float


@dataclass(slots=True)
class Journal:
    """Ended, not yet durable: payloads by chunk, final failures, attempts without a result, and the commit under way.

    `unwritten_bytes` is the size of all of it, texts of failures included, so that these are bounded as outputs are.
    `oldest_s` is when the first simulation ended, and `attempts_s` when the first attempt did, that waits for a commit
    which has not begun; None while none waits. `made` counts the attempts without a result of simulations that have
    no durable row.
    """

    policy: Policy
    made: dict[int, int] = field(default_factory=dict)
    unwritten: dict[int, Unwritten] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    attempts: list[FailedAttempts] = field(default_factory=list)
    writing: WritePart | None = None
    unwritten_bytes: int = 0
    n_unwritten: int = 0
    n_commits: int = 0
    oldest_s: float | None = None
    attempts_s: float | None = None
    _n_attempts: int = 0
    _began_s: float = 0.0
    _write_s: float = 0.0
    _looked_s: float | None = None
    _pause_s: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether everything that ended is durable."""
        return not (self.unwritten or self.failures or self.attempts) and self.writing is None

    def keep(self, chunk_id: int, group: Group, payload_bytes: int, since_s: float) -> None:
        """A chunk finished; the first of its simulations ended at `since_s`."""
        self.unwritten[chunk_id] = Unwritten(group, payload_bytes, since_s)
        self._waits_since(since_s)
        self.unwritten_bytes += payload_bytes
        self.n_unwritten += len(group.positions)

    def keep_failure(self, failure: Failure) -> None:
        """A simulation has failed for good."""
        self.made.pop(failure.position, None)
        self.failures.append(failure)
        self.unwritten_bytes += failure.text_bytes

    def attempt_of(self, position: int) -> int:
        """Which attempt the next one of a simulation is, from 1."""
        return self.made.get(position, 0) + 1

    def keep_attempts(
        self, group: Group, failure: Failure, follows: Follows, request_bytes: int, now_s: float
    ) -> tuple[int, ...]:
        """Attempts gave no result, each as `failure` says; return which of each simulation they were."""
        positions, numbers = group.positions, tuple(map(self.attempt_of, group.positions))
        self.made.update(zip(positions, numbers, strict=True))
        # A traceback is kept with the simulation, where this was the last attempt.
        failure = replace(failure, traceback=None)
        kept = FailedAttempts(positions, numbers, failure, follows, group.limit_bytes, request_bytes, now_s)
        self.attempts.append(kept)
        self.attempts_s = now_s if self.attempts_s is None else self.attempts_s
        self._n_attempts += len(positions)
        self.unwritten_bytes += kept.size_bytes
        return numbers

    def let_go(self, chunk_id: int) -> Group:
        """The payload of a chunk is durable, or lost."""
        written = self.unwritten.pop(chunk_id)
        self.unwritten_bytes -= written.payload_bytes
        self.n_unwritten -= len(written.group.positions)
        return written.group

    def next_commit(self, now_s: float, *, is_last: bool) -> WritePart | None:
        """Begin a commit if one is due; one at a time, the first at once, so that misfits show early.

        Args:
            now_s: The time.
            is_last: Nothing runs that could finish.
        """
        self._learn_pause(now_s)
        if self.failures:
            self._waits_since(now_s)
        if self.writing is not None or self.is_empty or not (is_last or self._is_due(now_s)):
            return None
        self.writing = WritePart(tuple(self._batch()), tuple(self.failures), tuple(self.attempts))
        self.failures, self.attempts, self._n_attempts, self.attempts_s, self._began_s = [], [], 0, None, now_s
        written = set(self.writing.chunk_ids)
        self.oldest_s = min((one.since_s for i, one in self.unwritten.items() if i not in written), default=None)
        return self.writing

    def _is_due(self, now_s: float) -> bool:
        is_first = not self.n_commits and bool(self.unwritten or self.failures)
        n_rows = max(self.n_unwritten + len(self.failures), self._n_attempts)
        is_stale = self.attempts_s is not None and now_s - self.attempts_s >= _ATTEMPTS_WITHIN_S
        return is_first or is_stale or self._is_old(now_s) or self._is_enough(self.unwritten_bytes, n_rows)

    def _learn_pause(self, now_s: float) -> None:
        """Learn the seconds between two calls of `next_commit`; of several calls at once the first one counts."""
        pause_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._pause_s, self._looked_s = max(pause_s, self._pause_s / 2), now_s

    def _waits_since(self, since_s: float) -> None:
        self.oldest_s = since_s if self.oldest_s is None else min(since_s, self.oldest_s)

    def _is_old(self, now_s: float) -> bool:
        """Whether the oldest result would be durable too late if its commit began only at the next call.

        Time for two writes is allowed for: one may have to wait for another.
        """
        within_s = self.policy.commit_within_s
        reserve_s = min(within_s / 2, max(_WRITE_S, 2 * self._write_s)) + min(within_s / 4, self._pause_s)
        return self.oldest_s is not None and now_s - self.oldest_s >= within_s - reserve_s

    def _batch(self) -> Iterator[int]:
        """The oldest chunks, up to the size of one commit: a commit holds copies of its payloads in memory."""
        batch_bytes = n_batch = 0
        for chunk_id, waiting in self.unwritten.items():
            yield chunk_id
            batch_bytes += waiting.payload_bytes
            n_batch += len(waiting.group.positions)
            if self._is_enough(batch_bytes, n_batch):
                return

    def _is_enough(self, payload_bytes: int, n_simulations: int) -> bool:
        return payload_bytes >= self.policy.commit_bytes or n_simulations >= self.policy.commit_simulations

    def committed(self, chunk_ids: tuple[int, ...], now_s: float) -> int:
        """The commit under way is durable; return how many simulations that were."""
        writing = self.writing or WritePart((), ())
        self.unwritten_bytes -= sum(failure.text_bytes for failure in writing.failures)
        self.unwritten_bytes -= sum(attempts.size_bytes for attempts in writing.attempts)
        done = [position for chunk_id in chunk_ids for position in self.let_go(chunk_id).positions]
        for position in done if self.made else ():
            self.made.pop(position, None)
        n_done = len(writing.failures) + len(done)
        self.n_commits += bool(writing.chunk_ids or writing.failures)
        self._write_s = max(now_s - self._began_s, 0.8 * self._write_s)
        self.writing = None
        return n_done
