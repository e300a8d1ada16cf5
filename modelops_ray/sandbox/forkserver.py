"""The fork server: imports a model once, and forks children that simulate.

Owns its children: no other process waits for them or kills them. What they use is its `warden`'s business. One thread,
which never simulates. It ends with the process that keeps it, or when no supervisor has asked for a while. Where a fork
would not be safe, or is not wanted, its children are new interpreters that load the model themselves and are kept for
the next supervisor. Runs in the model's interpreter and imports nothing of ours that needs more than the standard
library and pyarrow.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from . import child as child_side
from . import protocol, wire
from .board import BYTES as BOARD_BYTES
from .board import NOT_READY, Board
from .boot import FAILED, command
from .child import Room
from .descriptors import high
from .enforcement import TOKEN, UNLIMITED, Child, Warden, end_all
from .family import Family
from .held import held
from .limits import KILLED, process
from .loading import aftermath
from .machine import kernel_kills
from .measure import private_bytes, resident_parts
from .pidfd import open_process
from .protocol import (  # fmt: skip
    CANNOT_ANSWER,
    MAX_REQUEST_BYTES,
    Arm,
    Ended,
    FromServer,
    GarbledError,
    Hello,
    Kill,
    Lend,
    Lent,
    NoChild,
    TakeBack,
    read_to_server,
)
from .segments import Folder, Segments, record_into
from .threads import ThreadTracker
from .workroom import empty, is_as_made

if TYPE_CHECKING:
    from .calling import Model

TICK_S = 0.05
REST_S = 1.0
"""How often a server that has nothing to do looks up."""
READY_WITHIN_S = 10.0
IDLE_CHILD_S = 30.0
_UCRED = struct.Struct("3i")


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
        self._incoming: dict[socket.socket, wire.Incoming] = {}
        self._idle: dict[Child, float] = {}
        self._private_bytes = private_bytes()
        self._hello = Hello(self._private_bytes, notice, model is not None)
        self._worker_bytes: dict[socket.socket, int] = {}
        self._has_buried = False
        self._keeper = open_process(terms.keeper)
        self._last_s = self._watched_s = time.monotonic()
        self._warden = Warden(terms.node_bytes)
        self._data_bytes = self._warden.most_data_bytes()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._end)
        self._names = os.open(terms.folder / "children", os.O_WRONLY | os.O_CREAT, 0o600)
        self._n_born = self._n_workplaces = 0
        self._workplaces: list[str] = []
        self._rest_s = min(REST_S, terms.idle_s / 4)
        self._is_over = False

    def run(self) -> None:
        """Serve until it is over, and leave nothing behind."""
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        try:
            self._serve()
        finally:
            self._leave()

    def _serve(self) -> None:
        while not self._is_over:
            is_busy = self._has_children or self._has_buried
            for key, _ in self._selector.select(TICK_S if is_busy else self._rest_s):
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

    def _leave(self) -> None:
        for connection in list(self._children):
            self._hang_up(connection)
        for one in list(self._idle):
            self._dismiss(one)
        end_all()
        # Under this name the next server may already be starting while this one still removes files.
        gone = self._terms.folder.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._terms.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _end(self) -> None:
        self._is_over = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(None)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(credentials)
        if uid != os.getuid() or self._is_of_a_child(pid):
            connection.close()
            return
        self._children[connection] = {}
        self._incoming[connection] = wire.Incoming(connection, MAX_REQUEST_BYTES)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(connection))
        _tell(connection, self._hello)

    def _is_of_a_child(self, pid: int) -> bool:
        """Whether a process is a child or was started by one: a model finds our socket by its name."""
        try:
            return os.getpgid(pid) in {one.pid for one in self._all_children()}
        except OSError:
            return True

    def _hear(self, connection: socket.socket) -> None:
        try:
            message = self._incoming[connection].next()
            asked = None if message is None else read_to_server(message.header)
        except (EOFError, ValueError, GarbledError):
            self._hang_up(connection)
            return
        if isinstance(asked, Lend):
            self._lend(connection, asked)
        elif asked is not None and (one := self._children[connection].get(asked.pid)) is not None:
            self._do(connection, one, asked)

    def _do(self, connection: socket.socket, one: Child, asked: Arm | Kill | TakeBack) -> None:
        """Do what a supervisor asks with a child that was lent to it."""
        if isinstance(asked, Kill):
            one.kill(asked.reason)
        elif isinstance(asked, Arm):
            one.arm(asked.limit)
        else:
            self._take_back(connection, one, asked)

    def _hang_up(self, connection: socket.socket) -> None:
        """The supervisor has gone: its children are not wanted any more."""
        self._worker_bytes.pop(connection, None)
        self._incoming.pop(connection, None)
        for one in self._children.pop(connection).values():
            one.kill("its supervisor has gone")
            self._bury(one)
        self._selector.unregister(connection)
        connection.close()

    def _lend(self, connection: socket.socket, asked: Lend) -> None:
        """Lend a child: one that is idle, else a new one."""
        self._worker_bytes[connection] = asked.worker_bytes
        one = next(iter(self._idle), None)
        is_ready = one is not None or self._model is not None
        if one is None:
            try:
                one, fds = self._born()
            except OSError as error:
                # Out of processes, descriptors or disk: those who have children keep them.
                _tell(connection, NoChild(f"no process can be started: {error.strerror}"))
                return
        else:
            del self._idle[one]
            self._selector.unregister(one.pidfd)
            fds = one.kept_fds
        self._children[connection][one.pid] = one
        self._name_children()
        self._selector.register(one.pidfd, selectors.EVENT_READ, lambda: self._reap(connection, one))
        if self._model is not None:
            one.limit = asked.limit
        elif is_ready:
            one.arm(asked.limit)
        _tell(connection, Lent(one.pid, is_ready), fds)
        if self._model is not None:
            _close(fds)

    def _born(self) -> tuple[Child, tuple[int, ...]]:
        """Fork; return the child and the supervisor's ends of its channel and output, and its board.

        Raises:
            OSError: There is no process, descriptor or disk left for it; nothing stays behind.
        """
        kills = self._warden.kernel_kills if self._has_children else kernel_kills()
        self._n_born += 1
        folder = f"{self._terms.folder}/child-{self._n_born}"
        with ExitStack() as always, ExitStack() as undo:
            ours, theirs = socket.socketpair()
            ours.settimeout(None)
            theirs.settimeout(None)
            undo.callback(ours.close)
            always.callback(theirs.close)
            read_fd, write_fd = os.pipe()
            undo.callback(os.close, read_fd)
            always.callback(os.close, write_fd)
            board_fd = Board.create(self._terms.folder)
            undo.callback(os.close, board_fd)
            os.mkdir(folder, 0o700)  # noqa: PTH102 (once per child)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            room = Room(theirs.fileno(), write_fd, board_fd, folder, self._workplace(undo), self._data_bytes)
            server = os.getpid()
            before, record_fd = self._warden.shared_files.names(), os.dup(board_fd)
            undo.callback(os.close, record_fd)
            pid = os.fork()
            if pid == 0:
                self._be_child(room, server)
            pidfd = open_process(pid)
            undo.pop_all()
        with suppress(PermissionError):
            os.setpgid(pid, pid)
        fds = (ours.detach(), read_fd, board_fd)
        segments = Segments(record_fd, BOARD_BYTES, before, pids={pid})
        born = process(pid)
        family = Family(pid, born, resident_parts(pid).made_bytes, self._warden.server)
        one = Child(
            pid, pidfd, Board(board_fd, for_forks=False), UNLIMITED, folder, room.workplace, family, segments,
            f"{server}-{self._n_born}", os.fstat(board_fd).st_ino, 0 if born is None else born.started_ticks, kills,
        )  # fmt: skip
        if self._model is None:
            one.kept_fds = fds
        return one, fds

    def _workplace(self, undo: ExitStack) -> str:
        """Take a folder that no child works in now: the one that was left last, or a new one."""
        if not self._workplaces:
            self._n_workplaces += 1
            self._workplaces.append(f"{self._terms.folder}/work-{self._n_workplaces}")
            os.mkdir(self._workplaces[-1], 0o700)  # noqa: PTH102 (one for each child at a time)
        workplace = self._workplaces.pop()
        undo.callback(self._workplaces.append, workplace)
        return workplace

    def _be_child(self, room: Room, server: int) -> None:
        try:
            os.environ[TOKEN] = f"{server}-{self._n_born}"
            if self._model is None:
                child_side.become(room, str(self._terms.folder), server)
            child_side.live(room, self._model, server)
        except BaseException:  # noqa: BLE001 - this process must end here, and not go on as a second server
            traceback.print_exc()
        finally:
            held.exit(CANNOT_ANSWER)

    def _take_back(self, connection: socket.socket, one: Child, asked: TakeBack) -> None:
        """Keep a child for the next supervisor, or let it end."""
        one.n_served += asked.n_served
        del self._children[connection][one.pid]
        one.limit = UNLIMITED
        if one.n_served >= asked.retire_after:
            one.kill("it has served")
            self._bury(one)
            return
        self._selector.unregister(one.pidfd)
        self._selector.register(one.pidfd, selectors.EVENT_READ, lambda: self._dismiss(one))
        self._idle[one] = time.monotonic()

    def _dismiss(self, one: Child) -> None:
        del self._idle[one]
        one.kill("no supervisor wanted it")
        self._bury(one)

    def _reap(self, connection: socket.socket, one: Child) -> None:
        """A child that was lent ended."""
        del self._children[connection][one.pid]
        code = self._bury(one)
        kills = kernel_kills() if code in KILLED else one.kills_before
        killed = None if kills is None or one.kills_before is None else kills > one.kills_before
        _tell(connection, Ended(one.pid, code, one.reason, one.peak_bytes, killed))

    def _bury(self, one: Child) -> int:
        """Wait for a child that has ended or was killed, and leave nothing of it."""
        self._selector.unregister(one.pidfd)
        self._has_buried = True
        one.kill_others()
        _, status = os.waitpid(one.pid, 0)
        os.close(one.pidfd)
        one.segments.remove(self._warden.shared_files.names())
        os.close(one.segments.record)
        one.board.close()
        _close(one.kept_fds)
        try:
            os.rmdir(one.folder)  # noqa: PTH106 (once per child; most leave it empty)
        except OSError:
            shutil.rmtree(one.folder, ignore_errors=True)
        if is_as_made(one.workplace) or empty(one.workplace):
            self._workplaces.append(one.workplace)
        return os.waitstatus_to_exitcode(status)

    def _name_children(self) -> None:
        """Write down who is to be swept away should this process be killed."""
        lines = "".join([f"{one.pid} {one.started_ticks}\n" for one in self._all_children()]).encode()
        os.pwrite(self._names, lines, 0)
        os.ftruncate(self._names, len(lines))

    @property
    def _has_children(self) -> bool:
        return any(self._children.values()) or bool(self._idle)

    def _all_children(self) -> Iterator[Child]:
        for children in self._children.values():
            yield from children.values()
        yield from self._idle

    def _watch(self) -> None:
        children = {one.pid: one for one in self._all_children()}
        if not children and not self._has_buried:
            return
        n_orphans = self._warden.scan(children)
        if n_orphans is not None:
            # What they had started comes to us in turn.
            self._has_buried = n_orphans > 0
            self._end_the_stuck(children, time.monotonic())
        own_bytes = self._private_bytes + sum(self._worker_bytes.values())
        self._warden.hold(children, own_bytes, self._spare_one)

    def _spare_one(self) -> bool:
        """End a child that no supervisor uses now; say whether there was one."""
        one = next(iter(self._idle), None)
        if one is not None:
            self._dismiss(one)
        return one is not None

    def _end_the_stuck(self, children: dict[int, Child], now_s: float) -> None:
        """A fork that never comes to run anything holds a lock that a thread of ours held: fork is not safe here."""
        for one, since_s in list(self._idle.items()):
            if now_s - since_s > IDLE_CHILD_S:
                self._dismiss(one)
        if self._model is None:
            return
        for one in children.values():
            index, since_s = one.board.state
            if index == NOT_READY and now_s - since_s > READY_WITHIN_S:
                self._give_up_forking(f"a fork of it did not get anywhere within {READY_WITHIN_S:g} s")
                return

    def _give_up_forking(self, why: str) -> None:
        forbid_forks(self._terms.folder, why)
        self._end()


def _tell(connection: socket.socket, message: FromServer, fds: tuple[int, ...] = ()) -> None:
    # A supervisor that has hung up is noticed when its connection is read.
    with suppress(ConnectionError):
        protocol.send(connection, message, fds=fds)


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def forbid_forks(folder: Path, why: str) -> None:
    """Write down that this model is not to be forked on this node, and why; next to the server's own folder."""
    folder.with_suffix(".nofork").write_text(why)


def main(step: str, path: str, given_fd: str) -> None:
    """Be a fork server, as `server.json` in its folder says.

    Args:
        step: `start` to leave a process behind and tell its number, `again` to be one without the model.
        path: The server's folder.
        given_fd: With `start` the pipe that the number goes into, with `again` the socket it listens on.
    """
    if step == "start":
        if server := os.fork():
            os.write(int(given_fd), b"%d" % server)
            os._exit(0)
        os.close(int(given_fd))
    os.dup2(2, 1)
    _expect_signals()
    folder = Path(path)
    spec = json.loads((folder / "server.json").read_text())
    with suppress(FileNotFoundError):
        os.chdir(spec["workdir"])
    _adopt_orphans()
    _raise_limit_of_files()
    # What the import makes of shared memory is the server's, for as long as it lives.
    record_fd = high(os.open(folder / "made", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
    segments = Segments(record_fd, 0, Folder().names())
    record_into(record_fd)
    terms = Terms(folder, spec["keeper"], spec["idle_s"], spec["node_bytes"])
    if step == "start":
        listener = _listening(folder)
    else:
        listener = socket.socket(fileno=int(given_fd))
        listener.set_inheritable(False)
        listener.settimeout(None)
    no_fork = folder.with_suffix(".nofork")
    notice = no_fork.read_text() if spec["forks"] and no_fork.exists() else ""
    model = None
    if spec["forks"] and not notice:
        model, listener = _model_to_fork(folder, listener, segments)
    gc.collect()
    gc.freeze()
    Server(listener, model, terms, notice).run()
    segments.remove(Folder().names())


def _listening(folder: Path) -> socket.socket:
    path = folder / "socket"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(512)
        moved = socket.socket(fileno=high(listener.detach()))
    moved.settimeout(None)
    return moved


def _is_ours(listener: socket.socket, folder: Path) -> bool:
    """Whether it is still there: an import may close all that is open."""
    try:
        return bool(listener.getsockname() == str(folder / "socket"))
    except OSError:
        return False


def _model_to_fork(folder: Path, listener: socket.socket, segments: Segments) -> tuple[Model, socket.socket]:
    """Load the model; where a fork would lose or share some of it, begin again without it."""
    tracker = ThreadTracker()
    try:
        with tracker:
            model = child_side.model_of(folder)
            if not _is_ours(listener, folder):
                listener.detach()
                listener = _listening(folder)
            aftermath().settle()
            child_side.warm_up()
            aftermath().leave()
    except ModelError as error:
        (folder / FAILED).write_text(str(error))
        sys.exit(1)
    if why_not := tracker.why_not_fork() or aftermath().descriptors.why_not_fork:
        forbid_forks(folder, why_not)
        segments.remove(Folder().names())
        listener.set_inheritable(True)
        again = command("forkserver", "again", str(folder), str(listener.fileno()))
        os.execv(again[0], again)  # noqa: S606 (ourselves)
    sys.stdout.flush()
    return model, listener


def _expect_signals() -> None:
    """The process that started this one may have ignored or blocked signals, which is inherited."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _raise_limit_of_files() -> None:
    """Each child takes some descriptors, and the usual limit is that of a person's shell."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _adopt_orphans() -> None:
    """Have what children leave behind come to this process and not to another one's keeping."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1)
