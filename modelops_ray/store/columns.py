"""The columns of an output: fixed by its first simulation, widened where that keeps every value exactly.

Owns which tables fit together; which types do is `column_types`'. Knows nothing of files and simulations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from modelops_ray.sandbox.arrays import array_of
from modelops_ray.sandbox.column_types import INDEX, RefusedTypeError, candidates, is_numbered, numbered, plain_type

Holds = Callable[[str, pa.DataType], bool]
"""Whether the values that a column has so far are held exactly by another type."""


class MisfitError(Exception):
    """A table does not fit the columns of its output; the message names column, found and expected."""


def widened(known: pa.Schema | None, table: pa.Table, identity: pa.Schema, holds: Holds | None = None) -> pa.Schema:
    """Return the columns that hold what is known and this table; `known` itself where nothing changes.

    A table without rows says nothing about types, and fits with columns of any. MisfitError if it does not fit.

    Args:
        known: The columns so far, None before the first table.
        table: What is to fit.
        identity: Columns of ours, which are no part of the question.
        holds: What the columns have so far must be held as well; None where nothing is lost by a wider type.
    """
    found = _columns(table, identity)
    if known is None:
        return found
    if not table.num_rows:
        return known
    known, found = _with_numbers(known, found, table, holds)
    if set(found.names) != set(known.names):
        raise MisfitError(f"found columns {_listed(found, identity)}, expected {_listed(known, identity)}")
    types = [
        _wider(field, table.column(field.name), found, holds)
        if field.name in table.column_names and field.name not in identity.names
        else field.type
        for field in known
    ]
    if types == known.types:
        return known
    return pa.schema(list(zip(known.names, types, strict=True)))


def _with_numbers(old: pa.Schema, new: pa.Schema, table: pa.Table, holds: Holds | None) -> tuple[pa.Schema, pa.Schema]:
    """Give the rows that have no labels but their numbers those as labels, where others have labels."""
    if set(old.names) ^ set(new.names) != {INDEX}:
        return old, new
    labelled = old if INDEX in old.names else new
    labels = labelled.field(INDEX)
    if labels.type != pa.int64():
        return old, new
    if labelled is old:
        return old, new.append(labels) if is_numbered(table.schema) else new
    return (old.append(labels) if holds is not None and holds(INDEX, labels.type) else old), new


def all_hold(tables: Iterable[pa.Table], column: str, kind: pa.DataType) -> bool:
    """Whether every value that tables have in a column is held exactly by a type; those without rows have none."""
    return all(
        is_exact(table.column(column), kind) if column in table.column_names else is_numbered(table.schema)
        for table in tables
        if table.num_rows
    )


def is_exact(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether every value of a column is held exactly by a type."""
    if column.type == kind or column.null_count == len(column):
        return True
    try:
        _cast(column, kind, safe=True)
    except pa.ArrowException:
        return False
    return True


def _columns(table: pa.Table, identity: pa.Schema) -> pa.Schema:
    twice = {name for name, n in Counter(table.column_names).items() if n > 1}
    if twice:
        raise MisfitError(f"found two columns {min(twice)!r}, expected different names")
    own = (field for field in table.schema if field.name not in identity.names)
    kinds = [(field.name, _kept(field) if table.num_rows else pa.null()) for field in own]
    return pa.schema([*((field.name, field.type) for field in identity), *kinds])


def _wider(known: pa.Field, column: pa.ChunkedArray, found: pa.Schema, holds: Holds | None) -> pa.DataType:
    kinds = candidates(known.type, found.field(known.name).type)
    if not kinds and column.null_count == len(column):
        return known.type
    if not kinds and holds is not None and holds(known.name, pa.null()):
        # A column of missing values says nothing of its type: pandas' NaN, for one, where others have text.
        return found.field(known.name).type
    if not kinds:
        raise MisfitError(f"column {known.name!r}: found {column.type}, expected {known.type}")
    has_values = not pat.is_null(known.type)
    for kind in kinds:
        if is_exact(column, kind) and (
            kind == known.type or not has_values or holds is None or holds(known.name, kind)
        ):
            return kind
    raise MisfitError(
        f"column {known.name!r}: found {column.type} with a value that {kinds[-1]}, which is to hold it beside "
        f"{known.type}, does not hold exactly; expected {known.type}"
    )


def _listed(schema: pa.Schema, identity: pa.Schema) -> str:
    return ", ".join(name for name in schema.names if name not in identity.names) or "none"


def _kept(field: pa.Field) -> pa.DataType:
    try:
        # Lists of a fixed size are not plain, but runs of earlier versions have them, and they can be read.
        is_old = pat.is_fixed_size_list(field.type) and field.type.list_size
        return _in_parquet(field.type if is_old else plain_type(field.type))
    except (pa.ArrowException, OSError, RefusedTypeError) as error:
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
    """Bring a table that fits into exactly these columns; pyarrow.ArrowInvalid if it does not fit.

    Parameters that are whole numbers beyond 2**53 become the nearest float. Texts in a dictionary stay there.
    """
    columns = [
        _cast(table.column(field.name) if field.name in table.column_names else _numbers(table), field.type)
        for field in schema
    ]
    kept = pa.Table.from_arrays(columns, names=schema.names)
    # Noted in the file too, or a later commit would not know that these rows may be numbered.
    return numbered(kept) if is_numbered(table.schema) and INDEX not in schema.names else kept


def _numbers(table: pa.Table) -> pa.ChunkedArray:
    """Number the rows of each simulation from 0; they stand together."""
    tasks = table.column("task_id").combine_chunks()
    ids = (tasks if pat.is_dictionary(tasks.type) else tasks.dictionary_encode()).indices.to_numpy()
    begins = np.flatnonzero(np.diff(ids, prepend=-1))
    lengths = np.diff(begins, append=len(ids))
    return pa.chunked_array([array_of(np.arange(len(ids)) - np.repeat(begins, lengths))])


def _cast(column: pa.ChunkedArray, kind: pa.DataType, *, safe: bool | None = None) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    # Where a type cannot hold a value, Arrow's unsafe cast gives another one.
    is_safe = not pat.is_floating(kind) if safe is None else safe
    if pat.is_dictionary(column.type):
        return _undone(column.combine_chunks(), kind, is_safe=is_safe)
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    return column.cast(kind, safe=is_safe)


def _undone(column: pa.DictionaryArray, kind: pa.DataType, *, is_safe: bool) -> pa.ChunkedArray:
    values = column.dictionary.cast(kind, safe=is_safe)
    if not pat.is_string(kind):
        return pa.chunked_array([values.take(column.indices)])
    # Encoded anew: each text once, no missing one, and indices of one width, so that all tables have one type.
    encoded = values.dictionary_encode()
    return pa.chunked_array([pa.DictionaryArray.from_arrays(encoded.indices.take(column.indices), encoded.dictionary)])
