"""The results of simulations, as a child sends them: how values are packed, and taken apart without trust.

Owns the blobs beside an `Answered`, on both sides, and the check that they are what it says; `protocol` owns the
message itself. Numbers travel as the bytes they are, rows of scalars by column, tables as Arrow streams; none is run.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ..errors import one_line
from .held import held
from .protocol import MAX_PEAK_BYTES, Answered, GarbledError, Rows, seconds, whole
from .raised import Told

if TYPE_CHECKING:
    import pyarrow as pa

    from .outputs import Scalars

MAX_ROW_COLUMNS = 1000
"""A row with more columns travels as a table."""


class Answer(NamedTuple):
    """The result of one simulation: its outputs, or a description of what it raised."""

    seconds: float
    peak_bytes: int
    failure: Optional[Told]  # noqa: UP045 (Python 3.9 reads it)
    outputs: Mapping[str, Scalars | pa.Table]


@dataclass
class _Rows:
    """Rows of one output with the same columns and types, and the simulations that they are of."""

    output: str
    columns: tuple[str, ...]
    codes: str
    of: list[int] = field(default_factory=list)
    rows: list[Scalars] = field(default_factory=list)


_Key = tuple[object, ...]
"""An output, and names and types of the columns of one row of it."""


class Packed(NamedTuple):
    """What one simulation returned, ready to be sent: rows of scalars as they are, tables as Arrow streams."""

    rows: Sequence[tuple[_Key, Scalars]] = ()
    streams: Sequence[tuple[str, bytes]] = ()


@functools.cache
def _codes() -> dict[type, str]:
    """The codes by which values travel, by type; found once, in the server."""
    import numpy as np

    return {
        type(None): "n", bool: "?", int: "q", float: "d", str: "s", np.bool_: "?", np.int32: "i", np.int64: "q",
        np.float32: "f", np.float64: "d",
    }  # fmt: skip


class Packer:
    """Gathers answers in a child until they are sent: `n` of them, of roughly `size_bytes`."""

    def __init__(self) -> None:
        self._codes = _codes()
        self._begin()

    def _begin(self) -> None:
        self.n = self.size_bytes = 0
        self._seconds, self._peaks = array("d"), array("q")
        self._failures: list[tuple[int, Told]] = []
        self._rows: dict[tuple[object, ...], _Rows] = {}
        self._tables: list[tuple[int, str]] = []
        self._streams: list[bytes] = []

    def packed(self, outputs: Mapping[str, Scalars | pa.Table]) -> Packed:
        """Prepare what a simulation returned; the packer does not keep it."""
        rows, streams = [], []
        for name, content in outputs.items():
            if type(content) is dict:
                key = (name, *content, *map(type, content.values()))
                if key in self._rows or self._is_new(key, content):
                    rows.append((key, content))
                    continue
            streams.append((name, arrow_stream(content)))
        return Packed(rows, streams)

    def add(self, seconds: float, peak_bytes: int, failure: Told | None, packed: Packed) -> None:
        """Take the result of the next simulation."""
        self._seconds.append(seconds)
        self._peaks.append(peak_bytes)
        if failure is not None:
            self._failures.append((self.n, failure))
            self.size_bytes += len(failure.message) + len(failure.traceback or "")
        for key, row in packed.rows:
            group = self._rows[key]
            group.of.append(self.n)
            group.rows.append(row)
            self.size_bytes += 8 * len(row)
            if "s" in group.codes:
                self.size_bytes += sum(len(value) for value in row.values() if type(value) is str)
        for name, stream in packed.streams:
            self._tables.append((self.n, name))
            self._streams.append(stream)
            self.size_bytes += len(stream)
        self.n += 1

    def message(
        self, *, n_left: int, took_s: float, own_bytes: int, wrote: Sequence[tuple[int, str]], changed: Sequence[str],
        read: Sequence[tuple[int, str, str]],
    ) -> tuple[Answered, list[bytes]]:  # fmt: skip
        """Return all that was gathered as a message and its blobs, and begin anew."""
        blobs = [self._seconds.tobytes(), self._peaks.tobytes(), *self._streams]
        rows = []
        # A group is empty where the only simulation with such rows failed.
        for group in (group for group in self._rows.values() if group.of):
            rows.append(Rows(group.output, group.columns, group.codes, group.of))
            blobs += map(_column, group.codes, zip(*[row.values() for row in group.rows]))
        answered = Answered(self.n, n_left, took_s, own_bytes, self._failures, self._tables, rows, wrote, changed, read)
        self._begin()
        return answered, blobs

    def _is_new(self, key: _Key, row: Mapping[str, object]) -> bool:
        """Begin rows of these columns; False where they have to travel as tables."""
        codes = [self._codes.get(type(value), "") for value in row.values()]
        if len(row) > MAX_ROW_COLUMNS or "" in codes:
            return False
        self._rows[key] = _Rows(str(key[0]), tuple(row), "".join(codes))
        self.size_bytes += sum(map(len, row)) + len(str(key[0]))
        return True


def _column(code: str, values: Sequence[Any]) -> bytes:
    if code in "n?":
        return bytes(map(bool, values)) if code == "?" else b""
    return held.dumps(values).encode() if code == "s" else array(code, values).tobytes()


def arrow_stream(content: Scalars | pa.Table) -> bytes:
    """Write a table, or one row of scalars, as an Arrow IPC stream."""
    import pyarrow as pa

    from .outputs import row_table

    table = row_table([content]) if isinstance(content, Mapping) else content
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def answers_of(answered: Answered, blobs: Sequence[bytes | memoryview]) -> list[Answer]:
    """Take apart what a child sent beside its message, in the order of its simulations.

    It may be anything: GarbledError where it is not what the message says.
    """
    import pyarrow as pa

    from .outputs import BadOutputError

    unreadable = (
        pa.ArrowException, BadOutputError, ValueError, TypeError, LookupError, OverflowError, OSError, MemoryError,
        RecursionError,
    )  # fmt: skip
    try:
        each_s, peaks = _numbers(blobs[0], "d", answered.n), _numbers(blobs[1], "q", answered.n)
        for one_s, peak_bytes in zip(each_s, peaks):
            seconds(one_s)
            whole(peak_bytes, 0, MAX_PEAK_BYTES)
        failures = dict(answered.failures)
        outputs = _outputs(answered, blobs)
        return [Answer(each_s[at], peaks[at], failures.get(at), content) for at, content in enumerate(outputs)]
    except unreadable as error:
        raise GarbledError(f"{type(error).__name__}: {one_line(error)}") from error


def _outputs(answered: Answered, blobs: Sequence[bytes | memoryview]) -> list[dict[str, Scalars | pa.Table]]:
    from .usable import require_usable

    outputs: list[dict[str, Scalars | pa.Table]] = [{} for _ in range(answered.n)]
    n_used = 2
    for at, name in answered.tables:
        table = _table(blobs[n_used])
        require_usable({name: table})
        outputs[at][name] = table
        n_used += 1
    for name, columns, codes, of in answered.rows:
        require_usable({name: dict.fromkeys(columns)})
        values = [_values(blob, code, len(of)) for blob, code in zip(blobs[n_used : n_used + len(codes)], codes)]
        n_used += len(codes)
        for at, row in zip(of, zip(*values)):
            outputs[at][name] = dict(zip(columns, row))
    if n_used != len(blobs):
        raise GarbledError(f"it sent {len(blobs)} blobs and told of {n_used}")
    return outputs


def _table(blob: bytes | memoryview) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table.replace_schema_metadata(None) if table.schema.metadata else table


def _values(blob: bytes | memoryview, code: str, n: int) -> list[Any]:
    if code == "n" and len(blob) == 0:
        return [None] * n
    if code == "s":
        texts = held.loads(bytes(blob))
        "".join(texts).encode()
        return _exactly(list(texts), n)
    values = _numbers(blob, {"?": "b"}.get(code, code), n)
    if code == "?":
        return [bool(whole(value, 0, 1)) for value in values]
    if code in "fi":
        import numpy as np

        # As NumPy's scalars, which they were, so that a column of them is as narrow.
        return list(np.frombuffer(blob, code))
    return values


def _numbers(blob: bytes | memoryview, code: str, n: int) -> list[Any]:
    return _exactly(memoryview(blob).cast(code).tolist(), n)  # type: ignore[call-overload]


def _exactly(values: list[Any], n: int) -> list[Any]:
    if len(values) != n:
        raise GarbledError(f"it sent {len(values)} values for {n} simulations")
    return values
