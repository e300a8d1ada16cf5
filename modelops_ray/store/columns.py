"""The columns of an output: fixed by its first simulation, widened where that loses nothing a model means.

Owns which types fit together. Knows nothing of files and simulations.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat


class MisfitError(Exception):
    """A table does not fit the columns of its output; the message names column, found and expected."""


def plain(kind: pa.DataType) -> pa.DataType:
    """Reduce the ways to hold the same values (categories, large and view strings) to one."""
    if pat.is_dictionary(kind):
        return plain(kind.value_type)
    if pat.is_large_string(kind) or pat.is_string_view(kind):
        return pa.string()
    if pat.is_large_binary(kind) or pat.is_binary_view(kind):
        return pa.binary()
    return kind


def joined(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the narrowest type that holds both, None if there is none.

    The answer does not depend on the order in which types are joined, so neither does the type of a finished column.
    """
    if left == right or pat.is_null(right):
        return left
    if pat.is_null(left):
        return right
    if pat.is_floating(left) and pat.is_floating(right):
        return max(left, right, key=lambda kind: kind.bit_width)
    if pat.is_integer(left) and pat.is_integer(right):
        return _joined_integers(left, right)
    if _is_number(left) and _is_number(right):
        return pa.float64()
    if pat.is_list(left) and pat.is_list(right):
        kind = joined(left.value_type, right.value_type)
        return None if kind is None else pa.list_(kind)
    if pat.is_struct(left) and pat.is_struct(right):
        return _joined_structs(left, right)
    return None


def _joined_structs(left: pa.StructType, right: pa.StructType) -> pa.DataType | None:
    if [field.name for field in left] != [field.name for field in right]:
        return None
    kinds = [joined(ours.type, theirs.type) for ours, theirs in zip(left, right, strict=True)]
    if None in kinds:
        return None
    return pa.struct([(field.name, kind) for field, kind in zip(left, kinds, strict=True)])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pat.is_integer(kind) or pat.is_floating(kind))


def _joined_integers(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    if pat.is_signed_integer(left) == pat.is_signed_integer(right):
        return max(left, right, key=lambda kind: kind.bit_width)
    return pa.float64() if pa.uint64() in (left, right) else pa.int64()


def widened(known: pa.Schema | None, table: pa.Table, identity: pa.Schema) -> pa.Schema:
    """Return the columns that hold what is known and this table; `known` itself where nothing changes.

    A table without rows says nothing about types.

    Raises:
        MisfitError: It does not fit.
    """
    found = _columns(table, identity)
    if known is None:
        return found
    if set(found.names) != set(known.names):
        raise MisfitError(f"found columns {_listed(found, identity)}, expected {_listed(known, identity)}")
    types = [_joined_field(field, found.field(field.name).type) for field in known]
    if types == known.types:
        return known
    return pa.schema(list(zip(known.names, types, strict=True)))


def _columns(table: pa.Table, identity: pa.Schema) -> pa.Schema:
    twice = {name for name, n in Counter(table.column_names).items() if n > 1}
    if twice:
        raise MisfitError(f"found two columns {min(twice)!r}, expected different names")
    own = [
        (field.name, _kept(field) if table.num_rows else pa.null())
        for field in table.schema
        if field.name not in identity.names
    ]
    return pa.schema([*((field.name, field.type) for field in identity), *own])


def _joined_field(known: pa.Field, found: pa.DataType) -> pa.DataType:
    kind = joined(known.type, found)
    if kind is None:
        raise MisfitError(f"column {known.name!r}: found {found}, expected {known.type}")
    return kind


def _listed(schema: pa.Schema, identity: pa.Schema) -> str:
    return ", ".join(name for name in schema.names if name not in identity.names) or "none"


def _kept(field: pa.Field) -> pa.DataType:
    try:
        return _in_parquet(plain(field.type))
    except pa.ArrowNotImplementedError as error:
        raise MisfitError(
            f"column {field.name!r}: found {field.type}, expected a type that Parquet can hold"
        ) from error


@lru_cache
def _in_parquet(kind: pa.DataType) -> pa.DataType:
    """Return what Parquet gives back for a type: it knows no seconds, and days have one form.

    The columns of a run are those of its files, or the next session, which reads them there, would expect others.
    """
    sink = pa.BufferOutputStream()
    pq.write_metadata(pa.schema([("", kind)]), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue())).field(0).type


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a table that fits into exactly these columns; whole numbers beyond 2**53 become the nearest float.

    Texts in a dictionary stay there until they are written.
    """
    columns = [_cast(table.column(field.name), field.type) for field in schema]
    return pa.Table.from_arrays(columns, names=schema.names)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if pat.is_dictionary(column.type):
        return _undone(column.combine_chunks(), kind)
    return column.cast(kind, safe=False)


def _undone(column: pa.DictionaryArray, kind: pa.DataType) -> pa.ChunkedArray:
    values = column.dictionary.cast(kind, safe=False)
    if not pat.is_string(kind):
        return pa.chunked_array([values.take(column.indices)])
    # Encoded anew: each text once, no missing one, and indices of one width, so that all tables have one type.
    encoded = values.dictionary_encode()
    return pa.chunked_array([pa.DictionaryArray.from_arrays(encoded.indices.take(column.indices), encoded.dictionary)])
