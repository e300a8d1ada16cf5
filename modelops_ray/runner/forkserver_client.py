"""The supervisor's side of the fork server: asks it for children, and hears how they end.

Owns one connection. Who starts the server is `server_start`'s business, what a child uses the server's, who runs what
`supervisor`'s.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress
from typing import NamedTuple

from modelops_ray.sandbox import protocol, wire
from modelops_ray.sandbox.board import Board
from modelops_ray.sandbox.limits import Limit
from modelops_ray.sandbox.processes import process

STOPPED_FOR_S = 1.0
_PEER = struct.Struct("3i")


class ServerEndedError(Exception):
    """The fork server has ended, and every child with it."""


class NoChildError(OSError):
    """The fork server cannot start another process now, for the reason it gives."""


class LentChild(NamedTuple):
    """A child that the server lends; one that is not ready will say so, or why it never will be."""

    pid: int
    is_ready: bool
    channel: socket.socket
    capture: int
    board: Board


class Connection:
    """One connection to the fork server of a model on this node."""

    def __init__(self, channel: socket.socket, hello: protocol.Hello) -> None:
        """Take over a connection on which the server has said hello."""
        self._channel = channel
        self.private_bytes, self.notice, self.forks = hello
        self._ended: dict[int, protocol.Ended] = {}
        self._pid, _, _ = _PEER.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        self._was_stopped = False

    def close(self) -> None:
        """Hang up; the server ends every child that it has lent."""
        self._channel.close()

    def fileno(self) -> int:
        """The descriptor on which news arrive."""
        return self._channel.fileno()

    def child(self, limit: Limit, worker_bytes: int) -> LentChild:
        """Ask for a child that is held to a limit above what it is born with; this process uses `worker_bytes`.

        ServerEndedError where the server has ended, NoChildError where it lacks a process, descriptor or disk for a
        child.
        """
        self.tell(protocol.Lend(limit, worker_bytes))
        news, fds = self._news()
        while isinstance(news, protocol.Ended):
            self._ended[news.pid] = news
            news, fds = self._news()
        if isinstance(news, protocol.NoChild):
            raise NoChildError(news.why)
        if not isinstance(news, protocol.Lent):
            raise ServerEndedError
        # What is kept under this number is how an earlier child ended that had the same.
        self._ended.pop(news.pid, None)
        channel_fd, capture, board_fd = fds
        channel = socket.socket(fileno=channel_fd)
        channel.settimeout(None)
        lent = LentChild(news.pid, news.is_ready, channel, capture, Board(board_fd))
        os.close(board_fd)
        return lent

    def tell(self, message: protocol.ToServer) -> None:
        """Ask something of the server; ServerEndedError where it has ended."""
        try:
            protocol.send(self._channel, message)
        except OSError as error:
            raise ServerEndedError from error

    def hear(self) -> None:
        """Take in one message that has arrived: a child ended. ServerEndedError where the server has."""
        news, _ = self._news()
        if isinstance(news, protocol.Ended):
            self._ended[news.pid] = news

    def end_of(self, pid: int) -> protocol.Ended | None:
        """How a child ended, once; None while it has not."""
        return self._ended.pop(pid, None)

    def end_if_stopped(self) -> None:
        """End a server that was found stopped (by SIGSTOP, a debugger) twice in a row: it lends and ends nothing."""
        found = process(self._pid)
        is_stopped = found is not None and found.state in {"T", "t"}
        if is_stopped and self._was_stopped:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._was_stopped = is_stopped

    def _news(self) -> tuple[protocol.FromServer, tuple[int, ...]]:
        """Wait for the next message and the descriptors beside it."""
        readable = select.poll()
        readable.register(self._channel, select.POLLIN)
        while not readable.poll(STOPPED_FOR_S * 1000):
            self.end_if_stopped()
        message = wire.receive(self._channel)
        if message is None:
            raise ServerEndedError
        try:
            return protocol.read_from_server(message.header), message.fds
        except protocol.GarbledError as error:
            raise ServerEndedError from error
