"""The supervisor's side of the fork server: finds or starts it, and talks to it and its children.

Owns the environment a server is started with, one connection, and the channels to the children that are lent to it.
What a child uses is the server's business; who runs what is `supervisor`'s.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from modelops_ray.config import Isolation
from modelops_ray.errors import ModelError
from modelops_ray.runner.server_folders import base_folder, clear, locked, sweep, write_server
from modelops_ray.sandbox import wire
from modelops_ray.sandbox.board import Board
from modelops_ray.sandbox.boot import FAILED, LOADING_WITHIN_S, THREAD_LIMITS, command, last_line
from modelops_ray.sandbox.limits import Limit, process
from modelops_ray.sandbox.loading import ModelRef, workdir_of
from modelops_ray.version import __version__

_OF_ONE_PROCESS = frozenset({*THREAD_LIMITS, "PWD", "OLDPWD", "SHLVL", "_"})
CACHES = ("NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
IDLE_S = 60.0
STARTED_WITHIN_S = 300.0
NUMBER_BYTES = 20
KEPT_OUTPUT_BYTES = 8 * 1024
STARTS = 7
FIRST_PAUSE_S = 0.05
STOPPED_FOR_S = 1.0
_PEER = struct.Struct("3i")


class ServerEndedError(Exception):
    """The fork server has ended, and every child with it."""


class NoChildError(OSError):
    """The fork server cannot start another process now, for the reason it gives."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which fork server; two that want the same share one, and the children that go on.

    `node_bytes` is what the node may use, 0 for all of it.
    """

    model: ModelRef
    cpus: float
    isolation: Isolation
    node_bytes: int = 0

    @property
    def forks(self) -> bool:
        """Whether its children are forks of it, where that is safe."""
        return self.isolation == "fork"


@dataclass(frozen=True, slots=True)
class Death:
    """A child ended without an answer: how, by whom if by us, what it had used, and the end of what it printed.

    `kernel_killed` says whether the kernel killed for memory meanwhile, None where it does not count.
    """

    seconds: float
    peak_bytes: int
    code: int
    reason: str
    kernel_killed: bool | None
    printed: str


class Lent(NamedTuple):
    """A child that the server lends; one that is not ready will say so, or why it never will be."""

    pid: int
    is_ready: bool
    channel: socket.socket
    capture: int
    board: Board


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped, or held by a debugger."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False  # it has ended
    return state in {"T", "t"}


class Connection:
    """One connection to the fork server of a model on this node."""

    def __init__(self, channel: socket.socket, hello: Mapping[str, Any]) -> None:
        """Take over a connection on which the server has said hello."""
        self._channel = channel
        self.private_bytes: int = hello["private_bytes"]
        self.notice: str = hello["notice"]
        self.forks: bool = hello["forks"]
        self._exits: dict[int, dict[str, Any]] = {}
        self._pid, _, _ = _PEER.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        self._was_stopped = False

    def close(self) -> None:
        """Hang up; the server ends every child that it has lent."""
        self._channel.close()

    def fileno(self) -> int:
        """The descriptor on which news arrive."""
        return self._channel.fileno()

    def child(self, limit_bytes: int, *, is_hard: bool, worker_bytes: int, cap_bytes: int | None = None) -> Lent:
        """Ask for a child, held to a `watch.Limit` above what it is born with.

        Raises:
            ServerEndedError: It has.
            NoChildError: It has no process, descriptor or disk left for one.
        """
        self._tell("child", limit_bytes=limit_bytes, is_hard=is_hard, cap_bytes=cap_bytes, worker_bytes=worker_bytes)
        while "exit" in (message := self._message()).header:
            self._exits[message.header["exit"]] = message.header
        if "error" in message.header:
            raise NoChildError(message.header["error"])
        # What is kept under this number is how an earlier child ended that had the same.
        self._exits.pop(message.header["pid"], None)
        channel_fd, capture, board_fd = message.fds
        channel = socket.socket(fileno=channel_fd)
        channel.settimeout(None)
        lent = Lent(message.header["pid"], message.header["ready"], channel, capture, Board(board_fd))
        os.close(board_fd)
        return lent

    def arm(self, pid: int, limit: Limit) -> None:
        """Hold a child to its limit above what it has now."""
        self._tell("arm", pid=pid, **limit._asdict())

    def kill(self, pid: int, reason: str) -> None:
        """Have a child and everything it started killed."""
        self._tell("kill", pid=pid, reason=reason)

    def give_back(self, pid: int, n_served: int, retire_after: int) -> None:
        """Let another supervisor have a child, or end it once it has run `retire_after` simulations."""
        self._tell("give back", pid=pid, n_served=n_served, retire_after=retire_after)

    def hear(self) -> None:
        """Take in one message that has arrived: a child ended.

        Raises:
            ServerEndedError: It has.
        """
        header = self._message().header
        self._exits[header["exit"]] = header

    def exit_of(self, pid: int) -> dict[str, Any] | None:
        """How a child ended, once; None while it has not."""
        return self._exits.pop(pid, None)

    def _tell(self, ask: str, **what: Any) -> None:
        try:
            wire.send(self._channel, {"ask": ask, **what})
        except OSError as error:
            raise ServerEndedError from error

    def end_if_stopped(self) -> None:
        """End a server that was found stopped (by SIGSTOP, a debugger) twice in a row: it lends and ends nothing."""
        is_stopped = _is_stopped(self._pid)
        if is_stopped and self._was_stopped:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._was_stopped = is_stopped

    def _message(self) -> wire.Message:
        readable = select.poll()
        readable.register(self._channel, select.POLLIN)
        while not readable.poll(STOPPED_FOR_S * 1000):
            self.end_if_stopped()
        message = wire.receive(self._channel)
        if message is None:
            raise ServerEndedError
        return message


def connect(wanted: Wanted) -> Connection:
    """Connect to the fork server of a model on this node, which is started where there is none.

    Raises:
        ModelError: It does not start, or cannot import the model.
    """
    base, keeper = base_folder(), _keeper(os.getpid())
    if (found := process(keeper)) is None or found.state == "Z":
        # Its raylet has gone and Ray ends this worker soon: what it would still run has no reader.
        os._exit(1)
    folder = base / _key(wanted, keeper)
    why = ""
    for attempt in range(STARTS):
        with locked(base):
            channel = _connected(folder) or _started(wanted, keeper, folder)
        hello = None if channel is None else _hello(channel, wanted.model.label)
        if channel is not None and hello is not None:
            return Connection(channel, hello.header)
        if channel is not None:
            channel.close()
        if cannot := _text(folder / FAILED):
            raise ModelError(cannot)
        why = last_line(_text(folder / "log"))
        # It was killed, or was just ending when this worker asked.
        time.sleep(FIRST_PAUSE_S * 2**attempt)
    label = wanted.model.label
    raise ModelError(f"the fork server of model {label} did not start, {STARTS} times{why}")


def _hello(channel: socket.socket, label: str) -> wire.Message | None:
    """What a server says first, once it has imported the model; None if it ended instead."""
    channel.settimeout(LOADING_WITHIN_S)
    try:
        hello = wire.receive(channel)
    except TimeoutError:
        raise ModelError(f"model {label} was not imported within {LOADING_WITHIN_S:g} s") from None
    channel.settimeout(None)
    return hello


@functools.cache
def _keeper(pid: int) -> int:
    """The process a server of this one lives for: the raylet that started it, even once that has gone, else itself."""
    with suppress(OSError):
        if Path(f"/proc/{os.getppid()}/comm").read_text().strip() == "raylet":
            return os.getppid()
    return pid


def _key(wanted: Wanted, keeper: int) -> str:
    """Short, for a socket's path has 108 characters at most."""
    ref = wanted.model
    parts = (ref.digest, ref.label, ref.location, ref.root, _python(ref), f"{wanted.cpus:g}", wanted.isolation)
    around = (__version__, json.dumps(_environment(), sort_keys=True), str(wanted.node_bytes), str(keeper))
    return hashlib.sha256(os.fsencode("|".join((*parts, *around)))).hexdigest()[:12]


def _environment() -> dict[str, str]:
    """What a model may see of the environment of this worker; the rest differs from worker to worker of one run."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and not name.endswith("_VISIBLE_DEVICES") and name not in _OF_ONE_PROCESS
    }


def _connected(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(None)
    try:
        connection.connect(str(folder / "socket"))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _started(wanted: Wanted, keeper: int, folder: Path) -> socket.socket | None:
    """Start a server, once what an earlier one left behind is gone; None where it ended at once."""
    sweep(folder.parent)
    clear(folder)
    server = _start(wanted, keeper, folder)
    while server and (found := process(server)) is not None and found.state != "Z":
        if (connection := _connected(folder)) is not None:
            return connection
        time.sleep(0.01)
    return None


def _start(wanted: Wanted, keeper: int, folder: Path) -> int:
    """Start a server and return its process; 0 where not even the interpreter starts."""
    ref = wanted.model
    folder.mkdir(mode=0o700)
    spec = {
        "model": ref.to_json(),
        "keeper": keeper,
        "idle_s": IDLE_S,
        "workdir": workdir_of(ref),
        "forks": wanted.forks,
        "node_bytes": wanted.node_bytes,
    }
    (folder / "server.json").write_text(json.dumps(spec))
    limits = dict.fromkeys(THREAD_LIMITS, str(max(1, int(wanted.cpus))))
    cache = folder.parent / "compiled" / ref.digest[:12]
    caches = {name: os.environ.get(name, str(cache)) for name in CACHES}
    with (folder / "log").open("wb") as log, _pipe() as (read_fd, write_fd):
        # It forks once more, so that it is no child of this worker: Ray kills those of a worker that retires.
        starter = subprocess.Popen(  # noqa: S603 (ourselves)
            command("forkserver", "start", str(folder), str(write_fd), python=_python(ref)), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True, pass_fds=(write_fd,),
            env=os.environ | limits | caches | {"PYTHONHASHSEED": "0"},
        )  # fmt: skip
        server = _server_of(starter, read_fd)
    write_server(folder, server)
    return server


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    fds = os.pipe()
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _server_of(starter: subprocess.Popen[bytes], read_fd: int) -> int:
    """The number that a starter writes into a pipe of its own before it ends; 0 where it does not, or not in time."""
    try:
        starter.wait(STARTED_WITHIN_S)
    except subprocess.TimeoutExpired:
        starter.kill()
        starter.wait()
    os.set_blocking(read_fd, False)
    try:
        number = os.read(read_fd, NUMBER_BYTES)
    except BlockingIOError:
        return 0
    return int(number) if number.isdigit() else 0


def _python(ref: ModelRef) -> str:
    return ref.python or sys.executable


def last_words(wanted: Wanted) -> str:
    """What the server printed last before it ended, to go at the end of a sentence; empty if nothing."""
    return last_line(_text(base_folder() / _key(wanted, _keeper(os.getpid())) / "log"))


def _text(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text(errors="replace")
    return ""
