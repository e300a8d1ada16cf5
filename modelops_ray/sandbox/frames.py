"""The columns of data frames and labelled arrays: of pandas with its index, of xarray with its coordinates.

Owns which labels are data and what they are called. Imports no pandas or xarray. Runs in the model's interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .column_types import INDEX
from .plain import RefusedValueError
from .values import loaded

Columns = list[tuple[str, Any]]
VALUE = "value"
"""The column of a list, scalar or series without a name."""
_KINDS = {"DatetimeIndex": "date", "PeriodIndex": "date", "TimedeltaIndex": "time"}
_UNNAMED_DIMENSION = re.compile(r"dim_\d+")


def columns_of_frame(frame: Any) -> Columns:
    """Return the columns of a data frame of pandas, then its index where that says something."""
    names = list(map(_label, frame.columns))
    columns = [(name, frame.iloc[:, at]) for at, name in enumerate(names)]
    return [*columns, *index_columns(frame.index, dict(columns))]


def columns_of_series(series: Any) -> Columns:
    """Return a series of pandas as a column, and its index where that says something."""
    name = VALUE if series.name is None else _label(series.name)
    return [(name, series), *index_columns(series.index, {name: series})]


def columns_of_index(index: Any) -> Columns:
    """Return an index of pandas as columns."""
    return [(_named(index, 0) or VALUE, index)] if index.nlevels == 1 else _levels(index)


def _levels(index: Any) -> Columns:
    return [(_named(index, at) or f"level_{at}", index.get_level_values(at)) for at in range(index.nlevels)]


def index_of_series(series: Iterable[Any], taken: Mapping[str, Any]) -> Columns:
    """Return the index that series of pandas have in common, as columns beside them.

    RefusedValueError where they have different ones: what is in one row would belong to different labels.
    """
    indexes = [each.index for each in series]
    labelled = [index for index in indexes if not _is_plain_range(index)]
    if not labelled:
        return []
    if any(not labelled[0].equals(other) for other in indexes):
        raise RefusedValueError(
            "series with different indexes; return one DataFrame, or reset_index(drop=True) of each"
        )
    return index_columns(labelled[0], taken)


def is_labelled(values: Any) -> bool:
    """Whether a data frame or series of pandas has an index that is kept."""
    return not _is_plain_range(values.index)


def index_columns(index: Any, taken: Mapping[str, Any]) -> Columns:
    """Return an index as columns: none for a range from 0 without a name, which says nothing."""
    if _is_plain_range(index):
        return []
    if index.nlevels > 1:
        return [level for level in _levels(index) if _is_new(*level, taken)]
    name = _named(index, 0)
    if name is not None:
        return [(name, index)] if _is_new(name, index, taken) else []
    free = [each for each in (_KINDS.get(type(index).__name__, INDEX), INDEX) if each not in taken]
    if not free:
        raise RefusedValueError(
            f"an index without a name beside a column {INDEX!r}; name it, or reset_index(drop=True)"
        )
    return [(free[0], index)]


def _is_plain_range(index: Any) -> bool:
    pandas = loaded("pandas")
    is_range = isinstance(index, pandas.RangeIndex) and index.start == 0 and index.step == 1
    return index.name is None and (is_range or (len(index) == 0 and index.nlevels == 1))


def _named(index: Any, level: int) -> str | None:
    name = index.names[level]
    return None if name is None else _label(name)


def _is_new(name: str, labels: Any, taken: Mapping[str, Any]) -> bool:
    """Whether an index has to be kept beside columns; one that equals a column of its name need not be."""
    if name not in taken:
        return True
    if list(labels) == list(taken[name]):
        return False
    raise RefusedValueError(f"an index {name!r} beside another column of that name; rename one of them")


def _label(label: Any) -> str:
    if isinstance(label, tuple):
        return "_".join(str(part) for part in label if str(part))
    return str.__str__(label) if isinstance(label, str) else str(label)


def dataset_of(arrays: Mapping[Any, Any]) -> Any:
    """Put labelled arrays of xarray together; RefusedValueError if their coordinates do not agree."""
    xarray = loaded("xarray")
    try:
        xarray.align(*arrays.values(), join="exact")
        return xarray.Dataset(dict(arrays))
    except ValueError as error:
        raise RefusedValueError(f"arrays of different coordinates; return an output for each ({error})") from error


def coordinates_of(arrays: Mapping[str, Any], taken: Mapping[str, Any]) -> Columns:
    """Return the coordinates of labelled arrays of xarray as columns; RefusedValueError if a name is `taken`."""
    data = dataset_of(arrays)
    found = [(name, values) for name, values in columns_of_dataset(data) if name in set(map(_label, data.coords))]
    return [coordinate for coordinate in found if _is_new(*coordinate, taken)]


def columns_of_dataset(data: Any) -> Columns:
    """Return a dataset or array of xarray in long form: a row per point, the coordinates first.

    RefusedValueError where its variables span no common points.
    """
    if not hasattr(data, "data_vars"):
        data = data.to_dataset(name=VALUE if data.name is None else data.name)
    if not data.data_vars:
        raise RefusedValueError("a dataset without data variables; return its coordinates as columns")
    dims = max((data[name].dims for name in data.data_vars), key=len)
    if odd := [name for name in data.data_vars if not set(data[name].dims) <= set(dims)]:
        raise RefusedValueError(
            f"a dataset whose variable {odd[0]!r} is not along {', '.join(map(str, dims))}; return an output for each"
        )
    sizes = {dim: data.sizes[dim] for dim in dims}
    names = [*dims, *(name for name in data.coords if name not in dims), *data.data_vars]
    found = [(_label(name), _along(data, name, sizes)) for name in names if set(data[name].dims) <= set(dims)]
    return [(name, values) for name, values in found if values is not None]


def _along(data: Any, name: Any, sizes: Mapping[Any, int]) -> Any:
    """Return the value of a variable at each point; None for a dimension that only counts, or has several levels."""
    if name in sizes and name in data.indexes and data.indexes[name].nlevels > 1:
        return None
    if name in sizes and name not in data.coords and len(sizes) == 1 and _UNNAMED_DIMENSION.fullmatch(str(name)):
        return None
    return np.array(data[name].variable.set_dims(sizes).values).ravel()
