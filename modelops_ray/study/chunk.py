"""What travels to where a chunk runs, and what comes back; data only, with the identity on every row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import pyarrow as pa

from modelops_ray.core.report import ChunkReport
from modelops_ray.sandbox.reading import FileState

Scalar = bool | int | float | str
_Reduced = tuple[Callable[..., object], tuple[object, ...]]
"""How an object is pickled. Ray's own way with Arrow tables makes pyarrow import pandas, so they travel as columns.

Ray's pickler calls into Python for every object that is not of a built-in type: thousands of simulations, as tuples of
ours, would cost more than to run them, so they travel as columns, too.
"""


class Simulation(NamedTuple):
    """One simulation of a study; a tuple, because a chunk may have thousands.

    `position` is its place among the study's distinct simulations; `replicate` counts from 0 among those of the same
    `param_id`, in study order. `params` keeps the spelling of the study file.
    """

    position: int
    set_index: int
    params: Mapping[str, Scalar]
    param_id: str
    replicate: int
    seed: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """The simulations of one task; `attempts[i]` says which attempt this is for `simulations[i]`, from 1.

    `width` of them run at a time, each held to `limit_bytes`; `request_bytes` and `cpus` are those of the whole task.
    No simulation begins once the first result has waited for `enough_s`. With `has_twin` the first simulation runs in
    another process before, and both have to come out the same.
    """

    chunk_id: int
    simulations: tuple[Simulation, ...]
    attempts: tuple[int, ...]
    request_bytes: int
    limit_bytes: int
    cpus: float = 1.0
    announce: bool = False
    width: int = 1
    enough_s: float = math.inf
    has_twin: bool = False

    def __reduce__(self) -> _Reduced:
        """Pickle the simulations as columns; parameters that several share still travel once."""
        chunk_id, simulations, *others = (getattr(self, each.name) for each in fields(self))
        return _chunk, (chunk_id, tuple(zip(*simulations, strict=True)), *others)


@dataclass(frozen=True, slots=True)
class OutputTable:
    """Rows of one output from consecutive simulations with the same columns: `row_counts[i]` rows of `positions[i]`."""

    positions: tuple[int, ...]
    row_counts: tuple[int, ...]
    table: pa.Table

    def __reduce__(self) -> _Reduced:
        others = {"positions": self.positions, "row_counts": self.row_counts}
        return _with_table, (OutputTable, others, "table", *_columns_of(self.table))


class ReadTogether(NamedTuple):
    """What one process read: each of `files` with the index of the first of `positions` that depends on it.

    What was in a file is not known where it has changed since.
    """

    positions: tuple[int, ...]
    files: tuple[tuple[FileState, int], ...]


@dataclass(frozen=True, slots=True)
class Payload:
    """The results of the completed simulations of a chunk.

    `simulations` has one row per entry of `positions`, in that order, with the columns of
    `study.schema.simulations_schema`; `outputs` maps output names to tables with the identity columns first, of which
    at most one has the rows of a simulation. `read` are the files that some of them read, besides those that the import
    reads.
    """

    positions: tuple[int, ...]
    simulations: pa.Table
    outputs: Mapping[str, tuple[OutputTable, ...]] = field(default_factory=dict)
    read: tuple[ReadTogether, ...] = ()

    def __reduce__(self) -> _Reduced:
        others = {"positions": self.positions, "outputs": self.outputs, "read": self.read}
        return _with_table, (Payload, others, "simulations", *_columns_of(self.simulations))


RunChunk = Callable[[Chunk], tuple[ChunkReport, Payload]]
"""Executes a chunk where its task runs; a backend is built with one. It must pickle (module-level, or a partial)."""


def _chunk(chunk_id: int, columns: Sequence[tuple[Any, ...]], *others: Any) -> Chunk:
    return Chunk(chunk_id, tuple(map(Simulation._make, zip(*columns, strict=True))), *others)


def _columns_of(table: pa.Table) -> tuple[pa.Schema, list[pa.ChunkedArray]]:
    """Take a table apart; a slice takes the whole table it is a slice of along."""
    return table.schema, table.columns


def _with_table(
    kind: Callable[..., object], others: dict[str, Any], name: str, schema: pa.Schema, columns: list[pa.ChunkedArray]
) -> object:
    return kind(**others, **{name: pa.table(columns, schema=schema)})
