"""Arrow arrays of any type made plain, all the way down; what has no plain form is refused.

Owns decoding: `column_types` says which type is plain. Runs in the model's interpreter.
"""

from __future__ import annotations

from typing import Union

import numpy as np
import pyarrow as pa

from ..errors import one_line
from .arrays import array_of
from .column_types import FLOATS, INTEGERS, RefusedTypeError, is_listlike, plain_type

Column = Union[pa.Array, pa.ChunkedArray]
MOST_QUOTED = 100
_MOST_ITEMS = 2**31 - 1
_FIRST_DAY, _LAST_DAY = -719162, 2932896
"""The years 1 to 9999, beyond which pandas reads no dates."""
_MOST_SPAN = {"s": 86400 * 999_999_999, "ms": 86400 * 10**3 * 999_999_999}
_PER_DAY = {"ms": 86400 * 10**3, "us": 86400 * 10**6, "ns": 86400 * 10**9}
_UNCHECKED = FLOATS | INTEGERS | {pa.null().id}
_TEXT = pa.string().id
_TEXTS = {_TEXT, pa.large_string().id, pa.string_view().id}


class RefusedValueError(Exception):
    """A value or column cannot be kept exactly; the message is a phrase: what was found, and what to return.

    `row` is its place in the column, None where there is no one place.
    """

    def __init__(self, found: str, row: int | None = None) -> None:
        super().__init__(found)
        self.row = row


class UnknownValueError(RefusedValueError):
    """A value is of a class that no column holds."""


def quoted(name: object) -> str:
    """Write a name that a model gave; of a long one only the beginning, so that the remedy after it is read."""
    text = repr(name)
    return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}…"


def plain_column(column: Column) -> Column:
    """Return the same values in a plain type; RefusedValueError where there is none, or a value does not fit it."""
    if column.type.id in _UNCHECKED:
        return column
    try:
        # Text is validated below, after it was made plain, which costs half as much.
        column.validate(full=column.type.id not in _TEXTS)
        if not isinstance(column, pa.ChunkedArray):
            return _checked(_plain(column))
        return _checked(pa.chunked_array(list(map(_plain, column.chunks)), plain_type(column.type)))
    except RefusedTypeError as error:
        raise RefusedValueError(str(error)) from error
    except MemoryError:
        raise
    except pa.ArrowException as error:
        raise RefusedValueError(f"{column.type} that cannot be kept as it is: {one_line(error)}") from error


def _checked(column: Column) -> Column:
    if column.type.id == _TEXT:
        column.validate(full=True)
    return column


def _plain(array: pa.Array) -> pa.Array:
    kind = plain_type(array.type)
    if pa.types.is_temporal(array.type):
        return _calendar(array.cast(kind))
    if array.type == kind:
        return array
    if isinstance(array.type, pa.BaseExtensionType):
        return _plain_extension(array, kind)
    if pa.types.is_dictionary(array.type):
        # Arrow cannot look views up in a dictionary, so the dictionary is made plain first.
        return _plain(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        # Arrow itself decodes runs of a few types only.
        rows = np.arange(array.offset, array.offset + len(array))
        return _plain(array.values).take(array_of(np.searchsorted(array.run_ends.to_numpy(), rows, side="right")))
    if is_listlike(array.type):
        return _list(array)
    if pa.types.is_map(array.type):
        return _map(array, kind)
    if pa.types.is_struct(array.type):
        fields = [_plain(field) for field in array.flatten()]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=array.is_null())
    return array.cast(kind)


def _calendar(times: pa.Array) -> pa.Array:
    """Return dates and times unchanged if Python and pandas can hold them all, else refuse them."""
    kind = times.type
    if pa.types.is_duration(kind):
        return _spans(times)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return times
    per_day = 1 if pa.types.is_date(kind) else _PER_DAY[kind.unit]
    low, high = (0, 1) if pa.types.is_time(kind) else (_FIRST_DAY, _LAST_DAY + 1)
    ticks = _present(times)
    if not len(ticks) or (low * per_day <= ticks.min() and ticks.max() < high * per_day):
        return times
    if pa.types.is_time(kind):
        raise RefusedValueError("times outside of a day; return durations")
    raise RefusedValueError("dates outside of the years 1 to 9999; return years as numbers")


def _spans(spans: pa.Array) -> pa.Array:
    """Return durations unchanged if Python can hold them all, as it can all in microseconds or finer."""
    most = _MOST_SPAN.get(spans.type.unit, 2**63)
    ticks = _present(spans)
    if len(ticks) and max(-int(ticks.min()), int(ticks.max())) > most:
        raise RefusedValueError("durations of more than 999,999,999 days; return numbers")
    return spans


def _present(times: pa.Array) -> np.ndarray:
    """Return the numbers that stand for dates or times, without those that are missing.

    NumPy finds their least and greatest: the function of Arrow imports some megabytes, which each fork would copy.
    """
    n_bytes = times.type.bit_width // 8
    validity, data = times.buffers()
    if data is None:
        return np.array([], np.int64)
    ticks: np.ndarray = np.frombuffer(data, f"i{n_bytes}", len(times), times.offset * n_bytes)
    if not times.null_count:
        return ticks
    is_there = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little").astype(bool)
    present: np.ndarray = ticks[is_there[times.offset : times.offset + len(times)]]
    return present


def _list(array: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return list_array(lengths, _plain(array.flatten()), array.is_null() if array.null_count else None)


def list_array(lengths: np.ndarray, items: pa.Array, missing: pa.Array | None) -> pa.Array:
    """Make an array of lists, of which `lengths[i]` of the items go into the i-th."""
    ends = np.cumsum(np.asarray(lengths, np.int64))
    if len(ends) and ends[-1] > _MOST_ITEMS:
        raise RefusedValueError("lists of more than 2**31 items together; return fewer, or a row for each item")
    return pa.ListArray.from_arrays(array_of(np.concatenate([[0], ends]).astype(np.int32)), items, mask=missing)


def whole(column: Column) -> pa.Array:
    """Return a column as one array."""
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    return column


def _map(array: pa.Array, kind: pa.DataType) -> pa.Array:
    offsets = array.offsets.to_numpy()
    first, n_items = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys = _plain(array.keys.slice(first, n_items))
    items = _plain(array.items.slice(first, n_items))
    if pa.types.is_list(kind):
        entries = pa.StructArray.from_arrays([keys, items], names=["key", "value"])
        return list_array(np.diff(offsets), entries, array.is_null() if array.null_count else None)
    missing = np.append(array.is_null().to_numpy(zero_copy_only=False), False)
    return pa.MapArray.from_arrays(pa.array(offsets - first, pa.int32(), mask=missing), keys, items)


def _plain_extension(array: pa.Array, kind: pa.DataType) -> pa.Array:
    name = array.type.extension_name
    if name == "arrow.uuid":
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], kind)
    if name.startswith("pandas."):
        series = array.to_pandas()
        return pa.array([None if gone else str(value) for value, gone in zip(series, series.isna())], kind)
    if name == "arrow.fixed_shape_tensor":
        return _tensor(array)
    return _plain(array.storage).cast(kind)


def _tensor(array: pa.Array) -> pa.Array:
    nested = _plain(array.storage.flatten())
    n_outer = len(array) - array.null_count
    for axis in reversed(range(len(array.type.shape))):
        n_lists = n_outer * int(np.prod(array.type.shape[:axis], dtype=np.int64))
        if axis:
            nested = list_array(np.full(n_lists, array.type.shape[axis]), nested, None)
    lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, array.type.shape[0])
    return list_array(lengths, nested, array.is_null() if array.null_count else None)
