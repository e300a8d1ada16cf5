"""Arrays of a page: quantiles of many simulations, and numbers written with as many digits as a plot can show.

Pure; owns no choice of what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.report.page.figures import Numbers

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_DIGITS = 4


def quantiles(values: Floats) -> Floats:
    """Return the quantiles `SHARES` of each column, shape (5, columns), over the rows that are not NaN.

    NaN where a column has nothing else; between two values it is linear.
    """
    ordered = np.sort(values, axis=0)  # NaN comes last
    n = np.count_nonzero(~np.isnan(values), axis=0)
    at = np.array(SHARES)[:, None] * np.maximum(n - 1, 0)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(n - 1, 0))
    if not len(ordered):
        return np.full((len(SHARES), values.shape[1]), np.nan)
    low, high = np.take_along_axis(ordered, below, axis=0), np.take_along_axis(ordered, above, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # between the largest numbers that there are
        found: Floats = low + (high - low) * (at - below)
    return found


def short(values: Iterable[float], digits: int = _DIGITS) -> Numbers:
    """Write numbers with this many digits that count; what is not finite is None."""
    return [_short(value, digits) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]


def _short(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def whole(values: Iterable[float]) -> Numbers:
    """Write numbers as the nearest whole ones."""
    return [round(value) for value in values]


def floats(column: pa.ChunkedArray) -> Floats:
    """Return a column of numbers, truth values or times as floats; times in seconds since 1970, NaN for null."""
    kind = column.type
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind):
        column = pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), _per_second(kind.unit))
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _per_second(unit: str) -> float:
    return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]


def is_time(kind: pa.DataType) -> bool:
    """Whether values of a type are dates, or points in time."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are drawn as numbers; decimals, halves and truth values are."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def is_name(kind: pa.DataType) -> bool:
    """Whether values of a type can say of which kind a row is."""
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_integer(kind)
    )


def codes(column: pa.ChunkedArray) -> tuple[Indices, pa.Array]:
    """Return the index of each row's value among the distinct ones, in the order of their first rows, and these."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks() if encoded.num_chunks else pa.array([], column.type).dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary
