"""Reading a run directory from the directory alone, while a session writes it as well as after a crash.

Owns study order and what `status` shows. Shows committed rows only, verified; changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError, UsageError
from modelops_ray.store.batch import Positions
from modelops_ray.store.commits import LivePart, Log, damaged, read_log
from modelops_ray.store.folder import Folder
from modelops_ray.store.parts import OUTPUTS, SIMULATIONS, MissingPartError, read_parts
from modelops_ray.store.places import open_folder, place_of
from modelops_ray.store.progress import read_progress
from modelops_ray.store.run_json import NAME, RunJson, read_run_json
from modelops_ray.store.session import Clock, utc_now
from modelops_ray.study.schema import parameter_types, simulations_schema
from modelops_ray.study.study import Study

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is. `heartbeat_age_s` is None before the first heartbeat, `ending` None unless it ended properly.

    `counters` are the session's own words and no truth; all other numbers come from the commits.
    """

    total: int
    completed: int
    failed: int
    causes: Mapping[str, int]
    running: bool
    heartbeat_age_s: float | None
    heartbeat: datetime | None
    host: str | None
    pid: int | None
    ending: str | None
    counters: Mapping[str, JsonValue]


class OutputSize(NamedTuple):
    """How large an output is: its rows, and its bytes on disk."""

    rows: int
    size_bytes: int


class RunReader:
    """The tables of a run directory in study order; every method reads the directory anew."""

    def __init__(self, path: str | Path, clock: Clock = utc_now) -> None:
        """Look at a run directory.

        Raises:
            ResultsError: It is none, or is of a newer format.
        """
        self._folder = open_folder(place_of(path))
        self._clock = clock
        self.run = _read_run(self._folder)

    def simulations(self) -> pa.Table:
        """Return one row per simulation with a result or a failure.

        Raises:
            ResultsError: A commit or a part is missing or damaged.
        """
        return self._consistent(self._simulations)

    def output(self, name: str) -> pa.Table:
        """Return the model's rows of one output, with the identity columns first.

        Raises:
            UsageError: No committed simulation has this output.
            ResultsError: A commit or a part is missing or damaged.
        """
        return self._consistent(lambda log: self._output(log, name))

    def output_of(self, name: str, task_ids: Sequence[str]) -> pa.Table:
        """Return the rows that some simulations have in one output, in no order; reads a part at a time.

        Raises:
            ResultsError: A commit or a part is missing or damaged.
        """
        return self._consistent(lambda log: self._output_of(log, name, pa.array(task_ids, pa.string())))

    def completed(self) -> Ranges:
        """Return the positions of all simulations with a result; reads the commits only.

        Raises:
            ResultsError: A commit is missing or damaged.
        """
        parts = _parts_of(self.log(), SIMULATIONS)
        return Ranges(pair for part in parts if not part.failed for pair in part.positions.tolist())

    def failures(self) -> pa.Table:
        """Return the rows of `simulations` that failed, in no order; reads nothing else.

        Raises:
            ResultsError: A commit or a part is missing or damaged.
        """
        return self._consistent(self._failures)

    def output_sizes(self) -> dict[str, OutputSize]:
        """Say how large every output is, by name in order; reads the commits only.

        Raises:
            ResultsError: A commit is missing or damaged.
        """
        log = self.log()
        parts = {name: _parts_of(log, f"{OUTPUTS}/{name}") for name in _output_names(log)}
        return {
            name: OutputSize(sum(part.rows for part in of_it), sum(part.size_bytes for part in of_it))
            for name, of_it in parts.items()
        }

    def log(self) -> Log:
        """Return what the commits amount to.

        Raises:
            ResultsError: A commit is missing or damaged.
        """
        return read_log(self._folder)

    def output_names(self) -> list[str]:
        """Return the names of all outputs that have been committed, sorted."""
        return _output_names(self.log())

    def status(self) -> Status:
        """Say how far the run is.

        Raises:
            ResultsError: A commit or a part that holds failures is missing or damaged, or `progress.json` is.
        """
        log, causes = self._consistent(lambda log: (log, self._causes(log)))
        progress = read_progress(self._folder)
        now = self._clock()
        return Status(
            total=_read_run(self._folder).study.simulations,
            completed=log.rows(failed=False),
            failed=log.rows(failed=True),
            causes=causes,
            running=progress is not None and progress.is_running(now),
            heartbeat_age_s=None if progress is None else progress.age_s(now),
            heartbeat=None if progress is None else progress.heartbeat,
            host=None if progress is None else progress.host,
            pid=None if progress is None else progress.pid,
            ending=None if progress is None else progress.ending,
            counters={} if progress is None else progress.counters,
        )

    def _consistent(self, read: Callable[[Log], T]) -> T:
        """Read again where a session replaced parts in between."""
        log = read_log(self._folder)
        while True:
            try:
                return read(log)
            except MissingPartError:
                later = read_log(self._folder)
                if later.last == log.last:
                    raise
                log = later

    def _simulations(self, log: Log) -> pa.Table:
        if not _parts_of(log, SIMULATIONS):
            study = Study.from_dict(_read_run(self._folder).study.document, source=NAME)
            return simulations_schema(parameter_types(study)).empty_table()
        positions, table = self._unordered(log, None)
        return table.take(pa.array(np.argsort(positions, kind="stable")))

    def _unordered(self, log: Log, columns: list[str] | None) -> tuple[Positions, pa.Table]:
        parts = _parts_of(log, SIMULATIONS)
        return np.concatenate([_positions(part) for part in parts]), self._concatenated(parts, columns)

    def _output(self, log: Log, name: str) -> pa.Table:
        parts = _parts_of(log, f"{OUTPUTS}/{name}")
        if not parts:
            known = ", ".join(_output_names(log)) or "none yet"
            raise UsageError(f"{self._folder.where()}: there is no output {name!r}; the outputs are: {known}")
        table = self._concatenated(parts, None)
        positions, tasks = self._unordered(log, ["task_id"])
        at = pc.index_in(table["task_id"], value_set=tasks["task_id"].combine_chunks())
        if at.null_count:
            raise damaged(self._folder.where(f"{OUTPUTS}/{name}"), "it has rows of a simulation that is not committed")
        order = np.argsort(positions[at.to_numpy()], kind="stable")
        return table.take(pa.array(order))

    def _output_of(self, log: Log, name: str, task_ids: pa.Array) -> pa.Table:
        tables = read_parts(self._folder, _parts_of(log, f"{OUTPUTS}/{name}"))
        return pa.concat_tables([table.filter(pc.is_in(table["task_id"], task_ids)) for table in tables])

    def _failures(self, log: Log) -> pa.Table:
        parts = [part for part in _parts_of(log, SIMULATIONS) if part.failed]
        return self._concatenated(parts, None) if parts else self._simulations(Log())

    def _concatenated(self, parts: list[LivePart], columns: list[str] | None) -> pa.Table:
        return pa.concat_tables(read_parts(self._folder, parts, columns)).combine_chunks()

    def _causes(self, log: Log) -> dict[str, int]:
        failed = [part for part in _parts_of(log, SIMULATIONS) if part.failed]
        counts: Counter[str] = Counter()
        for table in read_parts(self._folder, failed, ["cause"]):
            counts.update(table["cause"].to_pylist())
        return dict(sorted(counts.items()))


def _read_run(folder: Folder) -> RunJson:
    run = read_run_json(folder)
    if run is None:
        raise ResultsError(f"{folder.where()}: not a run directory, it has no {NAME}; give the directory of a run")
    return run


def _parts_of(log: Log, folder: str) -> list[LivePart]:
    return [part for part in log.parts.values() if part.folder == folder]


def _output_names(log: Log) -> list[str]:
    prefix = f"{OUTPUTS}/"
    return sorted({part.folder.removeprefix(prefix) for part in log.parts.values() if part.folder.startswith(prefix)})


def _positions(part: LivePart) -> Positions:
    return np.concatenate([np.arange(start, stop) for start, stop in part.positions.tolist()])
