"""Parquet files as the program reads them, in one thread, and each content once: a world is read again and again.

Owns what was read lately. The program still checks the bytes that it finds each time; equal bytes are equal tables.
"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REMEMBERED = 500


class Parquet:
    """Stands in the place of the module `pyarrow.parquet`."""

    ParquetWriter = pq.ParquetWriter
    read_schema = staticmethod(pq.read_schema)

    class ParquetFile:
        """A file that is read as a whole, or some columns of it."""

        def __init__(self, source: pa.BufferReader) -> None:
            """Take its bytes."""
            self._data = source.read()

        def read(self, columns: list[str] | None = None) -> pa.Table:
            """Read it, unless the same was read lately."""
            return _read(self._data, None if columns is None else tuple(columns))


@functools.lru_cache(REMEMBERED)
def _read(data: bytes, columns: tuple[str, ...] | None) -> Any:
    file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    return file.read(None if columns is None else list(columns), use_threads=False)
