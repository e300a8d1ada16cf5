"""Every message between a supervisor, the fork server and its children: what it says, and what is accepted of it.

Owns the types of messages, and writing and reading them. A message travels as the header `{name: [fields]}`. What a
child or a connection sends is foreign: a message that is not expected, a field too few or too many, of another type or
out of bounds is refused. Only a child trusts what it reads, for it hears its supervisor alone. Framing is `wire`'s
business, and the values beside a header `answers`'. Runs in the model's interpreter; standard library only.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union

from . import wire
from .held import held
from .limits import Limit
from .raised import KINDS, MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, MAX_TYPE_CHARS, Told, bounded_message
from .reading import MAX_FILES
from .workroom import MAX_PATHS

CANNOT_ANSWER = 70
"""The exit code of a child that cannot say what came of its simulations, because its channel was broken, say."""
MAX_REQUEST_BYTES = 64 * 1024
"""The largest header that the fork server accepts."""
MAX_ANSWER_HEADER_BYTES = 8 * 2**20
"""The largest header that a child may send.

It sends what it has once that is a MiB, and what one simulation adds is bounded by `usable` and `raised`.
"""
MAX_SECONDS = 1e9
MAX_MEMORY_BYTES = 2**62
MAX_PEAK_BYTES = 2**60
MAX_CELLS = 2**22
MAX_PATH_CHARS = 2**14
MAX_STAMP_CHARS = 100
MAX_NOTICE_CHARS = 2**20
MAX_PID = 2**31 - 1
CODES = frozenset("n?qdifs")
"""How the values of a column of rows travel: no values, truth values, numbers as `array` calls them, text."""

_TERMS = "server.json"
T = TypeVar("T")


class GarbledError(Exception):
    """What arrived is no message that is expected; the text says what was wrong with it."""


class Terms(NamedTuple):
    """What a server is started with; it stands in a file of the server's folder.

    `model` are the fields of a `ModelRef`, `keeper` is the process the server ends with, `forks` says whether its
    children are forks where that is safe, and `node_bytes` is what the node may use, 0 for all there is.
    """

    model: dict[str, Any]
    keeper: int
    idle_s: float
    workdir: str
    forks: bool
    node_bytes: int

    def write(self, folder: Path) -> None:
        """Write them into the server's folder."""
        (folder / _TERMS).write_text(json.dumps(self._asdict()))

    @staticmethod
    def read(folder: Path) -> Terms:
        """Read what `write` wrote."""
        return Terms(**json.loads((folder / _TERMS).read_text()))


class Lend(NamedTuple):
    """A supervisor, whose own process uses `worker_bytes`, asks the server for a child that is held to a limit."""

    limit: Limit
    worker_bytes: int


class Arm(NamedTuple):
    """A supervisor wants a child held to its limit above the `base_bytes` that it had before it was given anything."""

    pid: int
    limit: Limit
    base_bytes: int


class Kill(NamedTuple):
    """A supervisor wants a child and everything it started killed."""

    pid: int
    reason: str


class TakeBack(NamedTuple):
    """A supervisor is done with a child, which ends once it has run `retire_after` simulations."""

    pid: int
    n_served: int
    retire_after: int


class Hello(NamedTuple):
    """The server says first what it owns, what a user is to be told of the node, and whether its children are forks."""

    private_bytes: int
    notice: str
    forks: bool


class Lent(NamedTuple):
    """The server lends a child; its channel, output and board travel beside it. One not ready says so, or why never."""

    pid: int
    is_ready: bool


class NoChild(NamedTuple):
    """The server cannot start another process now."""

    why: str


class Ended(NamedTuple):
    """A child has ended: how, why if it was killed by us, and the most it was seen to use in its last simulation.

    `kernel_killed` says whether the kernel killed for memory meanwhile, None where the kernel does not count.
    """

    pid: int
    code: int
    reason: str
    peak_bytes: int
    kernel_killed: bool | None


class Work(NamedTuple):
    """What a child is to run: for each of `runs` the index of its parameters, and its seed.

    `outputs` are the names to keep, None for all; `measure` asks for what the child owns itself, `marks` for marks
    among what it prints.
    """

    scenario: str
    outputs: Sequence[str] | None
    measure: bool
    marks: bool
    params: Sequence[Mapping[str, Any]]
    runs: Sequence[tuple[int, int]]


class Ready(NamedTuple):
    """A child that loaded the model itself can run simulations."""


class CannotLoad(NamedTuple):
    """A child cannot load the model."""

    why: str


class LookAt(NamedTuple):
    """The driver asks of a model, given as the fields of a `ModelRef`; with `measure` also what loading it takes."""

    model: dict[str, Any]
    workdir: str
    within_s: float
    measure: bool


class LookEnded(NamedTuple):
    """How the process that imported a model ended, and where in the model's files that was; a report is its blob."""

    code: int
    timed_out: bool
    place: str


class Looked(NamedTuple):
    """What was seen of a model that can be called; `loading_bytes` is what loading it adds to a bare process.

    `shared` are the names in its folders that are also those of Python's or installed modules; with `again` some of
    them were found too late for this import. `read` are the files that count of those that the import read.
    """

    loading_bytes: int
    shared: tuple[str, ...]
    again: bool
    read: Sequence[str]


class Rows(NamedTuple):
    """Rows of one output with the same columns and types (see `CODES`), of these simulations of the message."""

    output: str
    columns: Sequence[str]
    codes: str
    of: Sequence[int]


class Answered(NamedTuple):
    """A child tells what came of the next `n` simulations it was given, in their order; the values are blobs beside it.

    `n_left` of what it was given are another's to run. `took_s` is since the answers before, `own_bytes` what the child
    owns itself, 0 where it did not measure that. Failures, tables, and paths outside of its own folder that were
    written name the simulation they are of by its place in the message; `changed` are files of the model's. `read` are
    files that this process read for the first time in that simulation, with what tells whether they changed since.
    """

    n: int
    n_left: int
    took_s: float
    own_bytes: int
    failures: Sequence[tuple[int, Told]]
    tables: Sequence[tuple[int, str]]
    rows: Sequence[Rows]
    wrote: Sequence[tuple[int, str]]
    changed: Sequence[str]
    read: Sequence[tuple[int, str, str]]


ToServer = Union[Lend, Arm, Kill, TakeBack]
FromServer = Union[Hello, Lent, NoChild, Ended]
FromChild = Union[Ready, CannotLoad, Answered]


def send(
    channel: socket.socket, message: tuple[Any, ...], blobs: Sequence[bytes] = (), fds: Sequence[int] = ()
) -> None:
    """Send one message, whole; OSError where the other side has gone."""
    wire.send(channel, {type(message).__name__: message}, blobs, fds)


def work_bytes(work: Work) -> bytes:
    """Return what is sent to a child; parameters are a blob, for they may be larger than a header."""
    return wire.packed({"Work": work[:4]}, [held.dumps(work[4:]).encode()])


def receive_work(channel: socket.socket) -> Work | None:
    """Wait for the next work of a child; None once its supervisor has hung up."""
    message = wire.receive(channel)
    return None if message is None else Work(*message.header["Work"], *held.loads(bytes(message.blobs[0])))


def read_to_server(header: Mapping[str, Any]) -> ToServer:
    """Read what a connection asks of the server; GarbledError where it is no request."""
    return _read(header, _TO_SERVER)


def read_from_server(header: Mapping[str, Any]) -> FromServer:
    """Read what the server tells a supervisor; GarbledError where it is none of the server's messages."""
    return _read(header, _FROM_SERVER)


def read_from_child(header: Mapping[str, Any], n_given: int, *, is_ready: bool) -> FromChild:
    """Read what a child tells, which may be anything: GarbledError where it is not what a child sends.

    The child was given `n_given` simulations that it has not answered; `is_ready` where it is known that it can run
    some.
    """
    answered: dict[str, Callable[..., FromChild]] = {"Answered": partial(_answered, n_given)}
    return _read(header, answered if is_ready else answered | _LOADING)


def read_report(text: bytes) -> Looked | CannotLoad:
    """Read what a process that imported a model says of it; GarbledError where it is no report."""
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GarbledError(type(error).__name__) from error
    if type(report) is not dict:
        raise GarbledError(f"a {type(report).__name__}")
    return _read(report, _REPORTS)


def _cannot_load(why: str) -> CannotLoad:
    return CannotLoad(bounded_message(why))


def _looked(n_bytes: object, names: Any, again: object, read: Any) -> Looked:
    shared = tuple(_text(name, MAX_PATH_CHARS) for name in names)
    if not all(map(str.isidentifier, shared)):
        raise GarbledError(f"it tells of modules called {shared!r:.40}")
    if type(read) is not list:
        raise GarbledError(f"it sent a {type(read).__name__} for a list of files")
    return Looked(_bytes(n_bytes), shared, _truth(again), [_text(path, MAX_PATH_CHARS) for path in read[:MAX_FILES]])


def _read(header: Mapping[str, Any], readers: Mapping[str, Callable[..., T]]) -> T:
    try:
        [(name, fields)] = header.items()
        return readers[name](*fields)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise GarbledError(f"{type(error).__name__}: {str(error)[:MAX_TYPE_CHARS]}") from error


def _answered(n_given: int, *fields: Any) -> Answered:
    n, n_left, took_s, own_bytes, failures, tables, rows, wrote, changed, read = fields
    n = whole(n, 1, n_given)
    return Answered(
        n,
        whole(n_left, 0, n_given - n),
        seconds(took_s),
        whole(own_bytes, 0, MAX_PEAK_BYTES),
        [(whole(at, 0, n - 1), _failure(*told)) for at, told in failures],
        [(whole(at, 0, n - 1), _text(name, MAX_MESSAGE_CHARS)) for at, name in tables],
        _rows(rows, n),
        [(whole(at, 0, n - 1), _text(path, MAX_PATH_CHARS)) for at, path in wrote[:MAX_PATHS]],
        [_text(path, MAX_PATH_CHARS) for path in changed[:MAX_PATHS]],
        [_read_by(n, *each) for each in read[:MAX_FILES]],
    )


def _read_by(n: int, at: object, path: object, stamp: object) -> tuple[int, str, str]:
    return whole(at, 0, n - 1), _text(path, MAX_PATH_CHARS), _text(stamp, MAX_STAMP_CHARS)


def _failure(kind: object, name: object, text: object, trace: object) -> Told:
    if kind not in KINDS:
        raise GarbledError(f"it tells of a failure of the kind {kind!r:.40}")
    shown = None if trace is None else _text(trace, MAX_TRACEBACK_CHARS)
    return Told(str(kind), _text(name, MAX_TYPE_CHARS), _text(text, MAX_MESSAGE_CHARS), shown)


def _rows(found: Any, n: int) -> list[Rows]:
    rows, n_cells = [], 0
    for output, columns, codes, of in found:
        n_cells += len(of) * len(columns)
        if n_cells > MAX_CELLS or not len(set(columns)) == len(columns) == len(codes) > 0:
            raise GarbledError(f"it tells of rows with {len(columns)} columns and {len(codes)} types")
        if type(codes) is not str or not CODES.issuperset(codes):
            raise GarbledError(f"it tells of values of the types {codes!r:.40}")
        rows.append(Rows(_text(output, MAX_MESSAGE_CHARS), columns, codes, [whole(at, 0, n - 1) for at in of]))
    return rows


def whole(value: object, least: int, most: int) -> int:
    """Accept a whole number within bounds; GarbledError for anything else."""
    if type(value) is not int or not least <= value <= most:
        raise GarbledError(f"it sent {value!r:.40} for a whole number from {least} to {most}")
    return value


def seconds(value: object) -> float:
    """Accept a number of seconds that is possible; GarbledError for anything else."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:  # type: ignore[operator]
        raise GarbledError(f"it sent {value!r:.40} for a number of seconds")
    return float(value)  # type: ignore[arg-type]


def _text(value: object, n_characters: int) -> str:
    if type(value) is not str or len(value) > n_characters:
        raise GarbledError(f"it sent a {type(value).__name__} for a text of at most {n_characters} characters")
    value.encode()
    return value


def _truth(value: object) -> bool:
    if type(value) is not bool:
        raise GarbledError(f"it sent {value!r:.40} for a truth value")
    return value


def _bytes(value: object) -> int:
    return whole(value, 0, MAX_MEMORY_BYTES)


def _pid(value: object) -> int:
    return whole(value, 1, MAX_PID)


def _limit(limit_bytes: object, is_hard: object, cap_bytes: object) -> Limit:
    return Limit(_bytes(limit_bytes), _truth(is_hard), None if cap_bytes is None else _bytes(cap_bytes))


def _ended(pid: object, code: object, reason: object, peak_bytes: object, kernel_killed: object) -> Ended:
    killed = None if kernel_killed is None else _truth(kernel_killed)
    return Ended(
        _pid(pid), whole(code, -MAX_PID, MAX_PID), _text(reason, MAX_MESSAGE_CHARS), _bytes(peak_bytes), killed
    )


_TO_SERVER: dict[str, Callable[..., ToServer]] = {
    "Lend": lambda limit, worker_bytes: Lend(_limit(*limit), _bytes(worker_bytes)),
    "Arm": lambda pid, limit, base_bytes: Arm(_pid(pid), _limit(*limit), _bytes(base_bytes)),
    "Kill": lambda pid, reason: Kill(_pid(pid), _text(reason, MAX_MESSAGE_CHARS)),
    "TakeBack": lambda pid, n, retire: TakeBack(_pid(pid), whole(n, 0, MAX_PID), whole(retire, 0, MAX_PID)),
}
_FROM_SERVER: dict[str, Callable[..., FromServer]] = {
    "Hello": lambda own, notice, forks: Hello(_bytes(own), _text(notice, MAX_NOTICE_CHARS), _truth(forks)),
    "Lent": lambda pid, is_ready: Lent(_pid(pid), _truth(is_ready)),
    "NoChild": lambda why: NoChild(_text(why, MAX_MESSAGE_CHARS)),
    "Ended": _ended,
}
_LOADING: dict[str, Callable[..., FromChild]] = {
    "Ready": Ready,
    "CannotLoad": _cannot_load,
}
_REPORTS: dict[str, Callable[..., Looked | CannotLoad]] = {"Looked": _looked, "CannotLoad": _cannot_load}
