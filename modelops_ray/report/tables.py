"""Tables as a terminal shows them: what people look for first, as much as fits, and what else there is.

Owns which columns and rows are shown. Exports and whole tables are `store.tables`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from modelops_ray.report.text import count, format_size, number, one_line
from modelops_ray.store.directory import OutputSize
from modelops_ray.study.schema import PARAM_PREFIX

LOOK_BYTES = 32 * 2**20
"""An output larger than this on disk is not read to have a look at it."""

_IDENTITY = ("task_id", "param_id", "replicate", "seed")
_LATER = ("error_type", "attempts", "request_bytes", "seed", "node", "scenario")
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
        return max(len(self.heading), *map(len, self.cells), 0)


def print_first_look(
    console: Console, sizes: Mapping[str, OutputSize], n_completed: int, read: Callable[[str], pa.Table]
) -> None:
    """Print means over replicates of a small output with one row per simulation, else what outputs there are.

    Args:
        console: Where to.
        sizes: Of all outputs; what is larger than `LOOK_BYTES` is not read.
        n_completed: How many simulations they are of; an output of more rows is not read either.
        read: Reads an output.
    """
    for name, size in sizes.items():
        # Compressed, millions of rows can be a few megabytes.
        if size.size_bytes > LOOK_BYTES or size.rows > n_completed:
            continue
        table = read(name)
        if _own_numbers(table) and table.num_rows and len(table["task_id"].unique()) == table.num_rows:
            _print_means(console, name, table)
            return
    columns = [
        _Column("output", tuple(sizes), is_number=False),
        _Column("rows", tuple(f"{size.rows:,}" for size in sizes.values()), is_number=True),
        _Column("on disk", tuple(format_size(size.size_bytes) for size in sizes.values()), is_number=True),
    ]
    _print_columns(console, columns)


def _print_means(console: Console, name: str, table: pa.Table) -> None:
    keys = _parameters(table.column_names)
    values = _own_numbers(table)[:_MAX_COLUMNS]
    # Group by the parameter set, not by its values: a float key would depend on how it is rounded.
    wanted = [(column, "mean") for column in values] + [(key, "first") for key in keys]
    means = table.group_by("param_id", use_threads=False).aggregate([*wanted, ("task_id", "count")])
    varied = [key for key in keys if len(table[key].unique()) > 1][:_MAX_COLUMNS] or keys[:1]
    head = means.slice(0, _MAX_SETS)
    columns = [_column(key.removeprefix(PARAM_PREFIX), head[f"{key}_first"]) for key in varied]
    columns.append(_column("replicates", head["task_id_count"]))
    columns += [_column(value, head[f"{value}_mean"]) for value in values]
    console.print(f"{name}: mean over replicates", highlight=False, markup=False, soft_wrap=True)
    _print_columns(console, list(_fitting(columns, console.width)))
    if means.num_rows > _MAX_SETS:
        console.print(f"and {count(means.num_rows - _MAX_SETS, 'more parameter set')}", highlight=False)


def _parameters(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith(PARAM_PREFIX) and name not in _IDENTITY]


def _own_numbers(table: pa.Table) -> list[str]:
    known = {*_IDENTITY, *_parameters(table.column_names)}
    own = [field for field in table.schema if field.name not in known]
    # Arrow has no means of the halves.
    return [field.name for field in own if _is_number(field.type) and not pa.types.is_float16(field.type)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def print_table(console: Console, table: pa.Table, output_names: Sequence[str]) -> None:
    """Print the head of a table: replicate and parameters, then what came of it, without columns that are empty."""
    head = table.slice(0, _MAX_ROWS)
    is_outcome = "status" in table.column_names
    names = [name for name in _order(table.column_names, is_outcome=is_outcome) if table[name].null_count < len(table)]
    columns = [_column(name.removeprefix(PARAM_PREFIX), head[name]) for name in names]
    _print_columns(console, list(_fitting(columns, console.width)))
    outputs = f"; outputs: {', '.join(output_names) or 'none'}" if is_outcome else ""
    about = f"{count(table.num_rows, 'row')}, {len(table.column_names)} columns{outputs}"
    for line in (about, "export all of it with --to FILE.parquet, .csv or .arrow"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _order(names: Sequence[str], *, is_outcome: bool) -> list[str]:
    """Put first what people look for; identifiers, which nobody reads, are left out."""
    parameters = _parameters(names)
    if is_outcome:
        wanted = ["replicate", *parameters, "status", "cause", "error_message", "seconds", "peak_bytes", *_LATER]
        return [name for name in wanted if name in names]
    own = [name for name in names if name not in _IDENTITY and name not in parameters]
    return ["replicate", *parameters, *own, "seed"]


def _column(name: str, values: pa.ChunkedArray) -> _Column:
    is_number = _is_number(values.type)
    if is_number and name.endswith("_bytes"):
        cells = tuple("" if value is None else format_size(value) for value in values.to_pylist())
        return _Column(name.removesuffix("_bytes"), cells, is_number=True)
    most_chars = _MAX_CELL_CHARS if name != "error_message" else 200
    return _Column(name, tuple(one_line(_cell(value), most_chars) for value in values.to_pylist()), is_number)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def _fitting(columns: Sequence[_Column], width: int) -> Iterator[_Column]:
    """Take columns while there is room; a message takes the room that is left."""
    left = width
    for column in columns:
        room = left - _GAP
        fitting = column
        if column.heading == "error_message" and room >= _MIN_MESSAGE_CHARS:
            fitting = _Column("message", tuple(one_line(cell, room) for cell in column.cells), is_number=False)
        if fitting.width > room:
            return
        left = room - fitting.width
        yield fitting


def _print_columns(console: Console, columns: Sequence[_Column]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column.is_number else "left"
        shown.add_column(column.heading, justify=justify, no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)
