"""The outputs of the simulations of a chunk, gathered into as few Arrow tables as their columns allow.

Owns grouping, the identity columns of outputs and collisions with them. Does not convert what models return.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from modelops_ray.sandbox.column_types import is_numbered, numbered
from modelops_ray.sandbox.outputs import Scalars, row_table
from modelops_ray.study.chunk import OutputTable
from modelops_ray.study.rows import RunIdentity
from modelops_ray.study.schema import identity_fields, repeated

_IDENTITY_COLUMNS = 4
MAX_TEXT = 2**24
"""Rows of scalars with more characters of text than this become a table: one column of Arrow's holds 2 GiB of it."""


class ColumnCollisionError(Exception):
    """A model names a column like one of ours; no simulation of the study can succeed."""


class Collector:
    """Takes the outputs of one simulation after the other; `size_bytes` is roughly what they take, with identities."""

    def __init__(self, run: RunIdentity) -> None:
        self._reserved = frozenset(identity_fields(run.parameter_types).names)
        # One byte a column is what repeating the identity of few simulations takes.
        self._row_bytes = _IDENTITY_COLUMNS + len(run.parameter_types)
        self._outputs: defaultdict[str, _Output] = defaultdict(_Output)
        self._free: set[tuple[str, ...]] = set()
        self.size_bytes = 0

    def add(self, index: int, seed: int, outputs: Mapping[str, Scalars | pa.Table]) -> None:
        """Take the outputs of the `index`-th completed simulation: all of them, or none and a ColumnCollisionError."""
        own = {name: self._without_ours(name, outputs[name], seed) for name in sorted(outputs)}
        for name, content in own.items():
            n_rows, size_bytes = self._outputs[name].add(index, content)
            self.size_bytes += size_bytes + n_rows * self._row_bytes

    def tables(self, positions: Sequence[int], identities: pa.Table) -> dict[str, tuple[OutputTable, ...]]:
        """Return the tables of every output; `positions` and `identities` are those of the completed simulations."""
        return {name: output.tables(positions, identities) for name, output in self._outputs.items()}

    def _without_ours(self, name: str, content: Scalars | pa.Table, seed: int) -> Scalars | pa.Table:
        names = tuple(content.column_names if isinstance(content, pa.Table) else content)
        # Nearly all simulations have the columns of the one before.
        if names in self._free:
            return content
        taken = self._reserved.intersection(names)
        if not taken:
            self._free.add(names)
            return content
        if taken == {"seed"} and _is_throughout(content, "seed", seed):
            return _without(content, "seed")
        column = min(taken - {"seed"} or taken)
        raise ColumnCollisionError(
            f"the model's output {name!r} has a column {column!r}, which every output already has; "
            "rename it in the model"
        )


def _is_throughout(content: Scalars | pa.Table, column: str, value: int) -> bool:
    if not isinstance(content, pa.Table):
        return bool(content[column] == value)
    values = content.column(column)
    if not len(values):
        return True
    return bool(pa.types.is_primitive(values.type)) and values.unique().to_pylist() == [value]


def _without(content: Scalars | pa.Table, column: str) -> Scalars | pa.Table:
    if isinstance(content, pa.Table):
        return content.drop_columns([column])
    return {name: value for name, value in content.items() if name != column}


@dataclass(slots=True)
class _Piece:
    """Rows of consecutive simulations: `counts[i]` of the `indices[i]`-th completed one."""

    indices: list[int]
    counts: list[int]
    table: pa.Table


@dataclass(slots=True)
class _Output:
    """The rows of one output, as pieces; rows of scalars are kept as they are while their names and types stay."""

    pieces: list[_Piece] = field(default_factory=list)
    row_indices: list[int] = field(default_factory=list)
    rows: list[Scalars] = field(default_factory=list)
    key: tuple[object, ...] = ()
    n_characters: int = 0

    def add(self, index: int, content: Scalars | pa.Table) -> tuple[int, int]:
        """Take one simulation's rows; return their number and size in bytes."""
        if not isinstance(content, pa.Table):
            return 1, self._add_row(index, content)
        self._flush()
        self.pieces.append(_Piece([index], [content.num_rows], content))
        return content.num_rows, content.nbytes

    def tables(self, positions: Sequence[int], identities: pa.Table) -> tuple[OutputTable, ...]:
        self._flush()
        return tuple(_output_table(group, positions, identities) for group in _groups(self.pieces))

    def _add_row(self, index: int, row: Scalars) -> int:
        key = (*row, *map(type, row.values()))
        if key != self.key:
            self._flush()
            self.key = key
        self.rows.append(row)
        self.row_indices.append(index)
        # The key has the types, and most rows have no text.
        n_characters = sum(len(value) for value in row.values() if isinstance(value, str)) if str in key else 0
        self.n_characters += n_characters
        if self.n_characters > MAX_TEXT:
            self._flush()
        return 8 * len(row) + n_characters

    def _flush(self) -> None:
        if self.rows:
            self.pieces.append(_Piece(self.row_indices, [1] * len(self.rows), row_table(self.rows)))
            self.rows, self.row_indices, self.n_characters = [], [], 0


def _groups(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Put consecutive pieces together whose columns are the same, or null on one side."""
    groups: list[list[_Piece]] = []
    schema: pa.Schema | None = None
    for piece in pieces:
        common = None if schema is None else _common(schema, piece.table.schema)
        if common is None:
            groups.append([])
        groups[-1].append(piece)
        schema = piece.table.schema if common is None else common
    return groups


def _common(one: pa.Schema, other: pa.Schema) -> pa.Schema | None:
    if one.equals(other):
        return one
    if one.names != other.names:
        return None
    try:
        return pa.unify_schemas([one, other])
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _output_table(group: Sequence[_Piece], positions: Sequence[int], identities: pa.Table) -> OutputTable:
    indices = [index for piece in group for index in piece.indices]
    counts = [count for piece in group for count in piece.counts]
    own = pa.concat_tables([piece.table for piece in group], promote_options="default").combine_chunks()
    ours = repeated(identities, indices, counts)
    table = pa.Table.from_arrays([*ours.columns, *own.columns], names=[*ours.column_names, *own.column_names])
    if all(is_numbered(piece.table.schema) for piece in group):
        table = numbered(table)
    return OutputTable(tuple(positions[index] for index in indices), tuple(counts), table)
