"""The fork server: imports a model once, forks children that simulate, and watches what they use.

Owns its children: nobody else waits for them or kills them. One thread, which never simulates. It ends with the process
that keeps it, or when nobody has asked for a while. Where a fork would not be safe, or is not wanted, its children are
new interpreters that load the model themselves and are kept for the next supervisor. Runs in the model's interpreter
and imports nothing of ours that needs more than the standard library and pyarrow.
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
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..machine import MemoryBounds, kernel_kills, memory_strain
from . import child as child_side
from . import wire
from .board import NOT_READY, Board
from .boot import command
from .child import Room
from .measure import private_bytes, resident_parts
from .threads import ThreadTracker
from .watch import Crawl, Limit, Reading, Strain, Use, families, over_hard_limit, process, processes, to_relieve

if TYPE_CHECKING:
    from .calling import Model

TICK_S = 0.05
SCAN_EVERY_S = 0.25
STRAIN_EVERY_S = 0.5
READY_WITHIN_S = 10.0
IDLE_CHILD_S = 30.0
KILLED = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
"""Killed by signal 9, as the kernel tells it and as shells do."""
_MIB = 2**20
_UCRED = struct.Struct("3i")
_UNLIMITED = Limit(2**62, is_hard=False)


@dataclass(eq=False)
class Child:
    """A living child; `peak_bytes` is the most that was seen of it and its own above `base_bytes`."""

    pid: int
    pidfd: int
    board: Board
    limit: Limit
    folder: str
    base_bytes: int
    started_ticks: int
    kills_before: int | None
    kept_fds: tuple[int, ...] = ()
    n_served: int = 0
    others: dict[int, Use] = field(default_factory=dict)
    peak_bytes: int = 0
    reason: str = ""

    def reading(self) -> Reading:
        """Look at it."""
        own_bytes = resident_parts(self.pid).made_bytes - self.base_bytes
        used_bytes = max(0, own_bytes) + sum(other.bytes() for other in self.others.values())
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        return Reading(self.pid, used_bytes, self.limit)

    def kill(self, reason: str) -> None:
        """End it and everything it started."""
        self.reason = self.reason or reason
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.kill_others()

    def kill_others(self) -> None:
        """End everything it started; it has not been waited for, so the number of its group is nobody else's."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in self.others:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Terms:
    """What a server was started with; `node_bytes` is what the node may use, 0 for all there is."""

    folder: Path
    keeper: int
    idle_s: float
    node_bytes: int


class Server:
    """Serves supervisors on one socket; with `model` it forks it, without it starts new interpreters."""

    def __init__(self, listener: socket.socket, model: Model | None, terms: Terms, notice: str) -> None:
        """Begin to serve; `notice` is what a user should be told once about this node."""
        self._listener, self._model, self._terms = listener, model, terms
        self._selector = selectors.DefaultSelector()
        self._children: dict[socket.socket, dict[int, Child]] = {}
        self._idle: dict[Child, float] = {}
        self._private_bytes = private_bytes()
        self._hello = {"private_bytes": self._private_bytes, "notice": notice, "forks": model is not None}
        self._worker_bytes: dict[socket.socket, int] = {}
        self._has_buried = False
        self._keeper = os.pidfd_open(terms.keeper)
        self._last_s = self._watched_s = self._scanned_s = self._strained_s = time.monotonic()
        self._crawl = Crawl()
        self._memory = MemoryBounds()
        self._data_bytes = self._most_data_bytes()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._end)
        self._names = os.open(terms.folder / "children", os.O_WRONLY | os.O_CREAT, 0o600)
        self._kills, self._n_born = kernel_kills(), 0
        self._is_over = False

    def run(self) -> None:
        """Serve until it is over."""
        while not self._is_over:
            has_children = any(self._children.values()) or self._idle
            for key, _ in self._selector.select(TICK_S if has_children else 1.0):
                # An event before it may have ended this one, and its number may be another's by now.
                if self._selector.get_map().get(key.fileobj) is key:
                    key.data()
            if time.monotonic() - self._watched_s >= TICK_S:
                self._watch()
                self._watched_s = time.monotonic()
            if self._children:
                self._last_s = time.monotonic()
            if time.monotonic() - self._last_s > self._terms.idle_s:
                self._end()
        for connection in list(self._children):
            self._hang_up(connection)
        for one in list(self._idle):
            self._dismiss(one)
        # Under this name the next server may already be starting while this one still removes files.
        gone = self._terms.folder.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._terms.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

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
        _tell(connection, self._hello)

    def _hear(self, connection: socket.socket) -> None:
        message = wire.receive(connection)
        if message is None:
            self._hang_up(connection)
            return
        asked = message.header
        if asked["ask"] == "child":
            self._give(connection, asked)
            return
        one = self._children[connection].get(asked["pid"])
        if one is None:
            return
        if asked["ask"] == "kill":
            one.kill(asked["reason"])
        elif asked["ask"] == "arm":
            self._arm(one, asked)
        else:
            self._take_back(connection, one, asked["n_served"], asked["retire_after"])

    def _hang_up(self, connection: socket.socket) -> None:
        """The supervisor has gone: nobody wants its children any more."""
        self._worker_bytes.pop(connection, None)
        for one in self._children.pop(connection).values():
            one.kill("its supervisor has gone")
            self._bury(one)
        self._selector.unregister(connection)
        connection.close()

    def _give(self, connection: socket.socket, asked: dict[str, Any]) -> None:
        """Lend a child: one that is idle, else a new one."""
        self._worker_bytes[connection] = asked["worker_bytes"]
        one = next(iter(self._idle), None)
        if one is None:
            one, fds = self._born()
        else:
            del self._idle[one]
            self._selector.unregister(one.pidfd)
            fds = one.kept_fds
        self._children[connection][one.pid] = one
        self._name_children()
        self._selector.register(one.pidfd, selectors.EVENT_READ, lambda: self._reap(connection, one))
        is_ready = one.n_served > 0 or self._model is not None
        if self._model is not None:
            one.limit = Limit(asked["limit_bytes"], asked["is_hard"])
        elif is_ready:
            self._arm(one, asked)
        _tell(connection, {"pid": one.pid, "ready": is_ready}, fds)
        if self._model is not None:
            _close(fds)

    def _born(self) -> tuple[Child, tuple[int, ...]]:
        """Fork; return the child and the supervisor's ends of its channel and output, and its board."""
        ours, theirs = socket.socketpair()
        read_fd, write_fd = os.pipe()
        board_fd = Board.create()
        self._n_born += 1
        folder = f"{self._terms.folder}/child-{self._n_born}"
        os.mkdir(folder, 0o700)  # noqa: PTH102 (once per child)
        room = Room(theirs.fileno(), write_fd, board_fd, folder, self._data_bytes)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_child(room, server)
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        theirs.close()
        os.close(write_fd)
        fds = (ours.detach(), read_fd, board_fd)
        born = process(pid)
        ticks = 0 if born is None else born.started_ticks
        made_bytes = resident_parts(pid).made_bytes
        one = Child(pid, os.pidfd_open(pid), Board(board_fd), _UNLIMITED, folder, made_bytes, ticks, self._kills)
        if self._model is None:
            one.kept_fds = fds
        return one, fds

    def _be_child(self, room: Room, server: int) -> None:
        try:
            if self._model is None:
                child_side.become(room, str(self._terms.folder), server)
            child_side.live(room, self._model, server)
        except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a second server
            traceback.print_exc()
        finally:
            os._exit(70)

    def _arm(self, one: Child, asked: dict[str, Any]) -> None:
        """Hold a child to its limit from here on."""
        one.limit = Limit(asked["limit_bytes"], asked["is_hard"])
        one.base_bytes, one.peak_bytes = resident_parts(one.pid).made_bytes, 0

    def _take_back(self, connection: socket.socket, one: Child, n_served: int, retire_after: int) -> None:
        """A supervisor is done with a child: keep it for the next one, or let it end."""
        one.n_served += n_served
        del self._children[connection][one.pid]
        one.limit = _UNLIMITED
        if one.n_served >= retire_after:
            one.kill("it has served")
            self._bury(one)
            return
        self._selector.unregister(one.pidfd)
        self._selector.register(one.pidfd, selectors.EVENT_READ, lambda: self._dismiss(one))
        self._idle[one] = time.monotonic()

    def _dismiss(self, one: Child) -> None:
        del self._idle[one]
        one.kill("nobody wanted it")
        self._bury(one)

    def _reap(self, connection: socket.socket, one: Child) -> None:
        """A child that was lent ended."""
        del self._children[connection][one.pid]
        code = self._bury(one)
        kills = kernel_kills() if code in KILLED else one.kills_before
        told = {
            "exit": one.pid,
            "code": code,
            "reason": one.reason,
            "peak_bytes": one.peak_bytes,
            "kernel_killed": None if kills is None or one.kills_before is None else kills > one.kills_before,
        }
        _tell(connection, told)

    def _bury(self, one: Child) -> int:
        """Wait for a child that has ended or was killed, and leave nothing of it."""
        self._selector.unregister(one.pidfd)
        self._has_buried = True
        one.kill_others()
        _, status = os.waitpid(one.pid, 0)
        os.close(one.pidfd)
        one.board.close()
        _close(one.kept_fds)
        try:
            os.rmdir(one.folder)  # noqa: PTH106 (once per child; most leave it empty)
        except OSError:
            shutil.rmtree(one.folder, ignore_errors=True)
        return os.waitstatus_to_exitcode(status)

    def _name_children(self) -> None:
        """Write down who is to be swept away should this process be killed."""
        lines = "".join([f"{one.pid} {one.started_ticks}\n" for one in self._everybody()]).encode()
        os.pwrite(self._names, lines, 0)
        os.ftruncate(self._names, len(lines))

    def _everybody(self) -> Iterator[Child]:
        for children in self._children.values():
            yield from children.values()
        yield from self._idle

    def _watch(self) -> None:
        everybody = {one.pid: one for one in self._everybody()}
        if not everybody and not self._has_buried:
            return
        now_s = time.monotonic()
        if now_s - self._scanned_s > SCAN_EVERY_S:
            self._kills = kernel_kills()
            self._scan(everybody)
            self._look_for_the_stuck(everybody, now_s)
            self._scanned_s = time.monotonic()
            self._has_buried = False
        readings = [one.reading() for one in everybody.values()]
        for reading in over_hard_limit(readings):
            everybody[reading.pid].kill(
                f"it used {_mib(reading.used_bytes)}, over its limit of {_mib(reading.limit[0])}"
            )
        self._relieve(everybody, readings, now_s)

    def _scan(self, everybody: dict[int, Child]) -> None:
        """Find what the children started, and end what outlived them: it came to us when they ended."""
        table = processes()
        known = {pid: one.pid for one in everybody.values() for pid in one.others}
        for pid, others in families(everybody, table, known).items():
            one = everybody[pid]
            one.others = {other: one.others.get(other) or Use(other) for other in others}
        owned = {other for one in everybody.values() for other in one.others}
        for stray in (p for p in table if p.parent == os.getpid() and p.pid not in everybody):
            if stray.state == "Z":
                with suppress(ChildProcessError):
                    os.waitpid(stray.pid, os.WNOHANG)
            elif stray.pid not in owned:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(stray.pid, signal.SIGKILL)

    def _look_for_the_stuck(self, everybody: dict[int, Child], now_s: float) -> None:
        """A fork that never comes to run anything holds a lock that a thread of ours held: fork is not safe here."""
        for one, since_s in list(self._idle.items()):
            if now_s - since_s > IDLE_CHILD_S:
                self._dismiss(one)
        if self._model is None:
            return
        for one in everybody.values():
            index, since_s = one.board.state
            if index == NOT_READY and now_s - since_s > READY_WITHIN_S:
                self._give_up_forking(f"a fork of it did not get anywhere within {READY_WITHIN_S:g} s")
                return

    def _give_up_forking(self, why: str) -> None:
        forbid_forks(self._terms.folder, why)
        self._end()

    def _relieve(self, everybody: dict[int, Child], readings: list[Reading], now_s: float) -> None:
        """Kill one at a time where the node is short of memory; the next when its pages are back."""
        if any(one.reason for one in everybody.values()):
            return
        crawls = False
        if now_s - self._strained_s > STRAIN_EVERY_S:
            self._strained_s = now_s
            stalled_s, major_faults = memory_strain()
            fill = max(used_bytes / limit_bytes for limit_bytes, used_bytes in self._bounds(readings))
            crawls = self._crawl.look(Strain(now_s, stalled_s, major_faults, fill))
        for limit_bytes, used_bytes in self._bounds(readings):
            worst = to_relieve(readings, used_bytes, limit_bytes, crawls=crawls)
            if worst is None:
                continue
            if self._idle:
                self._dismiss(next(iter(self._idle)))
                return
            self._crawl.relieved()
            where = "crawled for want of memory" if crawls else "was short of memory"
            asked = _mib(worst.limit.limit_bytes)
            everybody[worst.pid].kill(f"it used {_mib(worst.used_bytes)} of {asked} asked for when the node {where}")
            return

    def _bounds(self, readings: list[Reading]) -> list[tuple[int, int]]:
        """What bounds this node's memory, and how much of each is used."""
        bounds = [(bound.limit_bytes, bound.used_bytes) for bound in self._memory.read()]
        if self._terms.node_bytes:
            ours_bytes = self._private_bytes + sum(self._worker_bytes.values())
            used_bytes = ours_bytes + sum(reading.used_bytes for reading in readings)
            bounds.append((self._terms.node_bytes, used_bytes))
        return bounds

    def _most_data_bytes(self) -> int:
        """More than this no child could ever have: asking for it fails in the child, before a page is touched."""
        bounds = [bound.limit_bytes for bound in self._memory.read()]
        return min([*bounds, self._terms.node_bytes or bounds[0]]) + resident_parts().made_bytes + 2**30


def _tell(connection: socket.socket, header: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    # Whoever has hung up is noticed when its connection is read.
    with suppress(ConnectionError):
        wire.send(connection, header, fds=fds)


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / _MIB:,.0f} MiB"


def forbid_forks(folder: Path, why: str) -> None:
    """Write down that this model is not to be forked on this node, and why; next to the server's own folder."""
    folder.with_suffix(".nofork").write_text(why)


def main(step: str, path: str, listener_fd: str = "") -> None:
    """Be a fork server, as `server.json` in its folder says.

    Args:
        step: `start` to leave a process behind and print its number, `again` to be one without the model.
        path: The server's folder.
        listener_fd: With `again`, the socket it listens on.
    """
    if step == "start" and (server := os.fork()):
        os.write(1, b"%d" % server)
        os._exit(0)
    os.dup2(2, 1)
    folder = Path(path)
    spec = json.loads((folder / "server.json").read_text())
    with suppress(FileNotFoundError):
        os.chdir(spec["workdir"])
    _adopt_orphans()
    terms = Terms(folder, spec["keeper"], spec["idle_s"], spec["node_bytes"])
    if step == "start":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "socket"))
        listener.listen(512)
    else:
        listener = socket.socket(fileno=int(listener_fd))
    no_fork = folder.with_suffix(".nofork")
    notice = no_fork.read_text() if spec["forks"] and no_fork.exists() else ""
    model = None if notice or not spec["forks"] else _model_to_fork(folder, listener)
    gc.collect()
    gc.freeze()
    Server(listener, model, terms, notice).run()


def _model_to_fork(folder: Path, listener: socket.socket) -> Model:
    """Load the model; where that starts threads a fork would lose, begin again without it."""
    tracker = ThreadTracker()
    try:
        with tracker:
            model = child_side.model_of(folder)
            child_side.warm_up()
    except ModelError as error:
        # The last line of the log is what the supervisors tell the user.
        sys.exit(str(error))
    if why_not := tracker.why_not_fork():
        forbid_forks(folder, why_not)
        listener.set_inheritable(True)
        again = command("forkserver", "again", str(folder), str(listener.fileno()))
        os.execv(again[0], again)  # noqa: S606 (ourselves)
    sys.stdout.flush()
    return model


def _adopt_orphans() -> None:
    """Have what children leave behind come to this process and not to another one's keeping."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1)
