"""From what a model returned to Arrow tables.

Owns what counts as an output, a table, a row and a column, and the messages that refuse anything else. Does not know
identities, parts or other simulations. `values` and `scalars` read values, `frames` reads labels.

A model may return, or put below an output's name, a mapping: a dictionary, a dataclass or a named tuple. If all its
values are tables, mappings or lists of rows, they are outputs; if all are sequences, columns of one table; if all are
scalars, one row. An empty mapping has no outputs. A table that is returned without a name is the output `result`.

Values are kept exactly, in plain types all the way down, or refused by name. All is copied: a model may reuse buffers.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import one_line
from . import frames
from .arrays import plain_array
from .column_types import numbered
from .foreign import authors_code
from .frames import VALUE, Columns
from .plain import Column, RefusedValueError, UnknownValueError, plain_column, quoted
from .scalars import columns_of_rows, fields_of
from .values import column_of, converter_of, is_masked, is_of, own, without_arrow

BARE_OUTPUT = "result"
MOST_COLUMNS = 10_000
"""The most columns of an array of two dimensions: in one with more, rows and columns are exchanged."""
MOST_TEXT = 2**20
"""The most characters of a text that travels in a row; a longer one makes it a table, whose size is bounded."""
MAX_NAME_BYTES = 255
_OUTPUT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PLAIN = {
    type(None): pa.null(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(),
    np.bool_: pa.bool_(), np.int32: pa.int32(), np.int64: pa.int64(),
    np.float32: pa.float32(), np.float64: pa.float64(),
}  # fmt: skip
_WANTED = (
    "a model returns a mapping of output name to a table (pyarrow, pandas, polars, DuckDB, xarray, or a mapping of "
    "column name to a sequence), one table, a list of rows, or a mapping of scalars"
)

Scalars = Mapping[str, object]
_TABLE, _ROWS, _NOTHING, _COLUMN, _SCALAR = "table", "rows", "nothing", "column", "scalar"

_is_pandas_frame = is_of("pandas", "DataFrame")
_is_series = is_of("pandas", "Series")
_is_index = is_of("pandas", "Index")
_is_polars_frame = is_of("polars", "DataFrame")
_is_lazy = is_of("polars", "LazyFrame")
_is_polars_series = is_of("polars", "Series")
_is_xarray = is_of("xarray", "Dataset", "DataArray")
_is_data_array = is_of("xarray", "DataArray")


class BadOutputError(Exception):
    """What a model returned is no table; the message says what it was and what would be right."""


def outputs_of(returned: object, wanted: Sequence[str] | None = None) -> dict[str, Scalars | pa.Table]:
    """Return the outputs by name, the wanted ones or all: a table each, or a dict of plain scalars, which is one row.

    An output that has neither rows nor columns is left out. BadOutputError where a model may not return this, or a
    wanted output is missing.
    """
    # Reading may run a lazy query, or a sequence or mapping class of the model's.
    with authors_code(_unreadable, passing=(BadOutputError, MemoryError)):
        named = _named(returned, wanted or ())
        contents = ((plain_text(name), _content(name, named[name])) for name in _kept(named, wanted))
        return {name: content for name, content in contents if content is not None}


def _unreadable(error: BaseException) -> BadOutputError:
    return BadOutputError(f"what the model returned cannot be read: {type(error).__name__}: {one_line(error)}")


def plain_text(text: str) -> str:
    """Return text as Python's own type: the driver, which reads it, cannot import a type of the model's."""
    return str.__str__(text)


def row_table(rows: Sequence[Scalars]) -> pa.Table:
    """Build a table of rows of plain scalars that share names and types."""
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    arrays = [plain_array(values, _PLAIN[type(values[0])]) for values in columns.values()]
    return pa.Table.from_arrays(arrays, names=list(columns))


def _kept(named: Mapping[str, object], wanted: Sequence[str] | None) -> Iterable[str]:
    for name in wanted or ():
        if name not in named:
            has = ", ".join(map(repr, named)) or "none"
            raise BadOutputError(f"the study asks for output {name!r} and the model returned {has}")
    return named if wanted is None else wanted


def _named(returned: object, wanted: Sequence[str]) -> Mapping[str, object]:
    if type(returned) is not dict:
        if _is_xarray(returned):
            return {BARE_OUTPUT: returned}
        fields = returned if isinstance(returned, Mapping) else fields_of(returned)
        if fields is None:
            return {BARE_OUTPUT: returned}
        returned = fields
    if not returned:
        return {}
    shapes = dict(zip(returned, map(_shape, returned.values())))
    found = set(shapes.values())
    if _COLUMN in found and any(map(_is_used_up, returned.values())):
        return _named({name: list(value) if _is_used_up(value) else value for name, value in returned.items()}, wanted)
    if _are_one_table(found, returned, wanted):
        return {BARE_OUTPUT: returned}
    for name, shape in shapes.items():
        # Series and arrays with labels are tables, where a list may be no more than a forgotten column.
        if shape not in (_TABLE, _ROWS, _NOTHING) and not _is_named_column(returned[name]):
            raise BadOutputError(f"output {name!r} is {_kind(returned[name])} while others are tables; {_WANTED}")
        require_output_name(name)
    return returned


def require_output_name(name: object) -> None:
    """Make sure that an output can be kept as a folder; BadOutputError says what is allowed."""
    if not isinstance(name, str) or _OUTPUT_NAME.fullmatch(name) is None or len(name) > MAX_NAME_BYTES:
        raise BadOutputError(
            f"output name {quoted(name)} must be letters, digits, '_', '.' or '-', not first '.' or '-', and at most "
            f"{MAX_NAME_BYTES} characters"
        )


def _are_one_table(shapes: set[str], returned: Mapping[Any, object], wanted: Sequence[str]) -> bool:
    if shapes == {_NOTHING}:
        # Lists without rows are outputs where the study says so, and columns elsewhere.
        return not wanted or not set(wanted) <= set(returned)
    # A list of rows beside columns is a column of structs, an empty list beside tables a table.
    are_outputs = _TABLE in shapes or (_ROWS in shapes and shapes <= {_ROWS, _NOTHING})
    return not are_outputs or all(map(_is_data_array, returned.values()))


def _shape(value: object) -> str:
    """Say what a value of a mapping is when looked at alone."""
    kind = type(value)
    if kind in _PLAIN:
        return _SCALAR
    if kind is dict:
        return _TABLE
    if kind is list or kind is tuple:
        return _shape_of_sequence(value)  # type: ignore[arg-type]
    if kind is np.ndarray:
        return _shape_of_array(value)  # type: ignore[arg-type]
    if isinstance(value, (np.generic, pa.Scalar)):
        return _TABLE if fields_of(value) else _SCALAR
    if isinstance(value, Mapping) or _has_columns(value) or fields_of(value):
        return _TABLE
    if isinstance(value, np.ndarray):
        return _shape_of_array(value)
    if isinstance(value, (list, tuple)):
        return _shape_of_sequence(value)
    is_point = _is_data_array(value) and not value.ndim  # type: ignore[attr-defined]
    return _SCALAR if is_point or converter_of(value) is None else _COLUMN


def _is_named_column(value: object) -> bool:
    return _is_series(value) or _is_polars_series(value) or _is_data_array(value)


def _is_used_up(value: object) -> bool:
    """Whether a value can be read only once, such as an iterator: what it yields is made a list."""
    kind = type(value)
    if kind in _PLAIN or kind is np.ndarray or kind is list or kind is dict:
        return False
    return isinstance(value, (Iterator, deque, ValuesView)) and not _is_capsule(value)


def _shape_of_sequence(value: Sequence[object]) -> str:
    if not value:
        return _NOTHING
    return _ROWS if _is_row(value[0]) and all(map(_is_row, value)) else _COLUMN


def _shape_of_array(value: np.ndarray) -> str:
    if value.ndim == 0:
        return _SCALAR
    return _COLUMN if value.dtype.names is None else _ROWS


def _is_row(value: object) -> bool:
    if isinstance(value, (int, float, str, list)):
        return False
    return isinstance(value, Mapping) or fields_of(value) is not None


def _has_columns(value: Any) -> bool:
    """Whether a value is a table of some library, rather than a column."""
    if isinstance(value, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return True
    is_column = isinstance(value, (pa.Array, pa.ChunkedArray)) or _is_series(value)
    if is_column or (_is_data_array(value) and value.ndim < 2):
        return False
    if _is_xarray(value) or _is_pandas_frame(value) or _is_lazy(value):
        return True
    # Columns of data frames have the interface too; only tables name their columns.
    return _is_capsule(value) and any(hasattr(value, name) for name in ("columns", "schema"))


def _is_capsule(value: object) -> bool:
    return hasattr(type(value), "__arrow_c_stream__") or hasattr(type(value), "__arrow_c_array__")


def _content(name: str, value: object) -> Scalars | pa.Table | None:
    if type(value) is dict or (isinstance(value, Mapping) and not _is_xarray(value)):
        return _of_mapping(name, value)
    if fields := fields_of(value):
        return _of_mapping(name, fields)
    if _is_used_up(value):
        value = list(value)  # type: ignore[call-overload]
    try:
        if _has_columns(value) and not (_is_pandas_frame(value) or _is_xarray(value)):
            return _from_arrow(name, value)
        columns = _bare_columns(value)
    except RefusedValueError as error:
        raise BadOutputError(f"output {name!r} is {error}") from error
    if columns is None:
        raise BadOutputError(f"output {name!r} is {_kind(value)}; {_WANTED}")
    if not columns:
        return None
    return _from_columns(name, columns, [value] if _is_pandas_frame(value) or _is_series(value) else [])


def _bare_columns(value: Any) -> Columns | None:
    """Return the columns of a table that is no mapping of columns; None where it is no table."""
    for recognises, columns in _BARE:
        if recognises(value):
            return columns(value)
    shape = _shape(value)
    if shape == _ROWS:
        return _of_rows(value)
    if shape == _NOTHING:
        return [] if isinstance(value, list) else None
    if shape == _COLUMN:
        return _of_sequence(value)
    try:
        return None if value is None else [(VALUE, column_of([value]))]
    except UnknownValueError:
        return None


def _of_rows(value: Any) -> Columns:
    if isinstance(value, np.ndarray):
        return [(field, value[field]) for field in value.dtype.names]
    rows = columns_of_rows([row if isinstance(row, Mapping) else fields_of(row) or {} for row in value])
    if not rows:
        raise RefusedValueError("a list of rows without columns; name what is in them")
    return list(rows.items())


def _of_sequence(value: Any) -> Columns | None:
    if getattr(value, "ndim", 1) == 2:
        return [("x", value)]
    if isinstance(value, tuple):
        return None
    values = value if isinstance(value, (list, np.ndarray)) else column_of(value)
    # A list of lists or of tables is ambiguous.
    is_flat = not isinstance(values, list) or all(_shape(each) == _SCALAR for each in values)
    return [(VALUE, values)] if is_flat else None


_BARE = [
    (_is_pandas_frame, frames.columns_of_frame),
    (_is_series, frames.columns_of_series),
    (_is_index, frames.columns_of_index),
    (_is_xarray, frames.columns_of_dataset),
    (_is_polars_series, lambda series: [(series.name or VALUE, series)]),
]


def _of_mapping(name: str, value: Mapping[Any, object]) -> Scalars | pa.Table:
    for column in value:
        if not isinstance(column, str):
            raise BadOutputError(f"output {name!r} has a column name {quoted(column)}; column names must be text")
    if not value:
        raise BadOutputError(f"output {name!r} is a mapping without columns; {_WANTED}")
    columns = {plain_text(column): values for column, values in value.items()}
    if all(map(_is_plain, columns.values())):
        return columns
    are_arrays = all(map(_is_data_array, columns.values()))
    scalars = [column for column, values in columns.items() if not are_arrays and _shape(values) == _SCALAR]
    is_row = len(scalars) == len(columns)
    if scalars and not is_row:
        raise BadOutputError(
            f"output {name!r} mixes scalars and sequences ({scalars[0]!r} is {_kind(columns[scalars[0]])}); "
            "give columns of equal lengths, or scalars only for one row"
        )
    try:
        labelled = _labelled(columns)
        if is_row:
            labelled = [(column, [values] if column in columns else values) for column, values in labelled]
        return _from_columns(name, labelled, [values for values in columns.values() if _is_series(values)])
    except RefusedValueError as error:
        raise BadOutputError(f"output {name!r} has {error}") from error


def _labelled(columns: Mapping[str, Any]) -> Columns:
    """Return columns with what labels their rows: the index that series share, the coordinates of arrays."""
    arrays = {column: values for column, values in columns.items() if _is_data_array(values)}
    if len(arrays) == len(columns):
        return frames.columns_of_dataset(frames.dataset_of(columns))
    series = [values for values in columns.values() if _is_series(values)]
    labels = frames.index_of_series(series, columns)
    return [*columns.items(), *labels, *(frames.coordinates_of(arrays, {**columns, **dict(labels)}) if arrays else ())]


def _from_columns(name: str, columns: Columns, of_pandas: Sequence[Any]) -> pa.Table:
    """Make a table of columns that came from these frames and series of pandas, or from none."""
    arrays = [(column, _column(name, column, value)) for column, value in _flat(name, columns)]
    if len({len(array) for _, array in arrays}) > 1:
        lengths = ", ".join(f"{column!r} {len(array)}" for column, array in arrays[:8])
        raise BadOutputError(f"output {name!r} has columns of different lengths: {lengths}")
    table = _table(name, arrays)
    return numbered(table) if of_pandas and not any(map(frames.is_labelled, of_pandas)) else table


def _flat(name: str, columns: Columns) -> Columns:
    """Make each column of an array of two dimensions a column of its own: `x_0`, `x_1` and so on."""
    flat: Columns = []
    for column, value in columns:
        if getattr(value, "ndim", 1) != 2:
            flat.append((column, value))
            continue
        values = value if is_masked(value) else np.asarray(value)
        if not 0 < values.shape[1] <= MOST_COLUMNS:
            raise BadOutputError(
                f"output {name!r}, column {column!r}: found {values.shape[1]} columns in an array of two dimensions, "
                f"which may have 1 to {MOST_COLUMNS}; return it transposed, or a row for each value"
            )
        flat += [(f"{column}_{at}", values[:, at]) for at in range(values.shape[1])]
    return flat


def _column(output: str, column: str, value: object) -> Column:
    try:
        return column_of(value)
    except RefusedValueError as error:
        row = "" if error.row is None else f", row {error.row}"
        kind = "" if isinstance(value, list) else f" ({_kind(value)})"
        raise BadOutputError(f"output {output!r}, column {column!r}{row}: found {error}{kind}") from error
    except MemoryError:
        raise
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError, RuntimeError) as error:
        # Arrays of other libraries say in their own words why they cannot be read.
        raise BadOutputError(
            f"output {output!r}, column {column!r}: found {_kind(value)} that cannot be read: {one_line(error)}; "
            "return a NumPy array or a list"
        ) from error


def _from_arrow(name: str, value: Any) -> pa.Table | None:
    if _is_lazy(value):
        raise RefusedValueError(f"{_kind(value)}; return .collect()")
    if _is_polars_frame(value):
        for column, dtype in value.schema.items():
            if unreadable := without_arrow(dtype):
                raise BadOutputError(f"output {name!r}, column {column!r}: found {unreadable}")
    try:
        table = pa.table(value)
    except pa.ArrowNotImplementedError as error:
        raise RefusedValueError(f"{_kind(value)} that Arrow does not read: {one_line(error)}") from error
    if not table.num_columns:
        return None
    for field in table.schema:
        if extension := _unknown_extension(field):
            raise BadOutputError(
                f"output {name!r}, column {field.name!r}: found the extension type {extension!r}, which pyarrow "
                f"does not know; return what it stores ({field.type}) as a plain column"
            )
    columns = [(field.name, _plain_column(name, field.name, table.column(at))) for at, field in enumerate(table.schema)]
    return own(_table(name, columns))


def _unknown_extension(field: pa.Field) -> str:
    """Return the name of an extension type that this Arrow does not know, and reads as its storage; else ""."""
    name = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
    inner = (field.type.field(at) for at in range(field.type.num_fields))
    return name or next(filter(None, map(_unknown_extension, inner)), "")


def _plain_column(output: str, column: str, values: pa.ChunkedArray) -> Column:
    try:
        return plain_column(values)
    except RefusedValueError as error:
        raise BadOutputError(f"output {output!r}, column {column!r}: found {error}") from error


def _table(output: str, columns: Sequence[tuple[str, Column]]) -> pa.Table:
    names = [column for column, _ in columns]
    if len(set(names)) < len(names):
        raise BadOutputError(
            f"output {output!r} has more than one column {max(names, key=names.count)!r}; give them different names"
        )
    return pa.Table.from_arrays([array for _, array in columns], names=names)


def _is_plain(value: object) -> bool:
    """Whether a scalar surely has an Arrow type, which is the same for every value of its Python type."""
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is str:
        return len(value) <= MOST_TEXT and value.isascii()
    return type(value) in _PLAIN


def _kind(value: object) -> str:
    kind = type(value)
    return "None" if value is None else f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")
