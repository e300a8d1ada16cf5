"""Types of columns: which are plain, and which type holds the values of two others exactly.

Plain is what pyarrow, pandas, polars and DuckDB all read back from Parquet with the same values. A type that is only an
encoding (dictionaries, run ends, large and view forms, lists of a fixed size, seconds where Parquet has milliseconds)
stands for a plain one; every other is refused. Owns types only: arrays and tables are decoded and cast elsewhere. Needs
nothing but pyarrow, because models' own interpreters load it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import pyarrow as pa
import pyarrow.types as pat

INDEX = "index"
"""The column of a pandas index that has no name."""
FLOATS = {kind.id for kind in (pa.float16(), pa.float32(), pa.float64())}
INTEGERS = {pa.bool_().id} | {pa.type_for_alias(f"{u}int{bits}").id for u in ("", "u") for bits in (8, 16, 32, 64)}
"""Ids of the types of integers, and of truth values."""
_NUMBERED = {b"modelops_ray": b"rows are numbered from 0"}
MOST_DIGITS = 38
"""The most digits of a decimal number: DuckDB and polars read no more, and DuckDB would round."""
MOST_LEVELS = 32
"""The most lists and structs within each other: readers of Parquet refuse what is nested much deeper."""
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
"""How many digits a decimal needs to hold every integer of this many bits."""
UNITS = ("s", "ms", "us", "ns")
"""The units of times, the finest last."""
_TIMES = {"s": pa.time32("ms"), "ms": pa.time32("ms"), "us": pa.time64("us"), "ns": pa.time64("ns")}
_STORAGE_IS_PLAIN = ("arrow.json",)
_AS_TEXT = ("arrow.uuid", "pandas.period", "pandas.interval")


TOO_DEEP = f"values nested more than {MOST_LEVELS} deep; return a row for each, or text"


class RefusedTypeError(Exception):
    """A type is not plain and stands for none that is; the message is a phrase: what it is, and what to return."""


@lru_cache(maxsize=1024)
def plain_type(type_: pa.DataType) -> pa.DataType:
    """Return the plain type that holds the same values; RefusedTypeError where there is none."""
    if _is_deeper(type_, MOST_LEVELS):
        raise RefusedTypeError(TOO_DEEP)
    return _plain(type_)


def _is_deeper(type_: pa.DataType, n_levels: int) -> bool:
    if not pat.is_nested(type_):
        return False
    return not n_levels or any(_is_deeper(type_.field(at).type, n_levels - 1) for at in range(type_.num_fields))


def _plain(type_: pa.DataType) -> pa.DataType:
    if isinstance(type_, pa.BaseExtensionType):
        return _plain_extension(type_)
    if pat.is_dictionary(type_) or pat.is_run_end_encoded(type_):
        return plain_type(type_.value_type)
    if pat.is_nested(type_):
        return _plain_nested(type_)
    return _plain_flat(type_)


def numbered(table: pa.Table) -> pa.Table:
    """Note in a table that its rows had no labels but their numbers, which are then no column.

    Of the parts of a filtered frame some have labels and some have none: `together` decides for the whole.
    """
    first, *others = table.schema
    return table.cast(pa.schema([first.with_metadata(_NUMBERED), *others]))


def is_numbered(schema: pa.Schema) -> bool:
    """Whether a table with this schema has that note."""
    return len(schema) > 0 and any(_NUMBERED.items() <= (field.metadata or {}).items() for field in schema)


def together(tables: Iterable[pa.Table]) -> pa.Table:
    """Put tables of the same columns one below the other; the whole is numbered if all parts that have rows are."""
    found = list(tables)
    whole = pa.concat_tables(found)
    are_numbered = [is_numbered(table.schema) for table in found if table.num_rows]
    if not are_numbered or all(are_numbered) == is_numbered(whole.schema):
        return whole
    return numbered(whole) if all(are_numbered) else whole.cast(pa.schema([f.remove_metadata() for f in whole.schema]))


def is_listlike(type_: pa.DataType) -> bool:
    """Whether it is a list in any of Arrow's forms."""
    forms = (pat.is_list, pat.is_large_list, pat.is_fixed_size_list, pat.is_list_view, pat.is_large_list_view)
    return any(is_form(type_) for is_form in forms)


def _plain_flat(type_: pa.DataType) -> pa.DataType:
    if pat.is_large_string(type_) or pat.is_string_view(type_):
        return pa.string()
    if pat.is_large_binary(type_) or pat.is_binary_view(type_) or pat.is_fixed_size_binary(type_):
        return pa.binary()
    if pat.is_timestamp(type_):
        return pa.timestamp("ms", type_.tz) if type_.unit == "s" else type_
    if pat.is_time(type_):
        return _TIMES[type_.unit]
    if pat.is_date(type_):
        return pa.date32()
    if pat.is_decimal(type_):
        return _plain_decimal(type_)
    if pat.is_interval(type_):
        raise RefusedTypeError(f"{type_}, of which months have no fixed length; return a duration, or numbers")
    return type_


def _plain_decimal(type_: pa.DataType) -> pa.DataType:
    scale = max(0, type_.scale)
    precision = type_.precision + scale - type_.scale
    if precision > MOST_DIGITS:
        raise RefusedTypeError(f"{type_}, and readers know {MOST_DIGITS} digits at most; return text or floats")
    return pa.decimal128(precision, scale)


def _plain_nested(type_: pa.DataType) -> pa.DataType:
    if is_listlike(type_):
        return pa.list_(plain_type(type_.value_type))
    if pat.is_map(type_):
        key, item = plain_type(type_.key_type), plain_type(type_.item_type)
        # Readers that make a dictionary of a map need keys that can be looked up.
        return pa.list_(pa.struct([("key", key), ("value", item)])) if pat.is_nested(key) else pa.map_(key, item)
    if pat.is_struct(type_):
        return _plain_struct(type_)
    raise RefusedTypeError(f"{type_}, and no column holds values of several types; return a column for each")


def _plain_struct(type_: pa.StructType) -> pa.DataType:
    names = [field.name for field in type_]
    if not names:
        raise RefusedTypeError("a struct without fields; leave the column out")
    if len(set(names)) < len(names):
        raise RefusedTypeError(f"a struct with two fields {max(names, key=names.count)!r}; give them different names")
    return pa.struct([(field.name, plain_type(field.type)) for field in type_])


def _plain_extension(type_: pa.DataType) -> pa.DataType:
    name = type_.extension_name
    if name in _AS_TEXT:
        return pa.string()
    if name == "arrow.bool8":
        return pa.bool_()
    if name in _STORAGE_IS_PLAIN:
        return plain_type(type_.storage_type)
    if name == "arrow.fixed_shape_tensor" and list(type_.permutation or ()) in ([], list(range(len(type_.shape)))):
        nested = plain_type(type_.value_type)
        for _ in type_.shape:
            nested = pa.list_(nested)
        return nested
    raise RefusedTypeError(
        f"a column of the extension type {name!r}; return what it stores ({type_.storage_type}) as a plain column"
    )


def joined(
    left: pa.DataType,
    right: pa.DataType,
    mixed: pa.DataType = pa.float64(),  # noqa: B008 (a constant)
) -> pa.DataType | None:
    """Return the narrowest type that holds the values of two plain types, None if there is none.

    The answer does not depend on the order in which types are joined, so neither does the type of a finished column.
    The values decide whether all of them are held where an integer becomes a float, a time gets a finer unit, or
    `uint64` meets a signed integer, which become `mixed`.
    """
    if left == right or pat.is_null(right):
        return left
    if pat.is_null(left):
        return right
    if _is_number(left) and _is_number(right):
        return _joined_numbers(left, right, mixed)
    if pat.is_nested(left) and pat.is_nested(right):
        return _joined_nested(left, right, mixed)
    if pat.is_decimal(left) or pat.is_decimal(right):
        return _joined_decimals(_as_decimal(left), _as_decimal(right))
    return _joined_times(left, right)


def candidates(left: pa.DataType, right: pa.DataType) -> list[pa.DataType]:
    """Return the types that may hold the values of two plain types, in the order of preference; the values decide."""
    kinds = [joined(left, right, mixed) for mixed in (pa.uint64(), pa.int64(), pa.float64())]
    return [kind for at, kind in enumerate(kinds) if kind is not None and kind not in kinds[:at]]


def _is_number(type_: pa.DataType) -> bool:
    return bool(pat.is_integer(type_) or pat.is_floating(type_))


def _joined_numbers(left: pa.DataType, right: pa.DataType, mixed: pa.DataType) -> pa.DataType:
    if pat.is_floating(left) != pat.is_floating(right):
        return pa.float64()
    if pat.is_floating(left) or pat.is_signed_integer(left) == pat.is_signed_integer(right):
        return max(left, right, key=lambda kind: kind.bit_width)
    signed, unsigned = (left, right) if pat.is_signed_integer(left) else (right, left)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(max(signed.bit_width, 2 * unsigned.bit_width), mixed)


def _joined_nested(left: pa.DataType, right: pa.DataType, mixed: pa.DataType) -> pa.DataType | None:
    if is_listlike(left) and is_listlike(right):
        kind = joined(left.value_type, right.value_type, mixed)
        return None if kind is None else pa.list_(kind)
    if pat.is_map(left) and pat.is_map(right):
        key, item = joined(left.key_type, right.key_type, mixed), joined(left.item_type, right.item_type, mixed)
        return None if key is None or item is None else pa.map_(key, item)
    if not pat.is_struct(left) or not pat.is_struct(right):
        return None
    if [field.name for field in left] != [field.name for field in right]:
        return None
    kinds = [joined(ours.type, theirs.type, mixed) for ours, theirs in zip(left, right)]
    return None if None in kinds else pa.struct([(field.name, kind) for field, kind in zip(left, kinds)])


def _as_decimal(type_: pa.DataType) -> pa.DataType | None:
    if pat.is_decimal(type_):
        return type_
    return pa.decimal128(_DIGITS[type_.bit_width], 0) if pat.is_integer(type_) else None


def _joined_decimals(left: pa.DataType | None, right: pa.DataType | None) -> pa.DataType | None:
    if left is None or right is None:
        return None
    scale = max(left.scale, right.scale)
    precision = scale + max(left.precision - left.scale, right.precision - right.scale)
    return pa.decimal128(precision, scale) if precision <= MOST_DIGITS else None


def _joined_times(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    same = (pat.is_timestamp, pat.is_duration, pat.is_time)
    if not any(is_kind(left) and is_kind(right) for is_kind in same):
        return None
    unit = max(left.unit, right.unit, key=UNITS.index)
    if pat.is_duration(left):
        return pa.duration(unit)
    if pat.is_time(left):
        return _TIMES[unit]
    if (left.tz is None) != (right.tz is None):
        return None
    return pa.timestamp(unit, left.tz if left.tz == right.tz else "UTC")
