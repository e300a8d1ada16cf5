"""Finding the fork server of a model on this node, and starting it where there is none.

Owns what a server is started with: its folder, its environment, the process it lives for. What is asked of it is
`forkserver_client`'s business.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelops_ray.config import Isolation
from modelops_ray.errors import ModelError
from modelops_ray.runner.forkserver_client import Connection
from modelops_ray.runner.server_folders import base_folder, clear, locked, sweep, wait_for_end, write_server
from modelops_ray.sandbox import wire
from modelops_ray.sandbox.boot import FAILED, LOADING_WITHIN_S, THREAD_LIMITS, command, last_line
from modelops_ray.sandbox.loading import ModelRef, workdir_of
from modelops_ray.sandbox.processes import process
from modelops_ray.sandbox.protocol import Hello, Terms, read_from_server
from modelops_ray.version import __version__

_OF_ONE_PROCESS = frozenset({*THREAD_LIMITS, "PWD", "OLDPWD", "SHLVL", "_"})
CACHES = ("NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
IDLE_S = 60.0
STARTED_WITHIN_S = 300.0
ENDING_WITHIN_S = 5.0
NUMBER_BYTES = 20
STARTS = 7
FIRST_PAUSE_S = 0.05


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


def connect(wanted: Wanted) -> Connection:
    """Connect to the fork server of a model on this node, which is started where there is none.

    ModelError where it does not start, or cannot import the model.
    """
    base, keeper = base_folder(), _keeper(os.getpid())
    if (found := process(keeper)) is None or found.has_ended:
        # Its raylet has gone and Ray ends this worker soon: what it would still run has no reader.
        os._exit(1)
    folder = base / _key(wanted, keeper)
    why = ""
    for attempt in range(STARTS):
        with locked(base):
            channel = _connected(folder) or _started(wanted, keeper, folder)
        hello = None if channel is None else _hello(channel, wanted.model.label)
        if channel is not None and hello is not None:
            return Connection(channel, hello)
        if channel is not None:
            channel.close()
        if cannot := _text(folder / FAILED):
            raise ModelError(cannot)
        why = last_line(_text(folder / "log"))
        # It was killed, or was just ending when this worker asked.
        time.sleep(FIRST_PAUSE_S * 2**attempt)
    label = wanted.model.label
    raise ModelError(f"the fork server of model {label} did not start, {STARTS} times{why}")


def _hello(channel: socket.socket, label: str) -> Hello | None:
    """What a server says first, once it has imported the model; None if it ended instead."""
    channel.settimeout(LOADING_WITHIN_S)
    try:
        message = wire.receive(channel)
    except TimeoutError:
        raise ModelError(f"model {label} was not imported within {LOADING_WITHIN_S:g} s") from None
    channel.settimeout(None)
    hello = None if message is None else read_from_server(message.header)
    return hello if isinstance(hello, Hello) else None


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
    parts = (ref.digest, ref.label, ref.location, ref.root, ref.interpreter, f"{wanted.cpus:g}", wanted.isolation)
    # A file that was changed since makes another server necessary: this one may have read it as it was.
    around = (
        repr(ref.imported),
        __version__,
        json.dumps(_environment(), sort_keys=True),
        str(wanted.node_bytes),
        str(keeper),
    )
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
    wait_for_end(folder, ENDING_WITHIN_S)
    sweep(folder.parent)
    clear(folder)
    server = _start(wanted, keeper, folder)
    while server and (found := process(server)) is not None and not found.has_ended:
        if (connection := _connected(folder)) is not None:
            return connection
        time.sleep(0.01)
    return None


def _start(wanted: Wanted, keeper: int, folder: Path) -> int:
    """Start a server and return its process; 0 where not even the interpreter starts."""
    ref = wanted.model
    folder.mkdir(mode=0o700)
    terms = Terms(ref.to_json(), keeper, IDLE_S, workdir_of(ref), wanted.forks, wanted.node_bytes)
    terms.write(folder)
    limits = dict.fromkeys(THREAD_LIMITS, str(max(1, int(wanted.cpus))))
    cache = folder.parent / "compiled" / ref.digest[:12]
    caches = {name: os.environ.get(name, str(cache)) for name in CACHES}
    with (folder / "log").open("wb") as log, _pipe() as (read_fd, write_fd):
        # It forks once more, so that it is no child of this worker: Ray kills those of a worker that retires.
        starter = subprocess.Popen(  # noqa: S603 (ourselves)
            command("forkserver", "start", str(folder), str(write_fd), python=ref.interpreter), stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=(write_fd,),
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


def last_words(wanted: Wanted) -> str:
    """What the server printed last before it ended, to go at the end of a sentence; empty if nothing."""
    return last_line(_text(base_folder() / _key(wanted, _keeper(os.getpid())) / "log"))


def _text(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text(errors="replace")
    return ""
