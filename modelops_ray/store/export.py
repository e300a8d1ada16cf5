"""Writing a result as one file for other programs; the name's ending says which."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from modelops_ray.errors import UsageError
from modelops_ray.store.storage.local import LocalFolder


def _write_arrow(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


_WRITERS: dict[str, Callable[[pa.Table, pa.NativeFile], None]] = {
    ".parquet": partial(pq.write_table, compression="zstd"),
    ".csv": pyarrow.csv.write_csv,
    ".arrow": _write_arrow,
}


def write_table(table: pa.Table, path: str | Path) -> None:
    """Write a table as .parquet, .csv or .arrow; what was there before is replaced at once or not at all.

    UsageError for another ending, or a column that the format cannot hold; StorageError if it could not be written.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix)
    if writer is None:
        raise UsageError(f"{path}: a table is written as {', '.join(_WRITERS)}; end the name with one of them")
    try:
        LocalFolder(path.parent).write(path.name, lambda sink: writer(table, pa.PythonFile(sink, mode="w")))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"{path}: {path.suffix} cannot hold this table ({error}); write .parquet instead") from error
