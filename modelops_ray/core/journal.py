"""What has finished and waits to be committed, and when that is due. Does not know what a payload holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from modelops_ray.core.events import WritePart
from modelops_ray.core.plan import Piece
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Failure


@dataclass(frozen=True, slots=True)
class Unwritten:
    """The completed simulations of a chunk whose payload waits to be committed."""

    piece: Piece
    payload_bytes: int


@dataclass(slots=True)
class Journal:
    """Finished, not yet durable: payloads by chunk, final failures, and the commit that is under way, if any.

    `unwritten_bytes` is what all of it takes, what is told of failures included.
    """

    policy: Policy
    unwritten: dict[int, Unwritten] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    writing: WritePart | None = None
    unwritten_bytes: int = 0
    n_unwritten: int = 0
    n_commits: int = 0
    oldest_s: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether everything that finished is durable."""
        return not self.unwritten and not self.failures and self.writing is None

    def keep(self, chunk_id: int, piece: Piece, payload_bytes: int) -> None:
        """A chunk finished."""
        self.unwritten[chunk_id] = Unwritten(piece, payload_bytes)
        self.unwritten_bytes += payload_bytes
        self.n_unwritten += len(piece.positions)

    def keep_failure(self, failure: Failure) -> None:
        """A simulation has failed for good."""
        self.failures.append(failure)
        self.unwritten_bytes += failure.told_bytes

    def let_go(self, chunk_id: int) -> Piece:
        """The payload of a chunk is durable, or lost."""
        written = self.unwritten.pop(chunk_id)
        self.unwritten_bytes -= written.payload_bytes
        self.n_unwritten -= len(written.piece.positions)
        return written.piece

    def next_commit(self, now_s: float, *, is_last: bool) -> WritePart | None:
        """Begin a commit if one is due; one at a time, the first at once, so that misfits show early.

        Args:
            now_s: The time.
            is_last: Nothing runs that could finish.
        """
        if self.writing is not None or not (self.unwritten or self.failures):
            return None
        if self.oldest_s is None:
            self.oldest_s = now_s
        is_due = (
            is_last
            or not self.n_commits
            or now_s - self.oldest_s >= self.policy.commit_every_s
            or self._is_enough(self.unwritten_bytes, self.n_unwritten + len(self.failures))
        )
        if not is_due:
            return None
        self.writing = WritePart(tuple(self._batch()), tuple(self.failures))
        self.failures = []
        return self.writing

    def _batch(self) -> Iterator[int]:
        """The oldest chunks, up to the size of one commit: a commit holds copies of its payloads in memory."""
        batch_bytes = n_batch = 0
        for chunk_id, waiting in self.unwritten.items():
            yield chunk_id
            batch_bytes += waiting.payload_bytes
            n_batch += len(waiting.piece.positions)
            if self._is_enough(batch_bytes, n_batch):
                return

    def _is_enough(self, payload_bytes: int, n_simulations: int) -> bool:
        return payload_bytes >= self.policy.commit_bytes or n_simulations >= self.policy.commit_simulations

    def committed(self, chunk_ids: tuple[int, ...], now_s: float) -> int:
        """The commit under way is durable; return how many simulations that were."""
        failures = self.writing.failures if self.writing is not None else ()
        self.unwritten_bytes -= sum(failure.told_bytes for failure in failures)
        n_done = len(failures) + sum(len(self.let_go(chunk_id).positions) for chunk_id in chunk_ids)
        self.n_commits += 1
        self.writing = None
        self.oldest_s = now_s if self.unwritten or self.failures else None
        return n_done
