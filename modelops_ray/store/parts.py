"""Parts: Parquet files that are written once and verified as a whole whenever they are read.

Owns how a table becomes a file and back. Does not know which parts count: the commit log says so.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_ray.core.policy import count
from modelops_ray.errors import ResultsError, one_line
from modelops_ray.store.commits import LivePart, Part
from modelops_ray.store.documents import damaged
from modelops_ray.store.storage.base import Folder, Sink
from modelops_ray.study.schema import plain_schema

SIMULATIONS = "simulations"
ATTEMPTS = "attempts"
OUTPUTS = "outputs"
_MOST_CHARS = 200
GROUP_ROWS = 128 * 1024
_ALWAYS = {SIMULATIONS: ["task_id", "status"], ATTEMPTS: ["task_id", "attempt"]}
"""Columns that tell a table from the others; every other has the identity alone."""
Runs = Sequence[tuple[int, int]]


def write_part(folder: Folder, path: str, table: pa.Table, positions: Runs = (), *, failed: bool = False) -> Part:
    """Write a table durably; no reader looks at it until a commit names it."""
    written = folder.write(path, partial(_fill, table))
    return Part(
        path=path,
        rows=table.num_rows,
        bytes=written.size_bytes,
        sha256=written.sha256,
        positions=tuple(positions),
        failed=failed,
    )


def _fill(table: pa.Table, sink: Sink) -> None:
    plain = plain_schema(table.schema)
    with pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        table.schema,
        compression="zstd",
        # zstd alone compresses numbers better than a dictionary, in a fraction of the time.
        use_dictionary=[field.name for field in plain if pa.types.is_string(field.type)],
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        for start in range(0, max(1, table.num_rows), GROUP_ROWS):
            # A dictionary of texts becomes Parquet's own; of plain texts each would be hashed again.
            writer.write_table(table.slice(start, GROUP_ROWS).unify_dictionaries())
        # Arrow's readers take the types from here: those of the model, also where a column came in another type.
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(plain.serialize())})


def require_sizes(folder: Folder, parts: Iterable[LivePart]) -> None:
    """Make sure that every part is there and as long as its commit says; ResultsError if one is not.

    Cheap enough for every start.
    """
    sizes: dict[str, dict[str, int]] = {}
    for part in parts:
        if part.folder not in sizes:
            sizes[part.folder] = folder.sizes(part.folder)
        # What a listing lacks is asked for by name: that of an object store may be some seconds behind.
        found = sizes[part.folder].get(part.path.rpartition("/")[2]) or folder.size(part.path)
        if found is None:
            raise _missing(folder, part)
        if found != part.size_bytes:
            raise _changed(folder, part, f"it has {count(found, 'byte')} instead of {part.size_bytes:,}")


def read_part(folder: Folder, part: LivePart, columns: list[str] | None = None) -> pa.Table:
    """Read a part; ResultsError if it is missing, or a byte of it is not as it was committed."""
    return _table(folder, part, folder.read(part.path), columns)


def read_parts(folder: Folder, parts: Sequence[LivePart], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Read parts one after the other, as `read_part` does."""
    contents = folder.read_all(part.path for part in parts)
    for part, data in zip(parts, contents, strict=True):
        yield _table(folder, part, data, columns)


def part_schema(folder: Folder, part: LivePart) -> pa.Schema:
    """Read the columns of a part, verified the same."""
    data = _verified(folder, part, folder.read(part.path))
    with _reading(folder, part):
        return pq.read_schema(data)


def _table(folder: Folder, part: LivePart, data: bytes | None, columns: list[str] | None) -> pa.Table:
    verified = _verified(folder, part, data)
    with _reading(folder, part):
        # `read_table` would import pyarrow.dataset, and with it pandas: a second, for one file.
        table = pq.ParquetFile(verified).read(columns)
    lacking = [name for name in columns or _ALWAYS.get(part.folder, ["task_id"]) if name not in table.column_names]
    if lacking:
        raise _changed(folder, part, f"it has no column {lacking[0]}")
    if table.num_rows != part.rows:
        raise _changed(folder, part, f"it has {count(table.num_rows, 'row')} instead of {part.rows:,}")
    return table


@contextmanager
def _reading(folder: Folder, part: LivePart) -> Iterator[None]:
    """A file that is as its commit says may still be none that Arrow reads: the commit is of another program."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _changed(folder, part, f"it cannot be read as Parquet ({one_line(error, _MOST_CHARS)})") from error


def _verified(folder: Folder, part: LivePart, data: bytes | None) -> pa.BufferReader:
    if data is None:
        raise _missing(folder, part)
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise _changed(folder, part, "its content is damaged")
    # Into Arrow's own memory: an Arrow thread that frees Python's memory while the interpreter ends aborts the process.
    copy = pa.allocate_buffer(len(data))
    memoryview(copy).cast("B")[:] = data
    return pa.BufferReader(copy)


def _missing(folder: Folder, part: LivePart) -> ResultsError:
    return damaged(folder.where(part.path), f"missing, and named by {part.commit}")


def _changed(folder: Folder, part: LivePart, what: str) -> ResultsError:
    return damaged(folder.where(part.path), f"not what {part.commit} says, {what}")
