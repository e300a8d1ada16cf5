"""The columns of the tables a run writes; owns names, order and types, not the rows.

These are types of columns only: what a model receives, and what is hashed, keeps the spelling of the study.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from modelops_ray.sandbox.arrays import UTC_TIME, array_of
from modelops_ray.study.chunk import Scalar
from modelops_ray.study.sets import ParameterSet

PARAM_PREFIX = "param_"
PRINTED = "_printed"
"""The output that holds what simulations printed, where that is kept."""


def _fields(kind: pa.DataType, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names]


_IDENTITY = [
    *_fields(pa.string(), "task_id", "param_id"),
    *_fields(pa.int32(), "replicate"),
    *_fields(pa.uint64(), "seed"),
]
_OUTCOME = [
    *_fields(pa.string(), "scenario", "status", "cause", "error_type", "error_message", "traceback"),
    *_fields(pa.int16(), "attempts"),
    *_fields(pa.float64(), "seconds"),
    *_fields(pa.int64(), "peak_bytes", "request_bytes"),
    *_fields(pa.string(), "node"),
    *_fields(UTC_TIME, "started_at", "ended_at"),
]
ATTEMPT_COLUMNS = pa.schema(
    [
        *_fields(pa.string(), "task_id"),
        *_fields(pa.int16(), "attempt"),
        *_fields(UTC_TIME, "started_at", "ended_at"),
        *_fields(pa.string(), "node"),
        *_fields(pa.int64(), "request_bytes", "limit_bytes", "peak_bytes"),
        *_fields(pa.string(), "cause", "error_type", "error_message", "killed_by", "follows", "printed"),
    ]
)
"""The columns of `attempts`: one row per attempt that gave no result, null where something is not known."""


def simulations_schema(parameter_types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns of `simulations`."""
    return pa.schema([*_IDENTITY, *_OUTCOME, *_parameter_fields(parameter_types)])


def with_all_columns(simulations: pa.Table) -> pa.Table:
    """Return rows of `simulations` with the columns that earlier versions did not write, null there."""
    for index, field in enumerate([*_IDENTITY, *_OUTCOME]):
        if field.name not in simulations.column_names:
            simulations = simulations.add_column(index, field, pa.nulls(simulations.num_rows, field.type))
    return simulations


def is_identity(name: str) -> bool:
    """Whether a column is one of those that every output begins with."""
    return name in {field.name for field in _IDENTITY} or name.startswith(PARAM_PREFIX)


def identity_fields(parameter_types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns that come before the model's own in every output."""
    return pa.schema([*_IDENTITY, *_parameter_fields(parameter_types)])


def repeated(identities: pa.Table, rows: Sequence[int], counts: Sequence[int]) -> pa.Table:
    """Return row `rows[i]` `counts[i]` times, dictionary-encoded.

    A simulation has one identity and up to millions of rows; written out it would outweigh what the model returns.
    """
    index = array_of(np.repeat(np.array(rows, np.min_scalar_type(-identities.num_rows)), counts))
    columns = [pa.DictionaryArray.from_arrays(index, column.combine_chunks()) for column in identities.columns]
    return pa.table(columns, names=identities.column_names)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the same columns, with plain types in place of dictionaries."""
    return pa.schema([f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema])


def parameter_types(sets: Iterable[ParameterSet]) -> dict[str, pa.DataType]:
    """Find the column type of every parameter, in the order of their names.

    A parameter that only some sets have is null in the others. Integers are int64, or uint64 where that is needed and
    enough; with a float in any set, or beyond 64 bits, they are float64.
    """
    seen: defaultdict[str, _Seen] = defaultdict(_Seen)
    for params, _ in sets:
        for name, value in params.items():
            seen[name].add(value)
    return {name: seen[name].data_type() for name in sorted(seen)}


class _Seen:
    """The values of one parameter so far: their type, and the range of integers."""

    __slots__ = ("high", "low", "type")

    def __init__(self) -> None:
        self.type: type | None = None
        self.low = self.high = 0

    def add(self, value: Scalar) -> None:
        if type(value) is int:
            self.low = min(self.low, value)
            self.high = max(self.high, value)
        if self.type is not float:
            self.type = type(value)

    def data_type(self) -> pa.DataType:
        if self.type is bool:
            return pa.bool_()
        if self.type is str:
            return pa.string()
        if self.type is int and self.low >= -(2**63) and self.high < 2**63:
            return pa.int64()
        if self.type is int and self.low >= 0 and self.high < 2**64:
            return pa.uint64()
        return pa.float64()


def _parameter_fields(parameter_types: Mapping[str, pa.DataType]) -> list[pa.Field]:
    return [pa.field(PARAM_PREFIX + name, data_type) for name, data_type in parameter_types.items()]
