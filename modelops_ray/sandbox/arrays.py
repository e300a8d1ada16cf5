"""Arrow arrays of plain values, made without pandas.

`pa.array` imports pandas, where that is installed, at its first call with any value: some 50 MB and a quarter of a
second, in every worker. Owns numbers, truth values and text of known types; what else a model returns is for
`pa.array`. Needs nothing but pyarrow, because models' own interpreters load it too.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

UTC_TIME = pa.timestamp("us", "UTC")
_CODES = {
    UTC_TIME: "q", pa.int16(): "h", pa.int32(): "i", pa.int64(): "q", pa.uint64(): "Q", pa.float64(): "d",
    pa.float32(): "f",
}  # fmt: skip


def plain_array(values: Sequence[bool | int | float | str | None], type_: pa.DataType) -> pa.Array:
    """Make an array of boolean, string, int16, int32, int64, uint64, float32, float64 or null; None becomes null.

    Times are whole microseconds since 1970. TypeError for a value of another kind, but any counts as a boolean;
    OverflowError where an integer does not fit, or all text takes 2 GiB.
    """
    if pa.types.is_null(type_):
        return pa.nulls(len(values))
    bits = None
    if None in values:
        bits = _bits([value is not None for value in values])
        nothing = "" if pa.types.is_string(type_) else 0
        values = [nothing if value is None else value for value in values]
    return pa.Array.from_buffers(type_, len(values), [bits, *_buffers(values, type_)])


def array_of(values: npt.NDArray[Any]) -> pa.Array:
    """Make an Arrow array that shares the memory of a NumPy array of integers; truth values are copied."""
    if values.dtype == bool:
        return array_of(values.view("u1")).cast(pa.bool_())
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values.ravel())])


def _buffers(values: Sequence[Any], type_: pa.DataType) -> list[pa.Buffer]:
    if pa.types.is_string(type_):
        text = "".join(values).encode()
        lengths = map(len, values) if text.isascii() else (len(value.encode()) for value in values)
        return [pa.py_buffer(array("i", accumulate(lengths, initial=0))), pa.py_buffer(text)]
    if pa.types.is_boolean(type_):
        return [_bits(values)]
    return [pa.py_buffer(array(_CODES[type_], values))]


def _bits(values: Sequence[Any]) -> pa.Buffer:
    flags = pa.py_buffer(bytes(map(bool, values)))
    return pa.Array.from_buffers(pa.uint8(), len(values), [None, flags]).cast(pa.bool_()).buffers()[1]
