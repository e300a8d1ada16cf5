"""The values of one column, in any form a model may hold them, as a plain Arrow array.

Asks an object for its own Arrow form first, then for a NumPy array or a buffer, then for its elements. Values that
Arrow would convert with a loss (a date with a time of day, nanoseconds, text after a NUL, a mask) are converted here.
Owns columns and the values in them, not tables. Runs in the model's interpreter; imports no pandas, polars or xarray.
"""

from __future__ import annotations

import array as buffers
import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from .numpy_times import column_of_times
from .plain import Column, RefusedValueError, plain_column, whole
from .scalars import array_of_values, is_surely_kept, refuse, require_end

_NOT_ARROW = {"Object": "return text or numbers", **dict.fromkeys(("Int128", "UInt128"), "cast it to Int64, or text")}
_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def column_of(value: object) -> Column:
    """Make a plain array of the values of one column; a copy where the model may use its memory again.

    RefusedValueError where it is no column, or a value in it cannot be kept exactly.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        return _from_list(value)  # type: ignore[arg-type]
    if kind is np.ndarray:
        return _from_numpy(value)  # type: ignore[arg-type]
    convert = converter_of(value)
    if convert is None:
        if isinstance(value, Mapping):
            raise RefusedValueError("a mapping within a table; return what is in it as columns, or as another output")
        raise RefusedValueError("something that is neither a sequence nor an array; return a list")
    return convert(value)


def converter_of(value: object) -> Callable[[Any], Column] | None:
    """Return the function that makes a column of a value, None where the value is no column."""
    return next((convert for recognises, convert in _CONVERTERS if recognises(value)), None)


def own(table: pa.Table) -> pa.Table:
    """Copy a table into memory of its own, and only the rows it shows."""
    batches = [pa.ipc.read_record_batch(batch.serialize(), batch.schema) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, table.schema)


def _own(column: Column) -> Column:
    return own(pa.table({"": column})).column(0)


def loaded(module: str) -> Any:
    """Return a module if the model has imported it, else None."""
    return sys.modules.get(module)


def _from_list(values: Sequence[Any]) -> Column:
    kinds = set(map(type, values))
    require_end(values, kinds)
    # Values that Arrow refuses are looked at one by one below, which names the row.
    with suppress(*_REFUSALS):
        found = pa.array(values)
        if is_surely_kept(found.type, values, kinds):
            return found
    return array_of_values(values, column_of)


def _from_elements(values: Any) -> Column:
    return _from_list(list(values))


def _from_numpy(values: np.ndarray) -> Column:
    if values.ndim != 1:
        raise RefusedValueError(f"an array of {values.ndim} dimensions, not one; return a column for each part of it")
    kind, dtype = values.dtype.kind, values.dtype
    if kind in "biuf" and dtype.isnative and dtype.itemsize <= 8:
        return pa.array(np.array(values))
    convert: Callable[[np.ndarray], Column] = _NUMPY.get(kind, _UNKNOWN)
    return convert(values)


def _numbers(values: np.ndarray) -> Column:
    dtype = values.dtype
    if dtype.itemsize <= 8:
        return pa.array(values.astype(dtype.newbyteorder("=")))
    shorter = values.astype(np.float64)
    if not np.array_equal(shorter.astype(dtype), values, equal_nan=True):
        raise RefusedValueError(f"{dtype} values that a float of 64 bits does not hold; return astype(float), or text")
    return pa.array(shorter)


def _from_objects(values: np.ndarray) -> Column:
    return _from_list(values.tolist())


def _structured(values: np.ndarray) -> Column:
    names = values.dtype.names
    if names is None:
        return pa.array([value.tobytes() for value in values], pa.binary())
    return pa.StructArray.from_arrays([whole(column_of(values[name])) for name in names], names=list(names))


def _from_masked(values: Any) -> Column:
    data, mask = np.ma.getdata(values), np.ma.getmaskarray(values)
    if data.ndim != 1:
        return _from_numpy(data)
    if data.dtype.names is not None:
        return _structured(values)
    if data.dtype.kind == "O":
        return _from_list([None if gone else value for value, gone in zip(data.tolist(), mask)])
    # A masked value does not count, and must not be the reason to refuse the column.
    shown = np.array(data)
    shown[mask] = np.zeros((), data.dtype)
    column = _from_numpy(shown)
    return column.take(pa.array(np.arange(len(mask)), pa.int64(), mask=mask)) if mask.any() else column


def _from_pandas(values: Any) -> Column:
    pandas = loaded("pandas")
    if isinstance(values, pandas.MultiIndex):
        raise RefusedValueError("an index of several levels; return a column for each")
    series = values if isinstance(values, pandas.Series) else pandas.Series(values)
    return _PANDAS.get(type(series.dtype).__name__, _from_series)(series)


def _from_series(series: Any) -> Column:
    if series.dtype == object:
        return _from_list([None if missing else value for value, missing in zip(series.tolist(), series.isna())])
    kind = getattr(series.dtype, "kind", "O")
    if kind in "biuf" and isinstance(series.dtype, np.dtype) and series.dtype.itemsize <= 8 and series.dtype.isnative:
        # A copy: pandas hands out its own memory.
        return pa.array(series.to_numpy(copy=True), from_pandas=True)
    if isinstance(series.dtype, np.dtype) and kind not in "Mm":
        return _from_numpy(series.to_numpy())
    return _own(plain_column(pa.array(series, from_pandas=True)))


def _as_texts(series: Any) -> Column:
    return _from_list([None if gone else str(value) for value, gone in zip(series, series.isna())])


def _categories(series: Any) -> Column:
    codes = series.cat.codes.to_numpy()
    rows = pa.array(codes.astype(np.int64), pa.int64(), mask=codes < 0)
    return whole(_from_pandas(series.cat.categories)).take(rows)


def _from_polars(series: Any) -> Column:
    if unreadable := without_arrow(series.dtype):
        raise RefusedValueError(unreadable)
    return _from_capsule(series)


def without_arrow(dtype: Any) -> str:
    """Say why a type of polars cannot be kept, "" where it can; polars gives Arrow the addresses of objects."""
    name = dtype.base_type().__name__
    if name in _NOT_ARROW:
        return f"a column of polars' type {name}; {_NOT_ARROW[name]}"
    inner = [getattr(dtype, part) for part in ("inner", "key", "value") if hasattr(dtype, part)]
    fields = [field.dtype for field in getattr(dtype, "fields", ())]
    return next(filter(None, map(without_arrow, [*inner, *fields])), "")


def _from_capsule(value: Any) -> Column:
    if hasattr(value, "__arrow_c_array__") and not hasattr(value, "__arrow_c_stream__"):
        return _own(plain_column(pa.array(value)))
    return _own(plain_column(pa.chunked_array(value)))


def _from_array(value: Any) -> Column:
    return _from_numpy(np.array(value))


def _from_buffer(value: Any) -> Column:
    text = isinstance(value, buffers.array) and value.typecode in "uw"
    return _from_list(value.tolist()) if text else _from_numpy(np.array(value))


def is_of(module: str, *names: str) -> Callable[[object], bool]:
    """Return a test for instances of these classes of a module, which is False until the model has imported it."""

    def recognises(value: object) -> bool:
        found = loaded(module)
        return found is not None and any(isinstance(value, getattr(found, name, ())) for name in names)

    return recognises


# NumPy imports `numpy.ma` only when it is asked for.
is_masked = is_of("numpy.ma", "MaskedArray")


def _has(*names: str) -> Callable[[object], bool]:
    return lambda value: any(hasattr(type(value), name) for name in names)


def _is_array(value: object) -> bool:
    return hasattr(type(value), "__array__") and not isinstance(value, np.generic) and getattr(value, "ndim", 1) != 0


def _is_a(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _is_sequence(value: object) -> bool:
    return isinstance(value, (Sequence, Iterator)) and not isinstance(value, (str, bytes, bytearray))


_CONVERTERS: list[tuple[Callable[[object], bool], Callable[[Any], Column]]] = [
    (is_masked, _from_masked),
    (_is_a(np.ndarray), _from_array),
    (is_of("pandas", "Series", "Index"), _from_pandas),
    (is_of("pandas.api.extensions", "ExtensionArray"), _from_pandas),
    (is_of("polars", "Series"), _from_polars),
    (is_of("xarray", "DataArray"), _from_array),
    (_has("__arrow_c_stream__", "__arrow_c_array__"), _from_capsule),
    (_has("__arrow_array__"), lambda value: _own(plain_column(pa.array(value)))),
    (_is_array, _from_array),
    (_has("__dlpack__"), lambda value: _from_numpy(np.from_dlpack(value))),
    (_is_a(buffers.array, memoryview), _from_buffer),
    (_is_a(KeysView, ValuesView, ItemsView), _from_elements),
    (_is_a(AbstractSet), refuse("a {0.__class__.__name__}, which has no order; return sorted(...)")),
    (_is_sequence, _from_elements),
]
_PANDAS: dict[str, Callable[[Any], Column]] = {
    "PeriodDtype": _as_texts,
    "IntervalDtype": _as_texts,
    "SparseDtype": lambda series: _from_pandas(series.sparse.to_dense()),
    "CategoricalDtype": _categories,
}
_UNKNOWN = refuse("an array of dtype {0.dtype}; return numbers, text or dates")
_NUMPY: dict[str, Callable[[np.ndarray], Column]] = {
    **dict.fromkeys("biuf", _numbers),
    "c": refuse("{0.dtype} numbers; return two columns, the real and the imaginary parts"),
    **dict.fromkeys("Mm", column_of_times),
    **dict.fromkeys("OT", _from_objects),
    # Arrow would end a text at its first NUL.
    "U": lambda values: array_of_values(values.tolist(), column_of),
    "S": lambda values: pa.array(values.tolist(), pa.binary()),
    "V": _structured,
}
