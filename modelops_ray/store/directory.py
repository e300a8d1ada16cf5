"""Reading one directory that a session writes or has written: the whole of a run, or one of its shards.

Owns which rows count, verified, and their positions. Puts nothing in order, which is `reader`'s, and changes nothing.

All that one method reads is of one run: what was read while another one began in its place is read again, or refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError, one_line
from modelops_ray.sandbox.arrays import array_of, plain_array
from modelops_ray.sandbox.column_types import together
from modelops_ray.store.batch import Positions
from modelops_ray.store.commits import LivePart, Log, read_log
from modelops_ray.store.documents import damaged
from modelops_ray.store.found import read_consistently
from modelops_ray.store.heartbeat import read_progress
from modelops_ray.store.parts import ATTEMPTS, OUTPUTS, SIMULATIONS, read_parts
from modelops_ray.store.run_json import NAME, RunJson, read_marked
from modelops_ray.store.status import Status
from modelops_ray.store.storage.base import Folder
from modelops_ray.study.schema import ATTEMPT_COLUMNS, parameter_types, simulations_schema, with_all_columns
from modelops_ray.study.study import Study

T = TypeVar("T")
_WITHOUT_A_ROW = 2**62
"""Stands behind every position."""


class Rows(NamedTuple):
    """A table, and for each of its rows the position of the simulation it is of."""

    positions: Positions
    table: pa.Table


class OutputSize(NamedTuple):
    """How large an output is: its rows, and its bytes on disk."""

    rows: int
    size_bytes: int


class Largest(NamedTuple):
    """The most that a simulation added to memory, and the most that was requested for one; 0 where there are none."""

    peak_bytes: int = 0
    request_bytes: int = 0

    def and_with(self, other: Largest) -> Largest:
        """The larger of each."""
        return Largest(max(self.peak_bytes, other.peak_bytes), max(self.request_bytes, other.request_bytes))


@dataclass(slots=True)
class Memory:
    """What one reader remembers of a directory: which run it is of, and its `run.json`, which never changes."""

    run_id: str | None = None
    files: dict[Hashable, RunJson] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Moment:
    """A run and its commits, as they were at one moment; `folder` stays theirs where a place can be held."""

    folder: Folder
    run: RunJson
    log: Log


class Directory:
    """The committed rows of one directory; every method reads it anew."""

    def __init__(self, folder: Folder, memory: Memory | None = None) -> None:
        """Read a directory, always the same run of it for one `memory`."""
        self._folder = folder
        self._memory = memory or Memory()

    def require(self) -> None:
        """Make sure that it is one, of a format that is known; ResultsError if not. Reads no commits."""
        self._run_of(self._folder)

    def run(self) -> RunJson:
        """Say what it was made for, and what it has grown to since."""
        return self._consistent(lambda at: at.run)

    def log(self) -> Log:
        """Return what the commits amount to."""
        return self._consistent(lambda at: at.log)

    def simulations(self, columns: list[str] | None = None) -> Rows:
        """Return one row per simulation with a result or a failure; of all columns, or of those named."""
        return self._consistent(lambda at: self._simulations(at, columns))

    def attempts(self) -> Rows:
        """Return one row per attempt that gave no result, in order; those of simulations without a row come last."""
        return self._consistent(self._attempts)

    def output(self, name: str) -> Rows | None:
        """Return the model's rows of one output, those of a simulation in its own order; None if there is none yet."""
        return self._consistent(lambda at: self._output(at, name))

    def output_of(self, name: str, task_ids: Sequence[str]) -> list[pa.Table]:
        """Return the rows that some simulations have in one output; reads a part at a time."""
        wanted = plain_array(task_ids, pa.string())
        return self.output_parts(name, lambda table: table.filter(pc.is_in(table["task_id"], wanted)))

    def output_parts(self, name: str, keep: Callable[[pa.Table], pa.Table]) -> list[pa.Table]:
        """Return what `keep` leaves of each part of one output; reads a part at a time."""
        return self._consistent(lambda at: list(map(keep, read_parts(at.folder, at.log.parts_of(f"{OUTPUTS}/{name}")))))

    def completed(self) -> Ranges:
        """Return the positions of all simulations with a result; reads the commits only."""
        parts = self.log().parts_of(SIMULATIONS)
        return Ranges(pair for part in parts if not part.failed for pair in part.positions.tolist())

    def failures(self) -> pa.Table:
        """Return the rows of `simulations` that failed."""
        return self._consistent(self._failures)

    def output_sizes(self) -> dict[str, OutputSize]:
        """Say how large every output is, by name in order; reads the commits only."""
        log = self.log()
        parts = {name: log.parts_of(f"{OUTPUTS}/{name}") for name in _output_names(log)}
        return {
            name: OutputSize(sum(part.rows for part in of_it), sum(part.size_bytes for part in of_it))
            for name, of_it in parts.items()
        }

    def largest(self) -> Largest:
        """Say what the simulations with a row took at most; reads two columns of them."""
        return self._consistent(lambda at: largest_of(at.folder, at.log.parts_of(SIMULATIONS)))

    def status(self, now: datetime) -> Status:
        """Say how far it is."""
        return self._consistent(lambda at: self._status(at, now))

    def _status(self, at: _Moment, now: datetime) -> Status:
        progress = read_progress(at.folder, at.run.id)
        return Status(
            total=at.run.simulations,
            completed=at.log.rows(failed=False),
            failed=at.log.rows(failed=True),
            causes=self._causes(at),
            running=progress is not None and progress.is_running(now),
            heartbeat_age_s=None if progress is None else max(0.0, progress.age_s(now)),
            heartbeat=None if progress is None else progress.heartbeat,
            host=None if progress is None else progress.host,
            pid=None if progress is None else progress.pid,
            ending=None if progress is None else progress.ending,
            counters={} if progress is None else progress.counters,
        )

    def _consistent(self, read: Callable[[_Moment], T]) -> T:
        return read_consistently(self._folder.hold, lambda folder: read(self._moment(folder)))

    def _moment(self, folder: Folder) -> _Moment:
        run = self._run_of(folder)
        log = read_log(folder, run)
        return _Moment(folder, run.grown(log.grown), log)

    def _run_of(self, folder: Folder) -> RunJson:
        run = self._memory.files.get(folder.mark(NAME))
        if run is None:
            found = read_marked(folder)
            if found is None or found[0] is None:
                raise ResultsError(
                    f"{folder.where()}: not a run directory, it has no {NAME}; give the directory of a run"
                )
            run = found[0]
            self._memory.files = {found[1]: run}
        if self._memory.run_id not in (None, run.id):
            raise ResultsError(f"{folder.where()}: another run has begun here since it was opened; open it again")
        self._memory.run_id = run.id
        return run

    def _simulations(self, at: _Moment, columns: list[str] | None = None) -> Rows:
        if not at.log.parts_of(SIMULATIONS):
            study = Study.from_dict(at.run.study.document, source=NAME)
            return Rows(np.empty(0, np.int64), simulations_schema(parameter_types(study.parameter_sets)).empty_table())
        return self._unordered(at, columns)

    def _unordered(self, at: _Moment, columns: list[str] | None) -> Rows:
        parts = at.log.parts_of(SIMULATIONS)
        return Rows(np.concatenate([part.position_of_row for part in parts]), _concatenated(at.folder, parts, columns))

    def _attempts(self, at: _Moment) -> Rows:
        parts = at.log.parts_of(ATTEMPTS)
        if not parts:
            return Rows(np.empty(0, np.int64), ATTEMPT_COLUMNS.empty_table())
        table = _concatenated(at.folder, parts, None).sort_by([("task_id", "ascending"), ("attempt", "ascending")])
        return Rows(self._positions_of(at, table).fill_null(_WITHOUT_A_ROW).to_numpy(), table)

    def _output(self, at: _Moment, name: str) -> Rows | None:
        parts = at.log.parts_of(f"{OUTPUTS}/{name}")
        if not parts:
            return None
        table = _concatenated(at.folder, parts, None)
        positions = self._positions_of(at, table)
        if positions.null_count:
            raise damaged(self._folder.where(f"{OUTPUTS}/{name}"), "it has rows of a simulation that is not committed")
        return Rows(positions.to_numpy(), table)

    def _positions_of(self, at: _Moment, table: pa.Table) -> pa.ChunkedArray:
        """The position of the simulation that each row is of, null where that simulation has no row itself."""
        positions, simulations = self._simulations(at, ["task_id"])
        task_ids = simulations["task_id"].combine_chunks()
        return pc.take(array_of(positions), pc.index_in(table["task_id"], value_set=task_ids))

    def _failures(self, at: _Moment) -> pa.Table:
        parts = [part for part in at.log.parts_of(SIMULATIONS) if part.failed]
        if not parts:
            return self._simulations(_Moment(at.folder, at.run, Log())).table
        return _concatenated(at.folder, parts, None)

    def _causes(self, at: _Moment) -> dict[str, int]:
        failed = [part for part in at.log.parts_of(SIMULATIONS) if part.failed]
        counts: Counter[str] = Counter()
        for part, table in zip(failed, read_parts(at.folder, failed, ["cause"]), strict=True):
            causes = table["cause"].to_pylist()
            if not all(isinstance(cause, str) for cause in causes):
                raise damaged(at.folder.where(part.path), "a failure there has no cause")
            counts.update(causes)
        return dict(sorted(counts.items()))


def largest_of(folder: Folder, parts: Sequence[LivePart]) -> Largest:
    """Say what the simulations of these parts took at most."""
    found = Largest()
    for table in read_parts(folder, parts, list(Largest._fields)):
        found = found.and_with(Largest(*(pc.max(table[name]).as_py() or 0 for name in Largest._fields)))
    return found


def _concatenated(folder: Folder, parts: list[LivePart], columns: list[str] | None) -> pa.Table:
    tables = read_parts(folder, parts, columns)
    whole = columns is None and all(part.folder == SIMULATIONS for part in parts)
    try:
        table = together(map(with_all_columns, tables) if whole else tables)
    except pa.ArrowException as error:
        what = f"its parts do not have the same columns ({one_line(error, 200)})"
        raise damaged(folder.where(parts[0].folder), what) from error
    return table.combine_chunks()


def _output_names(log: Log) -> list[str]:
    prefix = f"{OUTPUTS}/"
    return sorted({part.folder.removeprefix(prefix) for part in log.parts.values() if part.folder.startswith(prefix)})
