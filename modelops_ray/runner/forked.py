"""The supervisor's side of the fork server: finds or starts it, and runs simulations in its children.

Owns the server's folder, the thread limits it is started with, one connection, and the time limit. What a child uses
is the server's business, and what follows from a failure the core's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import selectors
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from modelops_ray.errors import ModelError
from modelops_ray.runner import wire
from modelops_ray.runner.loading import ModelRef
from modelops_ray.runner.tables import Scalars

THREAD_LIMITS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
# Of pyarrow's allocator, which restarts it in the child.
SURVIVE_A_FORK = frozenset({"jemalloc_bg_thd"})
IDLE_S = 60.0
KEPT_OUTPUT_BYTES = 8 * 1024
# The package's modules under another name, so that no folder of ours is on the model's search path.
_BOOT = """
import os, sys, types
if server := os.fork():
    os.write(1, b"%d" % server)
    os._exit(0)
os.dup2(2, 1)
sys.path[:] = [entry for entry in sys.path if entry]
for name, folder in (("_modelops_ray", sys.argv[1]), ("_modelops_ray.runner", sys.argv[1] + "/runner")):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [folder]
from pathlib import Path
from _modelops_ray.runner.forkserver import main
main(Path(sys.argv[2]))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one simulation: its outputs, or a description of what it raised."""

    seconds: float
    peak_bytes: int
    outputs: Mapping[str, Scalars | pa.Table]
    failure: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A child ended without an answer: how, by whom if by us, what it had used, and the end of what it printed."""

    seconds: float
    peak_bytes: int
    code: int
    reason: str
    printed: str


class Supervisor:
    """One connection to the fork server of a model on this node."""

    def __init__(self, connection: socket.socket, folder: Path, private_bytes: int) -> None:
        self._connection, self._folder = connection, folder
        self.private_bytes = private_bytes
        self._exits: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up; the server ends every child of this connection."""
        self._connection.close()

    def fork(self, limit_bytes: int, *, is_hard: bool, data_bytes: int = 0) -> ChildProcess:
        """Have a child forked.

        Args:
            limit_bytes: What it may use above what it is born with.
            is_hard: Whether it is killed for more whatever the node has left.
            data_bytes: Above this an allocation fails in the child itself; 0 for never.

        Raises:
            EOFError: The server has ended.
        """
        ours, theirs = socket.socketpair()
        read_fd, write_fd = os.pipe()
        asked = {
            "ask": "fork",
            "limit_bytes": limit_bytes,
            "is_hard": is_hard,
            "data_bytes": data_bytes,
            "folder": str(self._folder),
        }
        try:
            wire.send(self._connection, asked, fds=(theirs.fileno(), write_fd))
        finally:
            theirs.close()
            os.close(write_fd)
        return ChildProcess(self, self._reply()["pid"], ours, read_fd)

    def kill(self, pid: int, reason: str) -> None:
        """Have a child and everything it started killed."""
        wire.send(self._connection, {"ask": "kill", "pid": pid, "reason": reason})

    def fileno(self) -> int:
        """The descriptor on which news arrive."""
        return self._connection.fileno()

    def hear(self) -> None:
        """Take in one message that has arrived: a child ended.

        Raises:
            EOFError: The server has ended.
        """
        header = self._message()
        self._exits[header["exit"]] = header

    def exit_of(self, pid: int) -> dict[str, Any] | None:
        """How a child ended, once; None while it has not."""
        return self._exits.pop(pid, None)

    def _reply(self) -> dict[str, Any]:
        while "exit" in (header := self._message()):
            self._exits[header["exit"]] = header
        return header

    def _message(self) -> dict[str, Any]:
        message = wire.receive(self._connection)
        if message is None:
            raise EOFError("the fork server has ended")
        return message.header


class ChildProcess:
    """A child as its supervisor sees it; runs one simulation after the other."""

    def __init__(self, supervisor: Supervisor, pid: int, channel: socket.socket, capture: int) -> None:
        self._supervisor, self._channel, self._capture = supervisor, channel, capture
        self.pid = pid
        self._printed = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._selector.register(capture, selectors.EVENT_READ)
        self._selector.register(supervisor, selectors.EVENT_READ)

    def simulate(self, asked: Mapping[str, Any], timeout_s: float) -> Answer | Death:
        """Run one simulation and wait for what comes of it, `timeout_s` seconds at most (0 for ever).

        Raises:
            EOFError: The server has ended, and the child with it.
        """
        began_s = time.monotonic()
        deadline_s = began_s + timeout_s if timeout_s else float("inf")
        # Where the child has died by now, its exit arrives from the server.
        with suppress(ConnectionError):
            wire.send(self._channel, asked)
        is_late = False
        while True:
            wait_s = None if is_late or not timeout_s else max(0.0, deadline_s - time.monotonic())
            for key, _ in self._selector.select(wait_s):
                if (answer := self._take(key.fileobj)) is not None:
                    return answer
            if (ended := self._supervisor.exit_of(self.pid)) is not None:
                return self._death(ended, time.monotonic() - began_s)
            if not is_late and time.monotonic() >= deadline_s:
                is_late = True
                self._supervisor.kill(self.pid, "timeout")

    def close(self) -> None:
        """Let it go: it ends by itself when its channel does."""
        self._selector.close()
        self._channel.close()
        os.close(self._capture)

    def _take(self, source: object) -> Answer | None:
        if source is self._channel:
            message = wire.receive(self._channel)
            if message is not None:
                return _answer(message)
            self._selector.unregister(self._channel)
        elif source is self._supervisor:
            self._supervisor.hear()
        else:
            self._read_capture()
        return None

    def _read_capture(self) -> None:
        data = os.read(self._capture, 65536)
        if not data:
            self._selector.unregister(self._capture)
        self._printed = (self._printed + data)[-KEPT_OUTPUT_BYTES:]

    def _death(self, ended: Mapping[str, Any], seconds: float) -> Death:
        while self._capture in self._selector.get_map() and self._selector.select(0):
            self._read_capture()
        printed = self._printed.decode(errors="replace")
        return Death(seconds, ended["peak_bytes"], ended["code"], ended["reason"], printed)


def _answer(message: wire.Message) -> Answer:
    header = message.header
    if header["failure"] is not None:
        return Answer(header["seconds"], header["peak_bytes"], {}, header["failure"])
    outputs = {
        name: pa.ipc.open_stream(blob).read_all() if form == "arrow" else pickle.loads(blob)  # noqa: S301 (our child)
        for (name, form), blob in zip(header["outputs"], message.blobs, strict=True)
    }
    return Answer(header["seconds"], header["peak_bytes"], outputs)


def supervise(ref: ModelRef, cpus: float) -> Supervisor:
    """Connect to the fork server of a model on this node, which is started where there is none.

    Raises:
        ModelError: It does not start, or cannot import the model.
    """
    keeper = _keeper()
    folder = _folder(ref, cpus, keeper)
    with _locked(folder):
        connection = _connected(folder)
        if connection is None:
            connection = _wait_for(_start(ref, cpus, keeper, folder), ref, folder)
    hello = wire.receive(connection)
    if hello is None:
        connection.close()
        raise ModelError(_why(ref, folder))
    threads = sorted(set(hello.header["threads"]) - SURVIVE_A_FORK)
    if threads:
        connection.close()
        raise ModelError(
            f"importing model {ref.label} starts threads ({', '.join(threads)}), which a fork would lose; "
            "start them in the simulation, or run it with --isolation none"
        )
    return Supervisor(connection, folder, hello.header["private_bytes"])


def _keeper() -> int:
    """The process a server lives for: the raylet that started this worker, else this process."""
    with suppress(OSError):
        if Path(f"/proc/{os.getppid()}/comm").read_text().strip() == "raylet":
            return os.getppid()
    return os.getpid()


def _folder(ref: ModelRef, cpus: float, keeper: int) -> Path:
    """A folder that only this user can open, the same for all workers of a node that want the same server."""
    base = Path(tempfile.gettempdir()) / f"modelops-ray-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ModelError(f"{base} is not a folder of this user alone; remove it")
    key = "|".join((ref.digest, ref.label, ref.location, sys.executable, f"{cpus:g}", str(keeper)))
    folder = base / hashlib.sha256(key.encode()).hexdigest()[:12]
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _connected(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(folder / "socket"))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _start(ref: ModelRef, cpus: float, keeper: int, folder: Path) -> int:
    """Start a server and return its process."""
    (folder / "socket").unlink(missing_ok=True)
    workdir = str(Path(ref.location).parent) if ref.kind == "file" else ref.root
    spec = {
        "model": asdict(ref) | {"pickled": ref.pickled.hex()},
        "keeper": keeper,
        "idle_s": IDLE_S,
        "workdir": workdir,
    }
    (folder / "server.json").write_text(json.dumps(spec))
    limits = dict.fromkeys(THREAD_LIMITS, str(max(1, int(cpus))))
    command = [sys.executable, "-c", _BOOT, str(Path(__file__).parents[1]), str(folder)]
    with (folder / "log").open("wb") as log:
        # It forks once more, so that it is nobody's child: Ray kills the children of a worker that retires.
        starter = subprocess.run(  # noqa: S603 (ourselves)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, check=True,
            env=os.environ | limits | {"PYTHONHASHSEED": "0"},
        )  # fmt: skip
    return int(starter.stdout)


def _wait_for(server: int, ref: ModelRef, folder: Path) -> socket.socket:
    """Connect as soon as it listens; it imports the model after that."""
    while Path(f"/proc/{server}").exists():
        if (connection := _connected(folder)) is not None:
            return connection
        time.sleep(0.01)
    raise ModelError(_why(ref, folder))


def _why(ref: ModelRef, folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    return last if last.startswith("model ") else f"the fork server of model {ref.label} did not start: {last}"
