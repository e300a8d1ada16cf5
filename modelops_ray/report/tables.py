"""Tables as a terminal shows them: what people look for first, as much as fits, and what else there is.

Owns which columns and rows are shown. Exports and whole tables are `store.tables`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import JustifyMethod
from rich.table import Table

from modelops_ray.diagnosis.diagnosis import LOOK_BYTES
from modelops_ray.report.screen import Screen
from modelops_ray.report.text import count, format_size, number, one_line, printable
from modelops_ray.store.directory import OutputSize
from modelops_ray.store.export import ENDINGS
from modelops_ray.study.schema import ATTEMPT_COLUMNS, PARAM_PREFIX, PRINTED

_IDENTITY = ("task_id", "param_id", "replicate", "seed")
_LATER = ("error_type", "attempts", "request_bytes", "seed", "node", "scenario")
_OF_ATTEMPTS = ("task_id", "attempt", "cause", "killed_by", "follows", "peak_bytes", "limit_bytes", "error_message")
_MAX_ROWS = 20
_MAX_SETS = 12
_MAX_COLUMNS = 4
_MAX_CELL_CHARS = 24
_MIN_MESSAGE_CHARS = 12
_GAP = 3


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cells: tuple[str, ...]
    is_number: bool

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.heading, *self.cells)))


def print_first_look(
    console: Screen, sizes: Mapping[str, OutputSize], n_completed: int, read: Callable[[str], pa.Table]
) -> None:
    """Print means over replicates of a small output with one row per simulation, else what outputs there are.

    An output that is larger than `LOOK_BYTES`, or has more rows than there are completed simulations, is not read.
    """
    sizes = {name: size for name, size in sizes.items() if name != PRINTED}
    for name, size in sizes.items():
        # Compressed, millions of rows can be a few megabytes.
        if size.size_bytes > LOOK_BYTES or size.rows > n_completed:
            continue
        table = read(name)
        if _own_numbers(table) and table.num_rows and len(table["task_id"].unique()) == table.num_rows:
            _print_means(console, name, table)
            return
    shown = list(sizes.items())[:_MAX_ROWS]
    columns = [
        _Column("output", tuple(_short(console, name) for name, _ in shown), is_number=False),
        _Column("rows", tuple(f"{size.rows:,}" for _, size in shown), is_number=True),
        _Column("on disk", tuple(format_size(size.size_bytes) for _, size in shown), is_number=True),
    ]
    _print_columns(console, columns)
    if len(sizes) > _MAX_ROWS:
        console.say(f"and {count(len(sizes) - _MAX_ROWS, 'more output')}")


def _print_means(console: Screen, name: str, table: pa.Table) -> None:
    keys = _parameters(table.column_names)
    varied = [key for key in keys if len(table[key].unique()) > 1][:_MAX_COLUMNS] or keys[:1]
    values = _own_numbers(table)[:_MAX_COLUMNS]
    # Numbers in place of names, of which Arrow reads some as paths. Grouped by the parameter set, not by its values: a
    # float key would depend on how it is rounded.
    wanted = [(key, "first") for key in varied] + [("task_id", "count")] + [(value, "mean") for value in values]
    columns = [table["param_id"], *(table[name] for name, _ in wanted)]
    grouped = pa.table(columns, list(map(str, range(len(columns))))).group_by("0", use_threads=False)
    means = grouped.aggregate([(str(i), how) for i, (_, how) in enumerate(wanted, start=1)])
    head = means.slice(0, _MAX_SETS)
    shown = [
        _column(console, "replicates" if how == "count" else name.removeprefix(PARAM_PREFIX), head[f"{i}_{how}"])
        for i, (name, how) in enumerate(wanted, start=1)
    ]
    console.say(f"{name}: mean over replicates")
    _print_columns(console, list(_fitting(shown, console.width)))
    if means.num_rows > _MAX_SETS:
        console.say(f"and {count(means.num_rows - _MAX_SETS, 'more parameter set')}")


def _parameters(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith(PARAM_PREFIX) and name not in _IDENTITY]


def _own_numbers(table: pa.Table) -> list[str]:
    own = [field for field in table.schema if field.name not in {*_IDENTITY, *_parameters(table.column_names)}]
    # Arrow has no means of the halves.
    return [field.name for field in own if _is_number(field.type) and not pa.types.is_float16(field.type)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def print_table(console: Screen, table: pa.Table, output_names: Sequence[str]) -> None:
    """Print the head of a table: replicate and parameters, then what came of it, without columns that are empty."""
    head = table.slice(0, _MAX_ROWS)
    is_outcome = "status" in table.column_names
    names = [name for name in _order(table.column_names, is_outcome=is_outcome) if table[name].null_count < len(table)]
    columns = [_column(console, name.removeprefix(PARAM_PREFIX), head[name]) for name in names]
    _print_columns(console, list(_fitting(columns, console.width)))
    outputs = f"; outputs: {', '.join(output_names) or 'none'}" if is_outcome else ""
    about = f"{count(table.num_rows, 'row')}, {count(len(table.column_names), 'column')}{outputs}"
    for line in (about, f"export all of it with --to FILE{ENDINGS}"):
        console.say(line)


def _order(names: Sequence[str], *, is_outcome: bool) -> list[str]:
    """Put first what people look for; identifiers, which are for programs, are left out."""
    parameters = _parameters(names)
    if is_outcome:
        wanted = ["replicate", *parameters, "status", "cause", "error_message", "seconds", "peak_bytes", *_LATER]
        return [name for name in wanted if name in names]
    if names == ATTEMPT_COLUMNS.names:
        return list(_OF_ATTEMPTS)
    own = [name for name in names if name not in _IDENTITY and name not in parameters]
    return ["replicate", *parameters, *own, "seed"]


def _column(console: Screen, name: str, values: pa.ChunkedArray) -> _Column:
    is_number = _is_number(values.type)
    if is_number and name.endswith("_bytes"):
        cells = tuple("" if value is None else format_size(value) for value in values.to_pylist())
        heading = "memory" if name == "peak_bytes" else name.removesuffix("_bytes")
        return _Column(_short(console, heading), cells, is_number=True)
    most_chars = _MAX_CELL_CHARS if name != "error_message" else 200
    cells = tuple(console.plain(one_line(_cell(value), most_chars)) for value in values)
    return _Column(_short(console, name), cells, is_number)


def _short(console: Screen, name: str) -> str:
    """Name a column or an output; two long names differ at their ends as often as at their beginnings."""
    return console.plain(printable(name, _MAX_CELL_CHARS))


def _cell(scalar: pa.Scalar) -> str:
    try:
        value = scalar.as_py()
    except (ArithmeticError, LookupError, ValueError, pa.ArrowException):
        # A time that Python cannot hold, or of a zone that is not known here.
        return str(getattr(scalar, "value", "?"))
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def _cut(text: str, most_cells: int) -> str:
    return text if cell_len(text) <= most_cells else set_cell_size(text, most_cells - 1).rstrip() + "…"


def _fitting(columns: Sequence[_Column], width: int) -> Iterator[_Column]:
    """Take columns while there is room; a message takes the room that is left."""
    left = width
    for column in columns:
        room = left - _GAP
        fitting = column
        if column.heading == "error_message" and room >= _MIN_MESSAGE_CHARS:
            fitting = _Column("message", tuple(_cut(cell, room) for cell in column.cells), is_number=False)
        if fitting.width > room and left < width:
            return
        left = room - fitting.width
        yield fitting


def _print_columns(console: Screen, columns: Sequence[_Column]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column.is_number else "left"
        shown.add_column(column.heading, justify=justify, no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        shown.add_row(*row)
    console.print(shown)
