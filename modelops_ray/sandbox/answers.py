"""What a child tells of the simulations it ran: how it is packed, and how it is taken apart without trust.

Owns the form of an answer on both sides, its bounds, and the check that it is one. Numbers travel as the bytes they
are, rows of scalars by column, tables as Arrow streams; nothing that arrives is run. Which simulation pays for a
message that is none is `supervisor`'s business. Packing runs in the model's interpreter.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ..errors import one_line
from .held import held
from .raised import KINDS, MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, MAX_TYPE_CHARS, Told
from .workroom import MAX_PATHS

if TYPE_CHECKING:
    import pyarrow as pa

    from .outputs import Scalars
    from .wire import Message

CANNOT_ANSWER = 70
"""How a process of ours ends that cannot say what came of its simulations, because its channel was broken, say."""
MAX_ROW_COLUMNS = 1000
"""A row with more columns travels as a table."""
MAX_HEADER_BYTES = 8 * 2**20
"""A child sends what it has once that is a MiB, and what one simulation adds is bounded by `usable` and `raised`."""
MAX_SECONDS = 1e9
MAX_PEAK_BYTES = 2**60
MAX_CELLS = 2**22
MAX_PATH_CHARS = 2**14
_CODES = frozenset("n?qdifs")
"""How the values of a column of rows travel: no values, truth values, numbers as `array` calls them, text."""


class GarbledError(Exception):
    """What a child sent is no answer; the message says what was wrong with it."""


class Answer(NamedTuple):
    """What came of one simulation: its outputs, or a description of what it raised."""

    seconds: float
    peak_bytes: int
    failure: Optional[Told]  # noqa: UP045 (Python 3.9 reads it)
    outputs: Mapping[str, Scalars | pa.Table]


class Answers(NamedTuple):
    """One message of a child: answers in the order in which their simulations were given.

    `n_left` of what was given are another's to run, if any. `own_bytes` is what the child owns itself, 0 where it did
    not measure that. `wrote` are paths outside of its own folder that an answer's simulation wrote to, `changed` are
    files of the model's that were changed.
    """

    answers: list[Answer]
    n_left: int
    took_s: float
    own_bytes: int
    wrote: list[tuple[int, str]]
    changed: list[str]


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
    """How values travel, by their types; found once, in the server."""
    import numpy as np

    return {
        type(None): "n", bool: "?", int: "q", float: "d", str: "s", np.bool_: "?", np.int32: "i", np.int64: "q",
        np.float32: "f", np.float64: "d",
    }  # fmt: skip


class Packer:
    """Gathers answers in a child until they are sent.

    Attributes:
        n: How many there are.
        size_bytes: Roughly what they take.
    """

    def __init__(self) -> None:
        self._codes = _codes()
        self._begin()

    def _begin(self) -> None:
        self.n = self.size_bytes = 0
        self._seconds, self._peaks = array("d"), array("q")
        self._failures: list[tuple[Any, ...]] = []
        self._rows: dict[tuple[object, ...], _Rows] = {}
        self._tables: list[tuple[int, str]] = []
        self._streams: list[bytes] = []

    def packed(self, outputs: Mapping[str, Scalars | pa.Table]) -> Packed:
        """Prepare what a simulation returned; nothing is kept of it here."""
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
        """Take what came of the next simulation."""
        self._seconds.append(seconds)
        self._peaks.append(peak_bytes)
        if failure is not None:
            self._failures.append((self.n, *failure))
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

    def message(self, **told: object) -> tuple[dict[str, Any], list[bytes]]:
        """Return all that was gathered as the header and blobs of a message, and begin anew."""
        blobs = [self._seconds.tobytes(), self._peaks.tobytes(), *self._streams]
        rows = []
        # A simulation that failed may have been the only one with rows of its columns.
        for group in (group for group in self._rows.values() if group.of):
            rows.append((group.output, group.columns, group.codes, group.of))
            blobs += map(_column, group.codes, zip(*[row.values() for row in group.rows]))
        header = {"n": self.n, "failures": self._failures, "tables": self._tables, "rows": rows, **told}
        self._begin()
        return header, blobs

    def _is_new(self, key: _Key, row: Mapping[str, object]) -> bool:
        """Begin rows of these columns, unless they have to travel as tables."""
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


def answers_of(message: Message, n_given: int) -> Answers:
    """Take apart what a child sent, which may be anything.

    Args:
        message: What arrived.
        n_given: How many simulations it was given and has not answered.

    Raises:
        GarbledError: It is not what a child sends.
    """
    import pyarrow as pa

    from .outputs import BadOutputError

    unreadable = (
        pa.ArrowException, BadOutputError, ValueError, TypeError, LookupError, OverflowError, OSError, MemoryError,
        RecursionError,
    )  # fmt: skip
    try:
        return _Unpacked(message, n_given).answers()
    except unreadable as error:
        raise GarbledError(f"{type(error).__name__}: {one_line(error)}") from error


class _Unpacked:
    """A message, looked at with suspicion."""

    def __init__(self, message: Message, n_given: int) -> None:
        self._header, self._blobs = message.header, message.blobs
        self._n_given = n_given
        self._n = _whole(self._header["n"], 1, n_given)

    def answers(self) -> Answers:
        header, n = self._header, self._n
        n_left = _whole(header["left"], 0, self._n_given - n)
        own_bytes = _whole(header.get("own_bytes", 0), 0, MAX_PEAK_BYTES)
        seconds, peaks = self._numbers(0, "d"), self._numbers(1, "q")
        for one, peak_bytes in zip(seconds, peaks, strict=True):
            _seconds(one)
            _whole(peak_bytes, 0, MAX_PEAK_BYTES)
        failures = self._failures()
        answers = [
            Answer(seconds[at], peaks[at], failures.get(at), content) for at, content in enumerate(self._outputs())
        ]
        wrote = [
            (_whole(at, 0, n - 1), _text(path, MAX_PATH_CHARS)) for at, path in header.get("wrote", ())[:MAX_PATHS]
        ]
        changed = [_text(path, MAX_PATH_CHARS) for path in header.get("changed", ())[:MAX_PATHS]]
        return Answers(answers, n_left, _seconds(header["took_s"]), own_bytes, wrote, changed)

    def _numbers(self, at: int, code: str) -> list[Any]:
        """Return the blob as numbers, one for each simulation."""
        return _numbers(self._blobs[at], code, self._n)

    def _failures(self) -> dict[int, Told]:
        found: dict[int, Told] = {}
        for at, kind, name, text, trace in self._header["failures"]:
            if kind not in KINDS:
                raise GarbledError(f"it tells of a failure of the kind {kind!r:.40}")
            told = Told(
                kind, _text(name, MAX_TYPE_CHARS), _text(text, MAX_MESSAGE_CHARS),
                None if trace is None else _text(trace, MAX_TRACEBACK_CHARS),
            )  # fmt: skip
            found[_whole(at, 0, self._n - 1)] = told
        return found

    def _outputs(self) -> list[dict[str, Scalars | pa.Table]]:
        """Return the outputs of every simulation, by name."""
        from .usable import require_usable

        outputs: list[dict[str, Scalars | pa.Table]] = [{} for _ in range(self._n)]
        n_used, n_cells = 2, 0
        for at, name in self._header["tables"]:
            table = _table(self._blobs[n_used])
            require_usable({name: table})
            outputs[_whole(at, 0, self._n - 1)][name] = table
            n_used += 1
        for name, columns, codes, of in self._header["rows"]:
            n_cells += len(of) * len(columns)
            if n_cells > MAX_CELLS or not len(set(columns)) == len(columns) == len(codes) > 0:
                raise GarbledError(f"it tells of rows with {len(columns)} columns and {len(codes)} types")
            require_usable({name: dict.fromkeys(columns)})
            blobs = self._blobs[n_used : n_used + len(codes)]
            values = [_values(blob, code, len(of)) for blob, code in zip(blobs, codes)]
            n_used += len(codes)
            for at, row in zip(of, zip(*values)):
                outputs[_whole(at, 0, self._n - 1)][name] = dict(zip(columns, row))
        if n_used != len(self._blobs):
            raise GarbledError(f"it sent {len(self._blobs)} blobs and told of {n_used}")
        return outputs


def _table(blob: bytes | memoryview) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table.replace_schema_metadata(None) if table.schema.metadata else table


def _values(blob: bytes | memoryview, code: str, n: int) -> list[Any]:
    """Return the values of one column of rows."""
    if code not in _CODES:
        raise GarbledError(f"it tells of values of the type {code!r:.40}")
    if code == "n" and len(blob) == 0:
        return [None] * n
    if code == "s":
        texts = held.loads(bytes(blob))
        "".join(texts).encode()
        return _exactly(list(texts), n)
    values = _numbers(blob, {"?": "b"}.get(code, code), n)
    if code == "?":
        return [bool(_whole(value, 0, 1)) for value in values]
    if code in "fi":
        import numpy as np

        # What they were: a column of them is as narrow.
        return list(np.frombuffer(blob, code))
    return values


def _numbers(blob: bytes | memoryview, code: str, n: int) -> list[Any]:
    return _exactly(memoryview(blob).cast(code).tolist(), n)  # type: ignore[call-overload]


def _exactly(values: list[Any], n: int) -> list[Any]:
    if len(values) != n:
        raise GarbledError(f"it sent {len(values)} values for {n} simulations")
    return values


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise GarbledError(f"it sent {value!r:.40} for a whole number from {least} to {most}")
    return value


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:  # type: ignore[operator]
        raise GarbledError(f"it sent {value!r:.40} for a number of seconds")
    return float(value)  # type: ignore[arg-type]


def _text(value: object, n_characters: int) -> str:
    if type(value) is not str or len(value) > n_characters:
        raise GarbledError(f"it sent a {type(value).__name__} for a text of at most {n_characters} characters")
    value.encode()
    return value
