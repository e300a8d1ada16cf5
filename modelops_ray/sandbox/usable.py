"""Which names and types the outputs of one simulation may have, and how many, large and deep they may be.

The same for every level of isolation, checked before outputs leave the simulation: a refused output is that
simulation's failure. Does not read values: `outputs` does. Runs in the model's interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from ..errors import one_line
from .column_types import RefusedTypeError, plain_type
from .outputs import BARE_OUTPUT, MAX_NAME_BYTES, BadOutputError, Scalars, outputs_of, require_output_name
from .plain import quoted
from .wire import MAX_BYTES

MAX_OUTPUTS = 1000
MAX_TABLES_BYTES = MAX_BYTES // 2
_COLUMN_NAMES = f"a column name is 1 to {MAX_NAME_BYTES} bytes of UTF-8 text without control characters"
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REMEMBERED = 1000
_Known = TypeVar("_Known", set[tuple[str, ...]], dict[str, pa.Schema], dict[tuple[Any, ...], tuple[str, ...]])
_NUMBERS = frozenset({bool, int, float, type(None)})
_MOST_SHOWN = 200
_rows: set[tuple[str, ...]] = set()
_schemas: dict[str, pa.Schema] = {}
_number_rows: dict[tuple[Any, ...], tuple[str, ...]] = {}
"""Names, types and schemas that were found usable, by output: most simulations return what the one before did."""


def usable_outputs(returned: object, wanted: Sequence[str] | None = None) -> dict[str, Scalars | pa.Table]:
    """Return what `outputs_of` does; BadOutputError also for names or sizes that cannot be kept."""
    if wanted is None and type(returned) is dict and (known := _known_rows(returned)) is not None:
        return known
    try:
        outputs = outputs_of(returned, wanted)
    except BadOutputError as error:
        if isinstance(error.__cause__, UnicodeEncodeError):
            raise BadOutputError(
                f"{quoted(error.__cause__.object)}, as a name or a value of an output, is not UTF-8: it has a "
                f"surrogate, as Python puts into names of files that are not; {_COLUMN_NAMES}"
            ) from error
        raise
    require_usable(outputs)
    if type(returned) is dict:
        for name in outputs:
            _learn_row(name, returned.get(name, returned))
    return outputs


def _known_rows(returned: dict[Any, Any]) -> dict[str, Scalars | pa.Table] | None:
    """Return one row, or a row for each output, if they are of numbers and were found usable before; else None."""
    if (row := _known_row(BARE_OUTPUT, returned)) is not None:
        return {BARE_OUTPUT: row}
    rows: dict[str, Scalars | pa.Table] = {}
    for output, content in returned.items():
        row = _known_row(output, content) if type(output) is str and type(content) is dict else None
        if row is None:
            return None
        rows[output] = row
    return rows


def _known_row(output: str, row: dict[Any, Any]) -> dict[str, object] | None:
    names = _number_rows.get((output, *row, *map(type, row.values())))
    if names is None:
        return None
    for value in row.values():
        if type(value) is int and not -(2**63) <= value < 2**63:
            return None
    # With the names that were remembered: an equal key may be of a class of the model's.
    return dict(zip(names, row.values()))


def _learn_row(output: str, row: Any) -> None:
    if type(row) is not dict or not row or not all(type(name) is str for name in row):
        return
    kinds = tuple(map(type, row.values()))
    if _NUMBERS.issuperset(kinds):
        _remember(_number_rows)[(output, *row, *kinds)] = tuple(row)


def require_usable(outputs: Mapping[str, Scalars | pa.Table]) -> None:
    """Make sure that outputs can be kept as folders and columns; BadOutputError says what is allowed."""
    if len(outputs) > MAX_OUTPUTS:
        raise BadOutputError(f"the model returned {len(outputs):,} outputs; a simulation may have {MAX_OUTPUTS:,}")
    n_bytes = 0
    for name, content in outputs.items():
        if isinstance(content, pa.Table):
            _require_table(name, content.schema)
            n_bytes += content.get_total_buffer_size()
        elif (names := (name, *content)) not in _rows:
            require_output_name(name)
            _require_column_names(name, content)
            _remember(_rows).add(names)
    if n_bytes > MAX_TABLES_BYTES:
        raise BadOutputError(f"the model returned {n_bytes / 2**30:.1f} GiB; a simulation may return 1 GiB")


def _require_table(output: str, schema: pa.Schema) -> None:
    known = _schemas.get(output)
    if known is not None and known.equals(schema):
        return
    require_output_name(output)
    _require_column_names(output, schema.names)
    for field in schema:
        _require_type(output, field.name, field.type)
    _remember(_schemas)[output] = schema


def _remember(known: _Known) -> _Known:
    if len(known) >= _REMEMBERED:
        known.clear()
    return known


def _require_column_names(output: str, columns: Iterable[str]) -> None:
    for column in columns:
        if not column or _UNUSABLE.search(column) or len(column.encode()) > MAX_NAME_BYTES:
            raise BadOutputError(f"output {output!r} has a column name {quoted(column)}; {_COLUMN_NAMES}")


def _require_type(output: str, column: str, kind: pa.DataType) -> None:
    """Make sure that a column is of a plain type, which every reader of the results knows."""
    where = f"output {output!r}, column {quoted(column)}"
    try:
        plain = plain_type(kind)
    except RefusedTypeError as error:
        raise BadOutputError(f"{where}: found {one_line(error, _MOST_SHOWN)}") from error
    if plain != kind:
        raise BadOutputError(f"{where}: found {one_line(kind, _MOST_SHOWN)}, of which only the plain form is kept")
    _require_column_names(output, _names_in(kind))


def _names_in(kind: pa.DataType) -> Iterator[str]:
    """Yield the names of the fields of structs in a type, which are columns in Parquet."""
    for at in range(kind.num_fields if pa.types.is_nested(kind) else 0):
        if pa.types.is_struct(kind):
            yield kind.field(at).name
        yield from _names_in(kind.field(at).type)
