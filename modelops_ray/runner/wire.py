"""Messages on a stream socket between a supervisor, the fork server and its children.

Owns framing: a header as JSON, binary blobs after it, file descriptors beside it. Knows no message. Standard library
only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .held import held

_HEAD = struct.Struct("!II")
MAX_HEADER_BYTES = 64 * 2**20
MAX_FDS = 4


class Message(NamedTuple):
    """What arrived; whoever receives descriptors closes them."""

    header: dict[str, Any]
    blobs: tuple[bytes, ...] = ()
    fds: tuple[int, ...] = ()


def send(
    channel: socket.socket, header: Mapping[str, Any], blobs: Sequence[bytes] = (), fds: Sequence[int] = ()
) -> None:
    """Send one message, whole.

    Raises:
        OSError: The other side has gone.
    """
    text = held.dumps(header).encode()
    lengths = struct.pack(f"!{len(blobs)}Q", *map(len, blobs))
    head = _HEAD.pack(len(text), len(blobs)) + lengths + text
    n_sent = socket.send_fds(channel, [head], list(fds)) if fds else channel.send(head)
    channel.sendall(head[n_sent:])
    for blob in blobs:
        channel.sendall(blob)


def receive(channel: socket.socket) -> Message | None:
    """Receive one message; None where the other side has ended, be it in the middle of one.

    Raises:
        ValueError: What arrives is no message.
    """
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
