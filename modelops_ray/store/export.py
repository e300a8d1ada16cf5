"""Writing a table as one file for other programs; the name's ending says in which format.

Owns the formats. Imports Arrow when it writes and not before, so that the command line can name them in its help.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelops_ray.errors import UsageError
from modelops_ray.store.storage.local import LocalFolder

if TYPE_CHECKING:
    import pyarrow as pa


def _write_parquet(table: pa.Table, sink: pa.NativeFile) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, sink, compression="zstd")


def _write_csv(table: pa.Table, sink: pa.NativeFile) -> None:
    from pyarrow.csv import write_csv

    write_csv(table, sink)


def _write_arrow(table: pa.Table, sink: pa.NativeFile) -> None:
    from pyarrow.ipc import new_file

    with new_file(sink, table.schema) as writer:
        writer.write_table(table)


_WRITERS: dict[str, Callable[[pa.Table, pa.NativeFile], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".arrow": _write_arrow,
}
ENDINGS = " or ".join(", ".join(_WRITERS).rsplit(", ", 1))


def write_table(table: pa.Table, path: str | Path) -> None:
    """Write a table in the format that the ending names; what was there before is replaced at once or not at all.

    UsageError for another ending, or a column that the format cannot hold; StorageError if it could not be written.
    """
    import pyarrow as pa

    path = Path(path)
    writer = _WRITERS.get(path.suffix)
    if writer is None:
        raise UsageError(f"{path}: a table is written as {', '.join(_WRITERS)}; end the name with one of them")
    try:
        LocalFolder(path.parent).write(path.name, lambda sink: writer(table, pa.PythonFile(sink, mode="w")))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"{path}: {path.suffix} cannot hold this table ({error}); write .parquet instead") from error
