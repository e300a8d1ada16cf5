"""Reading a run from its directory alone, while sessions write it as well as after a crash; a run in shards as one.

Owns study order and how shards become one table. Shows committed rows only, verified; changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.config import Shard
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError, UsageError
from modelops_ray.sandbox.arrays import array_of
from modelops_ray.store import columns, commits, run_json, writer
from modelops_ray.store.batch import Positions
from modelops_ray.store.directory import Directory, Memory, OutputSize, Rows
from modelops_ray.store.shards import require_one_run, require_one_split
from modelops_ray.store.status import Status, together
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.storage.places import open_folder, place_of
from modelops_ray.study.schema import PRINTED, identity_fields, is_identity, parameter_types
from modelops_ray.study.study import Study

BLOCK_BYTES = 64 * 2**20
"""Rows that are put in order are copied in blocks of this size."""


class RunReader:
    """The tables of a run in study order; every method reads its directories anew, and refuses another run than before.

    Every method raises ResultsError where a commit or a part is missing or damaged, or shards do not belong together.
    """

    def __init__(self, path: str | Path, clock: writer.Clock = writer.utc_now) -> None:
        """Look at a run directory, a path or a URI.

        ResultsError if it is none, or is of a newer format; UsageError if there are no such URIs.
        """
        self._folder = open_folder(place_of(path))
        self._memories: dict[Shard | None, Memory] = {}
        self._clock = clock
        self._first().require()

    @property
    def run(self) -> run_json.RunJson:
        """What the run was made for, and what it has grown to since; of a run in shards, what its first one was."""
        return self._first().run()

    def simulations(self, columns: list[str] | None = None) -> pa.Table:
        """Return one row per simulation with a result or a failure; of all columns, or of those named."""
        return _in_order([directory.simulations(columns) for directory in self._directories()])

    def attempts(self) -> pa.Table:
        """Return one row per attempt that gave no result; those of simulations without a row come last."""
        return _in_order([directory.attempts() for directory in self._directories()])

    def output(self, name: str) -> pa.Table:
        """Return the model's rows of one output, with the identity columns first.

        UsageError if no committed simulation has this output.
        """
        found = [rows for directory in self._directories() if (rows := directory.output(name)) is not None]
        if not found:
            known = ", ".join(self.output_names()) or "none yet"
            raise UsageError(f"{self._folder.where()}: there is no output {name!r}; the outputs are: {known}")
        return _in_order(self._alike(name, found))

    def printed(self) -> pa.Table:
        """Return what simulations printed, one row for each of which it is kept: that of failures, or of all.

        The columns are those of an output; of a failure it is what the last attempt printed that says something.
        """
        told: dict[str, str] = {}
        attempts = self.attempts()
        for row in attempts.select(["task_id", "printed"]).to_pylist():
            if row["printed"]:
                told[row["task_id"]] = row["printed"]
        simulations = self.simulations()
        # A simulation that has a result is told of by the output, if by anything.
        failed = dict.fromkeys(simulations.filter(pc.equal(simulations["status"], "failed"))["task_id"].to_pylist())
        told = {task_id: text for task_id, text in told.items() if task_id in failed}
        kept = self.output(PRINTED) if PRINTED in self.output_names() else None
        # A model may have an output of that name itself.
        if kept is not None and "printed" in kept.column_names:
            told |= dict(zip(kept["task_id"].to_pylist(), kept["printed"].to_pylist(), strict=True))
        rows = simulations.select([name for name in simulations.column_names if is_identity(name)])
        texts = [told.get(task_id) for task_id in rows["task_id"].to_pylist()]
        table = rows.append_column("printed", pa.array(texts, pa.string()))
        return table.filter(pc.is_valid(table["printed"]))

    def output_of(self, name: str, task_ids: Sequence[str]) -> pa.Table:
        """Return the rows that some simulations have in one output, in no order; reads a part at a time."""
        return pa.concat_tables(table for each in self._directories() for table in each.output_of(name, task_ids))

    def output_parts(self, name: str, keep: Callable[[pa.Table], pa.Table]) -> list[pa.Table]:
        """Return what `keep` leaves of each part of one output, in no order; reads a part at a time."""
        return [table for each in self._directories() for table in each.output_parts(name, keep)]

    def completed(self) -> Ranges:
        """Return the positions of all simulations with a result; reads the commits only."""
        return Ranges(pair for directory in self._directories() for pair in directory.completed().pairs())

    def failures(self) -> pa.Table:
        """Return the rows of `simulations` that failed, in no order; reads nothing else."""
        return pa.concat_tables(directory.failures() for directory in self._directories())

    def output_sizes(self) -> dict[str, OutputSize]:
        """Say how large every output is, by name in order; reads the commits only."""
        sizes: dict[str, OutputSize] = {}
        for directory in self._directories():
            for name, size in directory.output_sizes().items():
                before = sizes.get(name, OutputSize(0, 0))
                sizes[name] = OutputSize(before.rows + size.rows, before.size_bytes + size.size_bytes)
        return dict(sorted(sizes.items()))

    def files(self) -> dict[str, commits.FileUse]:
        """Say on which files results depend, by path in order, and how many do; reads the commits only."""
        uses: dict[str, commits.FileUse] = {}
        for directory in self._directories():
            for path, use in directory.log().files.items():
                before = uses.get(path)
                uses[path] = use if before is None else replace(use, results=use.results + before.results)
        return dict(sorted(uses.items()))

    def log(self) -> commits.Log:
        """Return what the commits of a run that is in no shards amount to; of one in shards, those of the first."""
        return self._first().log()

    def output_names(self) -> list[str]:
        """Return the names of all outputs that have been committed, sorted."""
        return list(self.output_sizes())

    def status(self) -> Status:
        """Say how far the run is."""
        shards, now = self._shards(), self._clock()
        if not shards:
            return self._directory(None, self._folder).status(now)
        n = next(iter(shards)).of
        missing = (Shard(number, n) for number in range(1, n + 1) if Shard(number, n) not in shards)
        return together(
            {str(shard): directory.status(now) for shard, directory in shards.items()},
            map(str, missing),
            next(iter(shards.values())).run().study.simulations,
        )

    def _first(self) -> Directory:
        return self._directories()[0]

    def _directories(self) -> list[Directory]:
        return list(self._shards().values()) or [self._directory(None, self._folder)]

    def _shards(self) -> Mapping[Shard, Directory]:
        found = {shard: self._directory(shard, folder) for shard, folder in require_one_split(self._folder).items()}
        if found:
            require_one_run(self._folder, {shard: directory.run() for shard, directory in found.items()})
        return found

    def _directory(self, shard: Shard | None, folder: Folder) -> Directory:
        return Directory(folder, self._memories.setdefault(shard, Memory()))

    def _alike(self, name: str, found: Sequence[Rows]) -> Sequence[Rows]:
        """Bring the columns of shards together, as one session would have."""
        if len(found) == 1:
            return found
        study = Study.from_dict(self.run.study.document, source=self._folder.where())
        schema: pa.Schema | None = None
        try:
            identity = identity_fields(parameter_types(study.parameter_sets))
            for at, rows in enumerate(found):
                before = [each.table for each in found[:at]]
                schema = columns.widened(schema, rows.table, identity, partial(columns.all_hold, before))
        except columns.MisfitError as error:
            raise ResultsError(
                f"{self._folder.where()}: output {name!r} is not the same in all shards ({error}); read them one by one"
            ) from error
        return [Rows(rows.positions, columns.conformed(rows.table, schema)) for rows in found]


def _in_order(found: Sequence[Rows]) -> pa.Table:
    positions = np.concatenate([rows.positions for rows in found])
    table = pa.concat_tables([rows.table for rows in found])
    if np.all(positions[1:] >= positions[:-1]):
        return table
    return pa.concat_tables(_blocks(table, np.argsort(positions, kind="stable")))


def _blocks(table: pa.Table, order: Positions) -> Iterator[pa.Table]:
    """Yield the rows in this order, some at a time: Arrow cannot look up in a column of more than 2 GiB of text."""
    batches = table.to_batches()
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    for rows in np.array_split(order, max(1, math.ceil(table.nbytes / BLOCK_BYTES))):
        batch_of = np.searchsorted(starts, rows, side="right") - 1
        by_batch = [batches[at].take(array_of(rows[batch_of == at] - starts[at])) for at in np.unique(batch_of)]
        place = np.argsort(np.argsort(batch_of, kind="stable"))
        yield pa.Table.from_batches(by_batch, table.schema).take(array_of(place))
