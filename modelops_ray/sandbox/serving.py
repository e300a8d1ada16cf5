"""Serving supervisors on one socket: children are lent, taken back, held to their limits, and buried.

Owns which supervisor has which child, and the end of the server: with the process that keeps it, or when no supervisor
has asked for a while. One thread, which never simulates. What children use is `enforcement`'s business, how they are
made `births`'. Runs in the model's interpreter.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import protocol, wire
from .births import Births
from .board import NOT_READY
from .enforcement import UNLIMITED, Child, Enforcer, end_all
from .limits import KILLED
from .machine import kernel_kills
from .measure import private_bytes
from .pidfd import open_process

if TYPE_CHECKING:
    from .calling import Model

TICK_S = 0.05
REST_S = 1.0
"""How often a server that has nothing to do looks up."""
READY_WITHIN_S = 10.0
IDLE_CHILD_S = 30.0
_UCRED = struct.Struct("3i")


class Server:
    """Serves supervisors on one socket; with `model` it forks it, without it starts new interpreters."""

    def __init__(
        self, listener: socket.socket, model: Model | None, terms: protocol.Terms, folder: Path, notice: str
    ) -> None:
        """Begin to serve; `notice` is what a user should be told once about this node."""
        self._listener, self._forks, self._folder, self._idle_s = listener, model is not None, folder, terms.idle_s
        self._selector = selectors.DefaultSelector()
        self._children: dict[socket.socket, dict[int, Child]] = {}
        self._incoming: dict[socket.socket, wire.Incoming] = {}
        self._idle: dict[Child, float] = {}
        self._private_bytes = private_bytes()
        self._hello = protocol.Hello(self._private_bytes, notice, self._forks)
        self._worker_bytes: dict[socket.socket, int] = {}
        self._has_buried = False
        self._keeper = open_process(terms.keeper)
        self._last_s = self._watched_s = time.monotonic()
        self._enforcer = Enforcer(terms.node_bytes)
        self._births = Births(model, folder, self._enforcer)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._end)
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
            if time.monotonic() - self._last_s > self._idle_s:
                self._end()

    def _leave(self) -> None:
        for connection in list(self._children):
            self._hang_up(connection)
        for one in list(self._idle):
            self._dismiss(one)
        end_all()
        # Under this name the next server may already be starting while this one still removes files.
        gone = self._folder.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._folder.rename(gone)
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
        self._incoming[connection] = wire.Incoming(connection, protocol.MAX_REQUEST_BYTES)
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
            asked = None if message is None else protocol.read_to_server(message.header)
        except (EOFError, ValueError, protocol.GarbledError):
            self._hang_up(connection)
            return
        if isinstance(asked, protocol.Lend):
            self._lend(connection, asked)
        elif asked is not None and (one := self._children[connection].get(asked.pid)) is not None:
            self._do(connection, one, asked)

    def _do(
        self, connection: socket.socket, one: Child, asked: protocol.Arm | protocol.Kill | protocol.TakeBack
    ) -> None:
        """Do what a supervisor asks with a child that was lent to it."""
        if isinstance(asked, protocol.Kill):
            one.kill(asked.reason, is_to_tell=True)
        elif isinstance(asked, protocol.Arm):
            one.arm(asked.limit, asked.base_bytes)
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

    def _lend(self, connection: socket.socket, asked: protocol.Lend) -> None:
        """Lend a child: one that is idle, else a new one."""
        self._worker_bytes[connection] = asked.worker_bytes
        one = next(iter(self._idle), None)
        is_ready = one is not None or self._forks
        if one is None:
            try:
                one = self._births.born(is_only=not self._has_children)
            except OSError as error:
                # Out of processes, descriptors or disk: those who have children keep them.
                _tell(connection, protocol.NoChild(f"no process can be started: {error.strerror}"))
                return
        else:
            del self._idle[one]
            self._selector.unregister(one.pidfd)
        self._children[connection][one.pid] = one
        self._births.write_names(self._all_children())
        self._selector.register(one.pidfd, selectors.EVENT_READ, lambda: self._reap(connection, one))
        if self._forks:
            one.limit = asked.limit
        elif is_ready:
            one.arm(asked.limit)
        _tell(connection, protocol.Lent(one.pid, is_ready), one.kept_fds)
        if self._forks:
            one.close_kept()

    def _take_back(self, connection: socket.socket, one: Child, asked: protocol.TakeBack) -> None:
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
        _tell(connection, protocol.Ended(one.pid, code, one.reason, one.peak_bytes, killed))

    def _bury(self, one: Child) -> int:
        self._selector.unregister(one.pidfd)
        self._has_buried = True
        return self._births.bury(one)

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
        n_orphans = self._enforcer.scan(children)
        if n_orphans is not None:
            # What they had started comes to us in turn.
            self._has_buried = n_orphans > 0
            self._end_the_stuck(children, time.monotonic())
        own_bytes = self._private_bytes + sum(self._worker_bytes.values())
        self._enforcer.hold(children, own_bytes, self._end_idle_child)

    def _end_idle_child(self) -> bool:
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
        if not self._forks:
            return
        for one in children.values():
            index, since_s = one.board.state
            if index == NOT_READY and now_s - since_s > READY_WITHIN_S:
                forbid_forks(self._folder, f"a fork of it did not get anywhere within {READY_WITHIN_S:g} s")
                self._end()
                return


def _tell(connection: socket.socket, message: protocol.FromServer, fds: tuple[int, ...] = ()) -> None:
    # A supervisor that has hung up is noticed when its connection is read.
    with suppress(ConnectionError):
        protocol.send(connection, message, fds=fds)


def forbid_forks(folder: Path, why: str) -> None:
    """Write down that this model is not to be forked on this node, and why; next to the server's own folder."""
    folder.with_suffix(".nofork").write_text(why)


def why_no_forks(folder: Path) -> str:
    """Why the model is not to be forked on this node; empty where it may be."""
    with suppress(FileNotFoundError):
        return folder.with_suffix(".nofork").read_text()
    return ""
