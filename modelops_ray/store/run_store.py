"""`RunStore`: one session on one run directory: what is done, and adding to it.

Owns the order of the durable steps of a commit. Formats, columns and files are elsewhere, and so is the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

from modelops_ray.core.ranges import Ranges, runs
from modelops_ray.core.report import FailedAttempts, Failure
from modelops_ray.errors import ResultsError
from modelops_ray.store.batch import Batch, Positions, assemble
from modelops_ray.store.columns import conformed
from modelops_ray.store.commits import LivePart, Log, Part
from modelops_ray.store.directory import Directory, Largest, largest_of
from modelops_ray.store.earlier import Earlier
from modelops_ray.store.files_read import read_by, told
from modelops_ray.store.found import RunSpec
from modelops_ray.store.parts import ATTEMPTS, OUTPUTS, SIMULATIONS, read_part
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.writer import Session
from modelops_ray.study.chunk import Payload
from modelops_ray.study.rows import attempt_rows, failure_rows


@dataclass(frozen=True, slots=True)
class Written:
    """What a session has committed: how many results, and their size in memory and on disk, in bytes."""

    simulations: int = 0
    payload_bytes: int = 0
    output_bytes: int = 0

    @property
    def output_bytes_each(self) -> float | None:
        """What the results of one simulation take on disk; None where there are none."""
        return self.output_bytes / self.simulations if self.simulations else None


@dataclass(frozen=True, slots=True)
class Begun:
    """A session whose opening commit is in place, and what it found."""

    session: Session
    earlier: Earlier


class RunStore:
    """What is done in a run directory, and the only way to add to it; `opening` makes one.

    `completed` simulations have a result there and `failed` a failure; `written` is what this session has added.
    Where nothing is left to do there is no session: nothing is written, and `commit` refuses.
    """

    def __init__(
        self, folder: Folder, spec: RunSpec, log: Log, begun: Begun | None, warnings: tuple[str, ...] = ()
    ) -> None:
        """Go on from the commits of a run directory that is held, the opening one of the session included.

        `begun` is None where there is nothing to do; `warnings` are sentences for the user.
        """
        self.warnings = warnings
        self.written = Written()
        self._folder, self._spec, self._log = folder, spec, log
        self._session = None if begun is None else begun.session
        self._earlier = None if begun is None else begun.earlier
        self._done = _mask(log, len(spec.simulations))
        self.completed = log.rows(failed=False)
        self.failed = log.rows(failed=True)
        self._columns: dict[str, pa.Schema] = {} if begun is None else dict(begun.earlier.columns)

    def done(self) -> Ranges:
        """Positions that have a row, completed or failed."""
        edges = np.flatnonzero(np.diff(self._done, prepend=False, append=False))
        return Ranges(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))

    def largest(self) -> Largest:
        """Say what the simulations with a row took at most when it began; reads it where no session began."""
        if self._earlier is not None:
            return self._earlier.largest
        try:
            return largest_of(self._folder, self._log.parts_of(SIMULATIONS))
        except ResultsError:
            # Where nothing is left to do, another session may have replaced parts since.
            return Directory(self._folder).largest()

    def attempts_made(self) -> dict[int, int]:
        """How often simulations without a row were attempted in vain, by position."""
        made = {} if self._earlier is None else dict(self._earlier.attempts)
        found: dict[int, int] = {}
        for position in self.done().complement(len(self._done)) if made else ():
            number = made.pop(self._spec.identity.task_id(self._spec.simulations[position]), None)
            if number is not None:
                found[position] = number
                if not made:
                    break
        return found

    def commit(
        self, payloads: Sequence[Payload], failures: Sequence[Failure], attempts: Sequence[FailedAttempts] = ()
    ) -> tuple[Failure, ...]:
        """Make results, failures and attempts without a result durable, all or none; few new parts per table.

        A simulation whose outputs do not fit the columns of the run is left out of all tables, and its failure is
        returned. Nothing is committed after a RunInUseError, a StorageError, a ResultsError (a file that simulations
        read has changed meanwhile), or a ValueError (it is already done).
        """
        batch = assemble(payloads, self._columns, self._spec.schemas, self._committed)
        failed = np.array(sorted(failure.position for failure in failures), dtype=np.int64)
        self._require_new(np.concatenate([batch.positions, failed]))
        if not len(batch.positions) and not failures and not attempts:
            return batch.rejected
        session = self._writing()
        rejected = frozenset(failure.position for failure in batch.rejected)
        files = told(self._log, self._spec.imported, read_by(payloads, rejected), any_new=bool(len(batch.positions)))
        with session.undoing():
            results = self._write(session, batch)
            added = [*results, *self._write_failures(session, failures), *self._write_attempts(session, attempts)]
            retracted, widened = self._widen(session, batch.schemas)
            study = self._spec.asked.study.digest
            commit = session.append(study, [*added, *widened], retracted, files=files)
        self._log.apply(commit, f"commit {commit.number}")
        self._done[batch.positions] = True
        self._done[failed] = True
        self.completed += len(batch.positions)
        self.written = Written(
            self.written.simulations + len(batch.positions),
            self.written.payload_bytes + sum(table.nbytes for table in (batch.simulations, *batch.outputs.values())),
            self.written.output_bytes + sum(part.bytes for part in results),
        )
        self.failed += len(failed)
        self._columns = dict(batch.schemas)
        for path in retracted:
            self._folder.remove(path)
        return batch.rejected

    def heartbeat(self, counters: Mapping[str, JsonValue]) -> None:
        """Say that the session lives, and how far it is; RunInUseError if another session took over."""
        if self._session is not None:
            self._session.heartbeat(counters)

    def close(self, ending: str, counters: Mapping[str, JsonValue] | None = None) -> None:
        """End the session, so that the next one need not wait."""
        if self._session is not None:
            self._session.heartbeat(counters, ending)
            self._session = None

    def _writing(self) -> Session:
        if self._session is None:
            raise ValueError("this store has no session: everything was done when it was opened, or it is closed")
        return self._session

    def _committed(self, output: str) -> Iterator[pa.Table]:
        for part in self._parts_of(output):
            yield read_part(self._folder, part)

    def _parts_of(self, output: str) -> list[LivePart]:
        return self._log.parts_of(f"{OUTPUTS}/{output}")

    def _require_new(self, positions: Positions) -> None:
        again = positions[self._done[positions]]
        if len(again) or len(np.unique(positions)) != len(positions):
            raise ValueError(f"a simulation is committed twice: position {again[0] if len(again) else 'in one commit'}")

    def _write(self, session: Session, batch: Batch) -> list[Part]:
        if not len(batch.positions):
            return []
        parts = [
            session.write(f"{OUTPUTS}/{name}", table)
            for name, table in batch.outputs.items()
            if table.num_rows or name not in self._columns
        ]
        return [*parts, session.write(SIMULATIONS, batch.simulations, list(runs(batch.positions.tolist())))]

    def _write_failures(self, session: Session, failures: Sequence[Failure]) -> list[Part]:
        """Failures have parts of their own, so that repeating them touches no others."""
        if not failures:
            return []
        ordered = sorted(failures, key=lambda failure: failure.position)
        positions = [failure.position for failure in ordered]
        table = failure_rows(self._spec.identity, ordered, self._spec.simulations.take(positions))
        return [session.write(SIMULATIONS, table, list(runs(positions)), failed=True)]

    def _write_attempts(self, session: Session, attempts: Sequence[FailedAttempts]) -> list[Part]:
        if not attempts:
            return []
        return [session.write(ATTEMPTS, attempt_rows(self._spec.identity, attempts, self._spec.simulations.take))]

    def _widen(self, session: Session, schemas: Mapping[str, pa.Schema]) -> tuple[list[str], list[Part]]:
        """Write the committed parts of outputs whose columns became wider once more."""
        retracted: list[str] = []
        added: list[Part] = []
        for name, before in self._columns.items():
            if schemas[name].equals(before):
                continue
            for part in self._parts_of(name):
                added.append(session.write(part.folder, conformed(read_part(self._folder, part), schemas[name])))
                retracted.append(part.path)
        return retracted, added


def _mask(log: Log, n_simulations: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(n_simulations, dtype=np.bool_)
    for part in log.parts.values():
        for start, stop in part.positions.tolist():
            mask[start:stop] = True
    return mask
