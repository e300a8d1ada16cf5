"""Tables of parameter sets, one row each: from a file (csv, parquet, arrow) or a frame, with `seed` and `replicates`.

Owns how cells become values, and what the columns mean. What a parameter may be is in `values`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from modelops_ray.config import plain
from modelops_ray.errors import StudyError, one_line
from modelops_ray.study.chunk import Scalar
from modelops_ray.study.document import MAX_SIMULATIONS, read_bytes, read_text
from modelops_ray.study.identity import derived_seed, param_id
from modelops_ray.study.sets import ParameterSet
from modelops_ray.study.values import ParameterRules, describe, refuse, seed_fault

ENDINGS = (".csv", ".parquet", ".arrow", ".feather", ".ipc")
SEED, REPLICATES = "seed", "replicates"
_KIND = "table of parameter sets (.csv, .parquet or .arrow)"
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,29})")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_UNNAMED = "__index_level_"
"""What Arrow calls an index of pandas that has no name, or the name of a column."""


class Table(NamedTuple):
    """Columns by name, all of one length; `place` says where a row is, for messages."""

    source: str
    columns: dict[str, list[Any]]
    place: Callable[[int], str]


def read_table(path: Path) -> Table:
    """Read a file by its ending; StudyError where that fails: it names the file, and the line where there is one."""
    if path.suffix not in ENDINGS:
        raise refuse(str(path), f"the ending {path.suffix or 'of no kind'}", f"a {_KIND}")
    if path.suffix == ".csv":
        return _read_csv(str(path), read_text(path, _KIND, "CSV"))
    content = pa.BufferReader(read_bytes(path, _KIND))
    try:
        return _of_arrow(_read_arrow(content, path.suffix), str(path))
    except (pa.ArrowException, OSError) as error:
        what = "Parquet" if path.suffix == ".parquet" else "Arrow"
        raise StudyError(f"{path}: not a {what} file: {one_line(error, 200)}; write it again") from error


def table_of(frame: object, source: str) -> Table:
    """Take the columns of a frame: of pandas, polars, Arrow or DuckDB, or a mapping of names to values.

    StudyError where it is none of these. An index of pandas counts as columns where it has names.
    """
    if isinstance(frame, Mapping):
        columns = {name: [*values] for name, values in frame.items() if _is_listed(name, values, source)}
        _require_equal_lengths(columns, source)
        return Table(source, columns, lambda row: f"{source}: row {row}")
    if type(frame).__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns"):
        return _of_pandas(frame, source)
    if hasattr(frame, "__arrow_c_stream__"):
        try:
            return _of_arrow(pa.table(frame), source)
        except pa.ArrowException as error:
            raise StudyError(f"{source}: no table: {one_line(error, 200)}; give a data frame") from error
    raise refuse(source, describe(frame), "a data frame, an Arrow table or a mapping of columns")


def sets_of(table: Table, replicates: int | None = None) -> tuple[list[ParameterSet], int]:
    """Return the parameter sets of a table, and how many simulations those have that name no seed.

    `replicates` goes before the table's own column. Where that differs from row to row, the seeds that follow from it
    are written out. StudyError names the row and the column.
    """
    columns = dict(table.columns)
    seeds, counts = columns.pop(SEED, None), columns.pop(REPLICATES, None)
    if not columns:
        raise refuse(table.source, "no column of a parameter", "one for each parameter, such as beta")
    rows = _parameters(table, columns)
    if not rows:
        raise refuse(table.source, "no rows", "at least one parameter set")
    seed_of = [_seed(table, row, seed) for row, seed in enumerate(seeds)] if seeds else [None] * len(rows)
    if replicates is not None or counts is None:
        sets = [ParameterSet(params, seed) for params, seed in zip(rows, seed_of, strict=True)]
        return sets, 1 if replicates is None else replicates
    n_of = [_count(table, row, n, seed_of[row]) for row, n in enumerate(counts)]
    if sum(n_of) > MAX_SIMULATIONS:
        raise refuse(table.source, f"{sum(n_of)} simulations", f"at most {MAX_SIMULATIONS}; split the study")
    free = {n for n, seed in zip(n_of, seed_of, strict=True) if seed is None}
    if len(free) <= 1:
        return [ParameterSet(*each) for each in zip(rows, seed_of, strict=True)], free.pop() if free else 1
    return [one for each in zip(rows, seed_of, n_of, strict=True) for one in _written_out(*each)], 1


def _written_out(params: Mapping[str, Scalar], seed: int | None, n: int) -> Iterable[ParameterSet]:
    if seed is not None:
        return [ParameterSet(params, seed)]
    identifier = param_id(params)
    return [ParameterSet(params, derived_seed(identifier, index)) for index in range(n)]


def _parameters(table: Table, columns: Mapping[str, list[Any]]) -> list[dict[str, Scalar]]:
    rules = ParameterRules()
    checked = []
    for name, values in columns.items():
        column = [plain(value) for value in values]
        for row, value in enumerate(column):
            if value is None:
                raise refuse(f"{table.place(row)}, column {name}", "nothing", "a number, a text, true or false")
            if (fault := rules.fault(name, value)) is not None:
                raise refuse(f"{table.place(row)}, column {name}", *fault)
        checked.append(column)
    return [dict(zip(columns, values, strict=True)) for values in zip(*checked, strict=True)]


def _seed(table: Table, row: int, seed: object) -> int | None:
    seed = plain(seed)
    if seed is None:
        return None
    if (fault := seed_fault(seed)) is not None:
        raise refuse(f"{table.place(row)}, column {SEED}", *fault)
    assert isinstance(seed, int)  # noqa: S101 (for the type checker)
    return seed


def _count(table: Table, row: int, count: object, seed: int | None) -> int:
    count = 1 if count is None else plain(count)
    if type(count) is not int or not 1 <= count <= MAX_SIMULATIONS:
        right = f"a whole number from 1 to {MAX_SIMULATIONS}"
        raise refuse(f"{table.place(row)}, column {REPLICATES}", describe(count), right)
    if seed is not None and count > 1:
        raise refuse(
            f"{table.place(row)}, column {REPLICATES}", f"{count} beside a seed", "1: a seed is one simulation"
        )
    return count


# Files


def _read_csv(source: str, text: str) -> Table:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        names = [name.strip() for name in next(reader, [])]
        _require_names(names, source)
        for row in reader:
            if any(map(str.strip, row)):
                if len(row) != len(names):
                    found = f"{len(row)} value{'s' if len(row) > 1 else ''}"
                    raise refuse(f"{source}: line {reader.line_num}", found, f"{len(names)}, as in line 1")
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise StudyError(f"{source}: line {reader.line_num}: not CSV: {error}; correct it there") from error
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    columns = {name: _column([cell(text) for text in column]) for name, column in zip(names, cells, strict=True)}
    if names[0] == "" and columns[""] == list(range(len(rows))):
        del columns[""]  # the numbers of the rows, which pandas writes before the columns
    if "" in columns:
        raise refuse(f"{source}: line 1", "a column without a name", "the name of a parameter")
    return Table(source, columns, lambda row: f"{source}: line {lines[row]}")


def _require_names(names: Sequence[str], source: str) -> None:
    if not any(names):
        raise refuse(f"{source}: line 1", "nothing", "the names of the parameters, with commas between them")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise refuse(f"{source}: line 1", f"one column, {describe(names[0])}", "names with commas between them")
    _require_unique(names, f"{source}: line 1")


def _require_unique(names: Sequence[str], place: str) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise refuse(place, f"the column {name} twice", "each column once")
        seen.add(name)


def cell(text: str) -> object:
    """What a cell says: a number in the spelling of JSON, a truth value, or text; None where it says nothing."""
    text = text.strip()
    if not text:
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else _WORDS.get(text.lower(), text)


def _column(values: list[object]) -> list[object]:
    """Have all numbers of a column be of one type, as every reader of tables does."""
    if any(type(value) is float for value in values):
        return [float(value) if type(value) is int else value for value in values]
    return values


def _read_arrow(content: pa.BufferReader, suffix: str) -> pa.Table:
    if suffix == ".parquet":
        return pa.parquet.ParquetFile(content).read()
    try:
        return pa.ipc.open_file(content).read_all()
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_stream(content).read_all()


# Frames


def _of_arrow(table: pa.Table, source: str) -> Table:
    _require_unique(table.column_names, source)
    unnamed = _unnamed(table.schema, source)
    _require_own_names([name for name in unnamed.values() if name is not None], table.column_names, source)
    columns = {name: table[name].to_pylist() for name in table.column_names if name not in unnamed}
    return Table(source, columns, lambda row: f"{source}: row {row}")


def _unnamed(schema: pa.Schema, source: str) -> dict[str, object]:
    """The columns that Arrow made of an index of pandas, and what that index is called there."""
    try:
        told = (schema.pandas_metadata or {}).get("columns", ())
        return {each["field_name"]: each["name"] for each in told if each["field_name"].startswith(_UNNAMED)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(f"{source}: what pandas noted of its columns cannot be read; write it again") from error


def _of_pandas(frame: Any, source: str) -> Table:
    index = {level: name for level, name in enumerate(frame.index.names) if name is not None}
    names = [*map(str, frame.columns)]
    _require_unique(names, source)
    _require_own_names(list(index.values()), names, source)
    columns = {str(name): frame.index.get_level_values(level).tolist() for level, name in index.items()}
    columns |= {name: frame.iloc[:, at].tolist() for at, name in enumerate(names)}
    known = {name: [None if type(one).__name__ == "NAType" else one for one in each] for name, each in columns.items()}
    return Table(source, known, lambda row: f"{source}: row {row}")


def _require_own_names(index: Sequence[object], columns: Sequence[str], source: str) -> None:
    for name in index:
        if name in columns:
            raise refuse(source, f"an index named {name}, like a column", "another name, or reset_index(drop=True)")


def _is_listed(name: object, values: object, source: str) -> bool:
    if not isinstance(name, str):
        raise refuse(source, f"the column name {name!r}", "a text as name")
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise refuse(f"{source}: {name}", describe(values), "a list of values")
    return True


def _require_equal_lengths(columns: Mapping[str, list[Any]], source: str) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    first, *others = lengths or [""]
    other = next((name for name in others if lengths[name] != lengths[first]), None)
    if other is not None:
        raise refuse(f"{source}: {other}", f"{lengths[other]} values", f"{lengths[first]}, as {first} has")
