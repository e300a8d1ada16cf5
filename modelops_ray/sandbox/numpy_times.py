"""NumPy's dates and spans of time as columns of Arrow.

Owns which unit of Arrow holds a unit of NumPy, and refuses what none holds exactly. Runs in the model's interpreter.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow as pa

from .plain import Column, RefusedValueError, plain_column

_DATES = {"Y": "D", "M": "D", "W": "D", "D": "D", "h": "s", "m": "s", "s": "s", "ms": "ms", "us": "us"}
_SPANS = {"W": "s", "D": "s", "h": "s", "m": "s", "s": "s", "ms": "ms", "us": "us"}


def column_of_times(values: np.ndarray) -> Column:
    """Make a column of dates, of instants, or of spans of time."""
    unit, is_span = np.datetime_data(values.dtype)[0], values.dtype.kind == "m"
    has_no_length = is_span and unit in ("Y", "M")
    if (has_no_length or unit == "generic") and np.isnat(values).all():
        return pa.nulls(len(values))
    if has_no_length:
        raise RefusedValueError(f"{values.dtype}, which has no fixed length; return days, or numbers")
    if unit == "generic":
        raise RefusedValueError(f"{values.dtype} values without a unit; give one, as in timedelta64(5, 'D')")
    unit = (_SPANS if is_span else _DATES).get(unit, "ns")
    kind = pa.duration(unit) if is_span else pa.date32() if unit == "D" else pa.timestamp(unit)
    return plain_column(_ticked(_in_ticks(values, f"{values.dtype.kind}8[{unit}]"), kind))


def _in_ticks(values: np.ndarray, dtype: str) -> np.ndarray:
    """Convert to a unit that Arrow has; NumPy wraps around where a value does not fit."""
    present = ~np.isnat(values)
    if not present.any():
        return np.full(len(values), "NaT", dtype)
    with suppress(OverflowError):
        ticks: np.ndarray = values.astype(dtype)
        if (ticks.astype(values.dtype)[present] == values[present]).all():
            return ticks
    raise RefusedValueError(f"{values.dtype} values that {np.dtype(dtype)} does not hold; return numbers, or text")


def _ticked(ticks: np.ndarray, type_: pa.DataType) -> pa.Array:
    numbers, missing = ticks.view(np.int64), np.isnat(ticks)
    if not pa.types.is_date(type_):
        return pa.array(numbers, pa.int64(), mask=missing).view(type_)
    days = np.where(missing, 0, numbers)
    if (np.abs(days) > 2**31 - 1).any():
        raise RefusedValueError("dates outside of the years 1 to 9999; return years as numbers")
    return pa.array(days.astype(np.int32), pa.int32(), mask=missing).view(type_)
