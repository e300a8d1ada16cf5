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

_IDENTITY = [
    pa.field("task_id", pa.string()),
    pa.field("param_id", pa.string()),
    pa.field("replicate", pa.int32()),
    pa.field("seed", pa.uint64()),
]
_OUTCOME = [
    pa.field("scenario", pa.string()),
    pa.field("status", pa.string()),
    pa.field("cause", pa.string()),
    pa.field("error_type", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("traceback", pa.string()),
    pa.field("attempts", pa.int16()),
    pa.field("seconds", pa.float64()),
    pa.field("peak_bytes", pa.int64()),
    pa.field("request_bytes", pa.int64()),
    pa.field("node", pa.string()),
    pa.field("started_at", UTC_TIME),
    pa.field("ended_at", UTC_TIME),
]

ATTEMPT_COLUMNS = pa.schema(
    [
        pa.field("task_id", pa.string()),
        pa.field("attempt", pa.int16()),
        pa.field("started_at", UTC_TIME),
        pa.field("ended_at", UTC_TIME),
        pa.field("node", pa.string()),
        pa.field("request_bytes", pa.int64()),
        pa.field("limit_bytes", pa.int64()),
        pa.field("peak_bytes", pa.int64()),
        pa.field("cause", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("killed_by", pa.string()),
        pa.field("follows", pa.string()),
        pa.field("printed", pa.string()),
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


def identity_fields(parameter_types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns that come before the model's own in every output."""
    return pa.schema([*_IDENTITY, *_parameter_fields(parameter_types)])


def repeated(identities: pa.Table, rows: Sequence[int], counts: Sequence[int]) -> pa.Table:
    """Return row `rows[i]` `counts[i]` times, dictionary-encoded.

    A simulation has one identity and up to millions of rows; written out it would outweigh what the model returns.
    """
    kind = np.min_scalar_type(-identities.num_rows)
    index = array_of(np.repeat(np.array(rows, kind), counts))
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
