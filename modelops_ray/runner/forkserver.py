"""The fork server: imports a model once, forks children that simulate, and watches what they use.

Owns its children: nobody else waits for them or kills them. One thread, which never simulates. It ends with the process
that keeps it, or when nobody has asked for a while. Runs in the model's interpreter and imports nothing of ours that
needs more than the standard library and pyarrow.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..machine import memory_bounds
from . import child as child_side
from . import wire
from .loading import ModelRef, load_model
from .measure import private_bytes
from .watch import Limit, Reading, members, over_hard_limit, resident_bytes, to_relieve

if TYPE_CHECKING:
    from .calling import Model

TICK_S = 0.05
SCAN_EVERY_S = 0.25
_UCRED = struct.Struct("3i")


@dataclass
class Child:
    """A living child; `base_bytes` is what it was born with, `peak_bytes` the most that was seen of it and its own."""

    pid: int
    pidfd: int
    limit: Limit
    folder: str
    base_bytes: int
    others: list[int] = field(default_factory=list)
    peak_bytes: int = 0
    reason: str = ""


class Server:
    """Serves supervisors on one socket."""

    def __init__(self, listener: socket.socket, model: Model, keeper: int, idle_s: float) -> None:
        """Begin to serve.

        Args:
            listener: Bound and listening.
            model: Loaded.
            keeper: The process that this one lives for.
            idle_s: End after so long without a supervisor.
        """
        self._listener, self._model, self._idle_s = listener, model, idle_s
        self._selector = selectors.DefaultSelector()
        self._children: dict[socket.socket, dict[int, Child]] = {}
        self._hello = {"private_bytes": private_bytes(), "threads": thread_names()}
        self._keeper = os.pidfd_open(keeper)
        self._last_s = self._scanned_s = time.monotonic()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._end)
        self._is_over = False

    def run(self) -> None:
        """Serve until it is over."""
        while not self._is_over:
            has_children = any(self._children.values())
            for key, _ in self._selector.select(TICK_S if has_children else 1.0):
                # An event before it may have ended this one, and its number may be another's by now.
                if self._selector.get_map().get(key.fileobj) is key:
                    key.data()
            self._watch()
            if self._children:
                self._last_s = time.monotonic()
            if time.monotonic() - self._last_s > self._idle_s:
                self._end()
        for connection in list(self._children):
            self._hang_up(connection)

    def _end(self) -> None:
        self._is_over = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != os.getuid():
            connection.close()
            return
        self._children[connection] = {}
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(connection))
        self._tell(connection, self._hello)

    def _hear(self, connection: socket.socket) -> None:
        message = wire.receive(connection)
        if message is None:
            self._hang_up(connection)
        elif message.header["ask"] == "fork":
            self._fork(connection, message)
        else:
            child = self._children[connection].get(message.header["pid"])
            if child is not None:
                _kill(child, message.header["reason"])

    def _hang_up(self, connection: socket.socket) -> None:
        """The supervisor has gone: nobody wants its children any more."""
        for one in list(self._children[connection].values()):
            _kill(one, "its supervisor has gone")
            self._reap(connection, one)
        del self._children[connection]
        self._selector.unregister(connection)
        connection.close()

    def _fork(self, connection: socket.socket, message: wire.Message) -> None:
        asked, (channel_fd, capture_fd) = message.header, message.fds
        room = child_side.Room(asked["data_bytes"], tempfile.mkdtemp(prefix="child-", dir=asked["folder"]))
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                child_side.live(socket.socket(fileno=channel_fd), capture_fd, self._model, room, server)
            finally:
                os._exit(70)
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        for fd in message.fds:
            os.close(fd)
        limit = Limit(asked["limit_bytes"], asked["is_hard"])
        one = Child(pid, os.pidfd_open(pid), limit, room.folder, resident_bytes(pid))
        self._children[connection][pid] = one
        self._selector.register(one.pidfd, selectors.EVENT_READ, lambda: self._reap(connection, one))
        self._tell(connection, {"pid": pid})

    def _reap(self, connection: socket.socket, one: Child) -> None:
        self._selector.unregister(one.pidfd)
        os.close(one.pidfd)
        _kill_group(one.pid)
        _, status = os.waitpid(one.pid, 0)
        del self._children[connection][one.pid]
        shutil.rmtree(one.folder, ignore_errors=True)
        code = os.waitstatus_to_exitcode(status)
        self._tell(connection, {"exit": one.pid, "code": code, "reason": one.reason, "peak_bytes": one.peak_bytes})

    def _tell(self, connection: socket.socket, header: dict[str, Any]) -> None:
        # Whoever has hung up is noticed when its connection is read.
        with suppress(ConnectionError):
            wire.send(connection, header)

    def _watch(self) -> None:
        everybody = {one.pid: one for children in self._children.values() for one in children.values()}
        if not everybody:
            return
        if time.monotonic() - self._scanned_s > SCAN_EVERY_S:
            self._scanned_s = time.monotonic()
            for group, others in members(everybody).items():
                everybody[group].others = others
        readings = [_read(one) for one in everybody.values()]
        for reading in over_hard_limit(readings):
            _kill(everybody[reading.pid], f"it used {reading.used_bytes} bytes, over its limit")
        self._relieve(everybody, readings)

    def _relieve(self, everybody: dict[int, Child], readings: list[Reading]) -> None:
        """Kill one at a time where the node is short of memory; the next when its pages are back."""
        if any(one.reason for one in everybody.values()):
            return
        for bound in memory_bounds():
            worst = to_relieve(readings, bound.used_bytes, bound.limit_bytes)
            if worst is not None:
                _kill(everybody[worst.pid], f"it used {worst.used_bytes} bytes while the node was short of memory")
                return


def _read(one: Child) -> Reading:
    used_bytes = resident_bytes(one.pid) - one.base_bytes + sum(map(resident_bytes, one.others))
    one.peak_bytes = max(one.peak_bytes, used_bytes)
    return Reading(one.pid, used_bytes, one.limit)


def _kill(one: Child, reason: str) -> None:
    one.reason = one.reason or reason
    _kill_group(one.pid)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(one.pidfd, signal.SIGKILL)


def _kill_group(group: int) -> None:
    # Its leader has not been waited for, so the number is nobody else's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def thread_names() -> list[str]:
    """The threads of this process besides the first; a fork would lose them."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    return sorted((task / "comm").read_text().strip() for task in tasks)


def main(folder: Path) -> None:
    """Be a fork server, as `server.json` in its folder says."""
    spec = json.loads((folder / "server.json").read_text())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen(128)
    if spec["workdir"]:
        os.chdir(spec["workdir"])
    reference = spec["model"]
    try:
        model = load_model(ModelRef(**(reference | {"pickled": bytes.fromhex(reference["pickled"])})))
    except ModelError as error:
        # The last line of the log is what the supervisors tell the user.
        sys.exit(str(error))
    child_side.warm_up()
    gc.collect()
    gc.freeze()
    sys.stdout.flush()
    Server(listener, model, spec["keeper"], spec["idle_s"]).run()
