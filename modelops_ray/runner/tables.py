"""From what a model returned to Arrow tables.

Owns what counts as a table, a column and a value, and the sentence for whatever does not.
Does not know identities, parts or other simulations.

The rule for a mapping, which a model may return or put below an output's name:
all values tables or mappings: outputs; all values sequences: columns of one table; all values scalars: one row.
An empty mapping is no outputs.

The model's types are kept, but for what is only an encoding: dictionaries and categories become their values,
large and view forms of strings, binaries and lists the plain ones. A pandas index becomes columns where it has a name
and is dropped where it has none; pandas' missing values become null. Whatever is kept is a copy: a model may use its
buffers again.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ..arrays import plain_array
from .foreign import authors_code

BARE_OUTPUT = "result"
_OUTPUT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
_SCALARS = (
    bool, int, float, str, bytes, np.generic, type(None), pa.Scalar,
    dt.date, dt.time, dt.timedelta, decimal.Decimal,
)  # fmt: skip
_PLAIN = {
    type(None): pa.null(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(),
    np.bool_: pa.bool_(), np.int32: pa.int32(), np.int64: pa.int64(),
    np.float32: pa.float32(), np.float64: pa.float64(),
}  # fmt: skip
_WANTED = (
    "a model returns a mapping of output name to a table (pyarrow, pandas, polars, DuckDB, or a mapping of column name "
    "to a sequence), one table, or a mapping of scalars"
)

Scalars = Mapping[str, object]


class BadOutputError(Exception):
    """What a model returned is no table; the message says what it was and what would be right."""


@runtime_checkable
class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@runtime_checkable
class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> object: ...


@runtime_checkable
class _HasColumns(Protocol):
    columns: object


@runtime_checkable
class _HasSchema(Protocol):
    schema: object


@runtime_checkable
class _ArrayLike(Protocol):
    def __array__(self) -> object: ...


def outputs_of(returned: object, wanted: Sequence[str] | None = None) -> dict[str, Scalars | pa.Table]:
    """Return the outputs by name: a table each, or a dict of plain scalars, which stands for one row.

    Args:
        returned: What the model returned.
        wanted: Names of the outputs to keep; None keeps all.

    Raises:
        BadOutputError: It is not what a model may return, or lacks a wanted output.
    """
    # Reading may run a lazy query, or a sequence or mapping class of the model's.
    with authors_code(_unreadable, passing=(BadOutputError, MemoryError)):
        named = _named(returned)
        return {plain_text(name): _content(name, named[name]) for name in _kept(named, wanted)}


def _unreadable(error: BaseException) -> BadOutputError:
    return BadOutputError(f"what the model returned cannot be read: {type(error).__name__}: {_one_line(error)}")


def plain_text(text: str) -> str:
    """Return text as Python's own type: where it goes, nobody can import the model's."""
    return str.__str__(text)


def row_table(rows: Sequence[Scalars]) -> pa.Table:
    """Build a table of rows of scalars that share names and types.

    Raises:
        BadOutputError: A value has no Arrow type.
    """
    return _table({name: _scalars(name, [row[name] for row in rows]) for name in rows[0]})


def _scalars(column: str, values: list[Any]) -> pa.Array | pa.ChunkedArray:
    return plain_array(values, _PLAIN[type(values[0])]) if _is_plain(values[0]) else _array(column, values)


def _kept(named: Mapping[str, object], wanted: Sequence[str] | None) -> Iterable[str]:
    for name in wanted or ():
        if name not in named:
            has = ", ".join(map(repr, named)) or "none"
            raise BadOutputError(f"the study asks for output {name!r} and the model returned {has}")
    return named if wanted is None else wanted


def _named(returned: object) -> Mapping[str, object]:
    if not isinstance(returned, Mapping):
        return {BARE_OUTPUT: returned}
    if not returned:
        return {}
    tables = sum(map(_is_table, returned.values()))
    # A scalar of Arrow may be a mapping too.
    if tables == 0 or all(map(_is_scalar, returned.values())):
        return {BARE_OUTPUT: returned}
    if tables < len(returned):
        odd = next(name for name, value in returned.items() if not _is_table(value))
        raise BadOutputError(f"output {odd!r} is {_kind(returned[odd])} while others are tables; {_WANTED}")
    for name in returned:
        if not isinstance(name, str) or _OUTPUT_NAME.fullmatch(name) is None:
            raise BadOutputError(f"output name {name!r} must be letters, digits, '_', '.' or '-', not first '.' or '-'")
    return returned


def _content(name: str, value: object) -> Scalars | pa.Table:
    if not isinstance(value, Mapping):
        return _from_arrow(name, value)
    for column in value:
        if not isinstance(column, str):
            raise BadOutputError(f"output {name!r} has a column name {column!r}; column names must be text")
    if not value:
        raise BadOutputError(f"output {name!r} is a mapping without columns; {_WANTED}")
    columns = {plain_text(column): values for column, values in value.items()}
    if all(map(_is_plain, columns.values())):
        return columns
    scalars = [column for column, values in columns.items() if _is_scalar(values)]
    if len(scalars) == len(columns):
        return plain_table(row_table([_unboxed(columns)]))
    if scalars:
        odd = scalars[0]
        raise BadOutputError(
            f"output {name!r} mixes scalars and sequences ({odd!r} is {_kind(columns[odd])}); "
            "give columns of equal lengths, or scalars only for one row"
        )
    return _from_columns(name, columns)


def _from_columns(name: str, columns: Mapping[str, object]) -> pa.Table:
    arrays = {column: _array(column, _sequence(name, column, value)) for column, value in columns.items()}
    lengths = {column: len(array) for column, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise BadOutputError(f"output {name!r} has columns of different lengths: {_listed(lengths)}")
    return plain_table(_table(arrays))


def _sequence(output: str, column: str, value: object) -> object:
    """Return what pyarrow can make an array of, never a view of the model's memory."""
    if isinstance(value, (list, tuple)):
        return value
    if not isinstance(value, np.ndarray) and _is_capsule(value):
        return _own(plain_table(pa.table({"": pa.chunked_array(value)}))).column(0)
    if isinstance(value, _ArrayLike):
        array: np.ndarray = np.array(value)
        if array.ndim != 1:
            raise BadOutputError(f"column {column!r} of output {output!r} has {array.ndim} dimensions, not one")
        return array
    if isinstance(value, Sequence):
        return value
    raise BadOutputError(f"column {column!r} of output {output!r} is {_kind(value)}; it must be a sequence or an array")


def _array(column: str, values: object) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):
        return values
    try:
        return _inferred(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadOutputError(f"column {column!r} has values of no common type: {_one_line(error)}") from error


def _inferred(values: object) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(values)
    except OverflowError:
        # Arrow infers int64 for Python's integers, and seeds go up to 2**64 - 1.
        return pa.array(values, pa.uint64())


def _from_arrow(name: str, value: object) -> pa.Table:
    if not _is_capsule(value):
        raise BadOutputError(f"output {name!r} is {_kind(value)}; {_WANTED}")
    return _own(plain_table(_without_index(pa.table(value))))


def plain_table(table: pa.Table) -> pa.Table:
    """Decode what is only an encoding, and drop metadata.

    Raises:
        BadOutputError: A column name occurs twice.
    """
    names = table.column_names
    if len(set(names)) < len(names):
        raise BadOutputError(f"column {max(names, key=names.count)!r} occurs more than once")
    schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in table.schema])
    if table.schema.equals(schema, check_metadata=True):
        return table
    arrays = [_decoded(column, field.type) for column, field in zip(table.columns, schema)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _decoded(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(column.type):
        return column.cast(type_)
    # Arrow cannot look views up in a dictionary, so the dictionary is made plain first.
    return pa.chunked_array([chunk.dictionary.cast(type_).take(chunk.indices) for chunk in column.chunks], type_)


def plain_type(type_: pa.DataType) -> pa.DataType:
    """Return the type that holds the same values without dictionary, large or view encoding."""
    types = pa.types
    if types.is_dictionary(type_):
        return plain_type(type_.value_type)
    if types.is_large_string(type_) or types.is_string_view(type_):
        return pa.string()
    if types.is_large_binary(type_) or types.is_binary_view(type_):
        return pa.binary()
    if types.is_large_list(type_) or types.is_list(type_):
        return pa.list_(plain_type(type_.value_type))
    if types.is_struct(type_):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in type_])
    return type_


def _without_index(table: pa.Table) -> pa.Table:
    unnamed = [name for name in table.column_names if _UNNAMED_INDEX.fullmatch(name)]
    pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    for index in pandas.get("index_columns", ()):
        # pandas keeps a range out of the data; with a name it is data.
        if isinstance(index, dict) and index["name"] is not None:
            values = range(index["start"], index["stop"], index["step"])
            table = table.append_column(index["name"], pa.array(values, pa.int64()))
    return table.drop_columns(unnamed)


def _own(table: pa.Table) -> pa.Table:
    """Copy a table into memory of its own, and only the rows it shows."""
    batches = [pa.ipc.read_record_batch(batch.serialize(), batch.schema) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, table.schema)


def _table(arrays: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    return pa.Table.from_arrays(list(arrays.values()), names=list(arrays))


def _is_scalar(value: object) -> bool:
    return isinstance(value, _SCALARS) or (isinstance(value, np.ndarray) and value.ndim == 0)


def _is_plain(value: object) -> bool:
    """Whether a scalar surely has an Arrow type, the same for every value of its Python type."""
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is str:
        return value.isascii()
    return type(value) in _PLAIN


def _unboxed(row: Scalars) -> Scalars:
    return {name: value[()] if isinstance(value, np.ndarray) else value for name, value in row.items()}


def _is_table(value: object) -> bool:
    """Whether a value of a mapping is a table rather than a column: a mapping, or Arrow data with columns."""
    if isinstance(value, (Mapping, pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return True
    if isinstance(value, (pa.Array, pa.ChunkedArray, *_SCALARS, list, tuple, np.ndarray)):
        return False
    # Columns of data frames have the interface too; only tables name their columns.
    return _is_capsule(value) and isinstance(value, (_HasColumns, _HasSchema))


def _is_capsule(value: object) -> bool:
    return isinstance(value, (_ArrowStream, _ArrowArray))


def _kind(value: object) -> str:
    kind = type(value)
    return "None" if value is None else f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def _listed(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{column!r} {length}" for column, length in list(lengths.items())[:8])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
