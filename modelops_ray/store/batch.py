"""From the payloads of many chunks to the tables of one commit: in study order, in common columns, all or nothing.

Owns which simulations fit and in which order rows stand. Writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelops_ray.core.report import Cause, Failure
from modelops_ray.errors import one_line
from modelops_ray.sandbox.arrays import array_of
from modelops_ray.sandbox.column_types import together
from modelops_ray.store.columns import Holds, MisfitError, all_hold, conformed, widened
from modelops_ray.study.chunk import OutputTable, Payload

Positions = npt.NDArray[np.int64]
_MOST_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit makes durable: `simulations` has one row per position, `outputs` are in the same order.

    `schemas` are the columns of every output known by now, `rejected` the simulations left out of all tables.
    """

    positions: Positions
    simulations: pa.Table
    outputs: Mapping[str, pa.Table]
    schemas: Mapping[str, pa.Schema]
    rejected: tuple[Failure, ...]


def assemble(
    payloads: Sequence[Payload],
    known: Mapping[str, pa.Schema],
    schemas: TableSchemas,
    committed: Callable[[str], Iterable[pa.Table]] = lambda _: (),
) -> Batch:
    """Put payloads together, in columns of outputs that hold those `known` from earlier commits.

    `committed` reads the rows of an output that earlier commits have, where its columns are to become wider.
    """
    unfit: dict[int, str] = {}
    while True:
        try:
            return _assembled(payloads, _Judge(known, schemas.identity, committed), schemas, unfit)
        except _UnfitError as error:
            unfit |= error.reasons


class _UnfitError(Exception):
    """Values of some simulations do not go into the columns, although their types do."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__()
        self.reasons = reasons


def _assembled(payloads: Sequence[Payload], judge: _Judge, schemas: TableSchemas, unfit: Mapping[int, str]) -> Batch:
    reasons = {**judge.reasons(_groups(payloads)), **unfit}
    keep = np.array(sorted(reasons), dtype=np.int64)
    positions, simulations = _simulations(payloads, schemas.simulations)
    out = np.isin(positions, keep)
    return Batch(
        positions=positions[~out],
        simulations=simulations.filter(array_of(~out)) if len(keep) else simulations,
        outputs={name: _output(name, tables, judge.schemas[name], keep)
                 for name, tables in _by_output(payloads).items() if name in judge.schemas},
        schemas=judge.schemas,
        rejected=tuple(_rejection(int(positions[row]), simulations, int(row), reasons) for row in np.flatnonzero(out)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableSchemas:
    """Columns that the study fixes: those of `simulations`, and those that every output begins with."""

    simulations: pa.Schema
    identity: pa.Schema


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive completed simulations of a chunk whose rows are in the same tables."""

    positions: Positions
    tables: Sequence[tuple[str, OutputTable]]


class _Judge:
    """Goes through simulations in study order and fixes columns as it goes."""

    def __init__(
        self, known: Mapping[str, pa.Schema], identity: pa.Schema, committed: Callable[[str], Iterable[pa.Table]]
    ) -> None:
        self.schemas = dict(known)
        self._identity, self._committed = identity, committed
        self._taken: dict[str, list[pa.Table]] = defaultdict(list)
        # Columns only ever widen, so a verdict on a table holds for all its simulations.
        self._fits: set[int] = set()
        self._misfits: dict[int, str] = {}

    def reasons(self, groups: Iterable[_Group]) -> dict[int, str]:
        """Say for each simulation that does not fit why not."""
        found: dict[int, str] = {}
        for group in sorted(groups, key=lambda group: group.positions[0]):
            if (reason := self._reason(group.tables)) is not None:
                found |= dict.fromkeys(group.positions.tolist(), reason)
        return found

    def _reason(self, tables: Sequence[tuple[str, OutputTable]]) -> str | None:
        fresh = [(name, output) for name, output in tables if id(output) not in self._fits]
        wider: dict[str, pa.Schema] = {}
        for name, output in fresh:
            if id(output) in self._misfits:
                return self._misfits[id(output)]
            try:
                wider[name] = widened(self.schemas.get(name), output.table, self._identity, self._held(name))
            except MisfitError as error:
                self._misfits[id(output)] = f"output {name!r}: {error}"
                return self._misfits[id(output)]
        self.schemas.update(wider)
        for name, output in fresh:
            self._fits.add(id(output))
            self._taken[name].append(output.table)
        return None

    def _held(self, name: str) -> Holds:
        def holds(column: str, kind: pa.DataType) -> bool:
            return all_hold(self._taken[name], column, kind) and all_hold(self._committed(name), column, kind)

        return holds


def _groups(payloads: Iterable[Payload]) -> Iterator[_Group]:
    """Find stretches of simulations whose rows are in the same tables: what holds for one, holds for all."""
    for payload in payloads:
        positions = np.sort(np.array(payload.positions, dtype=np.int64))
        # For each output and simulation the number of the table that has its rows, -1 for none.
        tables = np.full((len(payload.outputs), len(positions)), -1, dtype=np.int32)
        for row, outputs in zip(tables, payload.outputs.values(), strict=True):
            for number, output in enumerate(outputs):
                row[np.searchsorted(positions, output.positions)] = number
        begins = np.ones(len(positions), dtype=np.bool_)
        begins[1:] = (tables[:, 1:] != tables[:, :-1]).any(axis=0)
        for stretch in np.split(np.arange(len(positions)), np.flatnonzero(begins))[1:]:
            named = zip(payload.outputs.items(), tables[:, stretch[0]], strict=True)
            yield _Group(positions[stretch], [(name, outputs[at]) for (name, outputs), at in named if at >= 0])


def _by_output(payloads: Iterable[Payload]) -> dict[str, list[OutputTable]]:
    tables: dict[str, list[OutputTable]] = defaultdict(list)
    for payload in payloads:
        for name, outputs in payload.outputs.items():
            tables[name].extend(outputs)
    return tables


def _simulations(payloads: Sequence[Payload], schema: pa.Schema) -> tuple[Positions, pa.Table]:
    positions = [np.array(payload.positions, dtype=np.int64) for payload in payloads]
    return _in_order(positions, [conformed(payload.simulations, schema) for payload in payloads], schema)


def _output(name: str, tables: Iterable[OutputTable], schema: pa.Schema, rejected: Positions) -> pa.Table:
    positions: list[Positions] = []
    kept: list[pa.Table] = []
    for output in tables:
        rows = np.repeat(np.array(output.positions, dtype=np.int64), output.row_counts)
        keep = ~np.isin(rows, rejected)
        if not keep.any():
            continue
        table = output.table if keep.all() else output.table.filter(array_of(keep))
        positions.append(rows[keep])
        try:
            kept.append(conformed(table, schema))
        except pa.ArrowException as error:
            raise _UnfitError(_unfit(name, table, rows[keep], schema)) from error
    return _in_order(positions, kept, schema)[1]


def _unfit(name: str, table: pa.Table, rows: Positions, schema: pa.Schema) -> dict[int, str]:
    """Find the simulations whose rows do not go into the columns; all of them where each does by itself."""
    found: dict[int, str] = {}
    for position in np.unique(rows).tolist():
        try:
            conformed(table.filter(array_of(rows == position)), schema)
        except pa.ArrowException as error:
            found[position] = f"output {name!r}: {error}"
    return found or dict.fromkeys(rows.tolist(), f"output {name!r}: its values do not fit the columns")


def _in_order(
    positions: Sequence[Positions], tables: Sequence[pa.Table], schema: pa.Schema
) -> tuple[Positions, pa.Table]:
    """Concatenate and sort by position; rows of one simulation keep their order."""
    if not tables:
        return np.empty(0, dtype=np.int64), schema.empty_table()
    # Chunks seldom overlap: in the order of their first positions, no row has to be copied.
    order = sorted(range(len(tables)), key=lambda i: positions[i][0] if len(positions[i]) else -1)
    rows = np.concatenate([positions[i] for i in order])
    table = together(tables[i] for i in order)
    if np.all(rows[1:] >= rows[:-1]):
        return rows, table
    by_position = np.argsort(rows, kind="stable")
    return rows[by_position], table.combine_chunks().take(array_of(by_position))


def _rejection(position: int, simulations: pa.Table, row: int, reasons: Mapping[int, str]) -> Failure:
    facts = simulations.slice(row, 1).select(["seconds", "peak_bytes", "attempts", "request_bytes", "node", "ended_at"])
    values = facts.to_pylist()[0]
    return Failure(
        position=position,
        cause=Cause.BAD_OUTPUT,
        error_type="ColumnMismatch",
        # The type of a struct may be written as long as a table.
        message=one_line(reasons[position], _MOST_CHARS),
        seconds=values["seconds"] or 0.0,
        peak_bytes=values["peak_bytes"] or 0,
        attempts=values["attempts"] or 1,
        request_bytes=values["request_bytes"] or 0,
        node=values["node"] or "",
        ended_unix_s=None if values["ended_at"] is None else values["ended_at"].timestamp(),
    )
