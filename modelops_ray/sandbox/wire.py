"""Messages on a stream socket between a supervisor, the fork server and its children.

Owns framing: a header as JSON, binary blobs after it, file descriptors beside it; how much of either one message may
have; and that nothing waits for a process which runs foreign code. Knows no message. Standard
library only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .held import held

_HEAD = struct.Struct("!II")
MAX_HEADER_BYTES = 64 * 2**20
_LEAST_HEADER_BYTES = 2
MAX_BLOBS = 2**20
MAX_BYTES = 2**31
"""The most that one message may take: a column of text of Arrow's holds no more."""
MAX_FDS = 4
_PIECE_BYTES = 2**18
_TOGETHER_BYTES = 2**16
"""A message of at most this many bytes is copied and sent by one call; a larger one is not copied."""
_PIECES = 64
"""How many pieces are taken from one channel before others have their turn."""


class Message(NamedTuple):
    """What arrived; the receiver closes its descriptors."""

    header: dict[str, Any]
    blobs: tuple[bytes | memoryview, ...] = ()
    fds: tuple[int, ...] = ()


def send(
    channel: socket.socket, header: Mapping[str, Any], blobs: Sequence[bytes] = (), fds: Sequence[int] = ()
) -> None:
    """Send one message, whole; OSError where the other side has gone."""
    head = _head(header, blobs)
    if fds:
        head = head[socket.send_fds(channel, [head], list(fds)) :]
    if len(head) + sum(map(len, blobs)) <= _TOGETHER_BYTES:
        head, blobs = b"".join([head, *blobs]), ()
    for piece in (head, *blobs) if head else blobs:
        channel.sendall(piece)


def packed(header: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Return one message as the bytes that are sent."""
    return b"".join([_head(header, blobs), *blobs])


def _head(header: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    text = held.dumps(header).encode()
    return _HEAD.pack(len(text), len(blobs)) + struct.pack(f"!{len(blobs)}Q", *map(len, blobs)) + text


class Incoming:
    """What arrives on a channel from a process that runs foreign code: piece by piece, without ever waiting for it.

    `heard_s` is when something arrived last, on the monotonic clock.
    """

    def __init__(self, channel: socket.socket, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        self._channel, self._max_header_bytes = channel, max_header_bytes
        self._begin()
        self.heard_s = held.monotonic_s()

    @property
    def is_partial(self) -> bool:
        """Whether a message has begun to arrive and is not complete."""
        return bool(self._data)

    def next(self) -> Message | None:
        """Take the next message; None while none is complete.

        EOFError where the other side has ended, and what it had not sent whole is lost; ValueError for what is no
        message, or larger than one may be.
        """
        for _ in range(_PIECES):
            while len(self._data) == self._n_wanted:
                if (message := self._advance()) is not None:
                    return message
            if not self._take():
                return None
        return None

    def _begin(self) -> None:
        self._data = bytearray()
        self._n_wanted, self._n_known = _HEAD.size, 0
        self._lengths: tuple[int, ...] = ()
        self._header: dict[str, Any] | None = None

    def _take(self) -> bool:
        missing = self._n_wanted - len(self._data)
        try:
            piece = self._channel.recv(min(missing, _PIECE_BYTES), socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            raise EOFError from None
        if not piece:
            raise EOFError
        self._data += piece
        self.heard_s = held.monotonic_s()
        return True

    def _advance(self) -> Message | None:
        """Find out how much more belongs to the message; return it where that is nothing."""
        if self._n_known == 0:
            n_header, n_blobs = _HEAD.unpack(self._data)
            if not _LEAST_HEADER_BYTES <= n_header <= self._max_header_bytes or n_blobs > MAX_BLOBS:
                raise ValueError(f"a message with a header of {n_header} bytes and {n_blobs} blobs")
            self._n_known = _HEAD.size + 8 * n_blobs
            self._n_wanted = self._n_known + n_header
        elif self._header is None:
            n_blobs = (self._n_known - _HEAD.size) // 8
            self._lengths = struct.unpack_from(f"!{n_blobs}Q", self._data, _HEAD.size)
            self._header = _header(bytes(self._data[self._n_known :]))
            if sum(self._lengths) > MAX_BYTES:
                raise ValueError(f"a message of {sum(self._lengths)} bytes")
            self._n_known = self._n_wanted
            self._n_wanted += sum(self._lengths)
        else:
            return self._whole(self._header, self._n_known)
        return None

    def _whole(self, header: dict[str, Any], at: int) -> Message:
        # Parts of what has arrived: what a table takes is not copied again.
        view, blobs = memoryview(self._data), []
        for length in self._lengths:
            blobs.append(view[at : at + length])
            at += length
        self._begin()
        return Message(header, tuple(blobs))


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = held.loads(text)
    except RecursionError:
        raise ValueError("a header nested too deeply") from None
    if type(header) is not dict:
        raise ValueError(f"a header that is a {type(header).__name__}")
    return header


def receive(channel: socket.socket) -> Message | None:
    """Receive one message; None where the other side has ended, even within one; ValueError for no message."""
    try:
        head, fds, _flags, _address = socket.recv_fds(channel, _HEAD.size, MAX_FDS)
        head += _exactly(channel, _HEAD.size - len(head))
        n_header, n_blobs = _HEAD.unpack(head)
        if n_header > MAX_HEADER_BYTES:
            raise ValueError(f"a message with a header of {n_header} bytes")
        lengths = struct.unpack(f"!{n_blobs}Q", _exactly(channel, 8 * n_blobs))
        header = held.loads(_exactly(channel, n_header))
        return Message(header, tuple(_exactly(channel, length) for length in lengths), tuple(fds))
    except (EOFError, ConnectionError):
        return None


def _exactly(channel: socket.socket, n_bytes: int) -> bytes:
    data = bytearray(n_bytes)
    view, at = memoryview(data), 0
    while at < n_bytes:
        n_read = channel.recv_into(view[at:])
        if n_read == 0:
            raise EOFError
        at += n_read
    return bytes(data)
