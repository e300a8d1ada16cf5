"""Messages between a supervisor, the fork server and its children: whole, or not at all."""

from __future__ import annotations

import os
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.sandbox import wire


@pytest.fixture
def pair():
    """Two ends of a channel."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text()), st.lists(st.binary(max_size=2000), max_size=5))
def test_what_is_sent_arrives(header, blobs):
    """Of any bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, header, blobs)
        assert wire.Message(header, tuple(blobs), ()) == wire.receive(theirs)


def test_messages_larger_than_the_channel_arrive_whole(pair):
    """They are sent while they are read."""
    ours, theirs = pair
    blob = os.urandom(2 * 2**20)
    sender = threading.Thread(target=wire.send, args=(ours, {"n": 1}, [blob]))
    sender.start()
    assert (blob,) == wire.receive(theirs).blobs
    sender.join()


def test_descriptors_travel_beside_a_message(pair):
    """As many as fit."""
    ours, theirs = pair
    read_fd, write_fd = os.pipe()
    wire.send(ours, {}, fds=(write_fd,))
    [received] = wire.receive(theirs).fds
    os.write(received, b"x")
    assert b"x" == os.read(read_fd, 1)
    for fd in (read_fd, write_fd, received):
        os.close(fd)


@pytest.mark.parametrize("sent", [0, 5, 12])
def test_an_end_in_the_middle_of_a_message_is_an_end(pair, sent):
    """A process that was killed while it sent has said nothing."""
    ours, theirs = pair
    whole = struct.pack("!II", 2, 1) + struct.pack("!Q", 10) + b"{}"
    ours.send(whole[:sent])
    ours.close()
    assert wire.receive(theirs) is None


def test_what_is_no_message_is_not_waited_for(pair):
    """Its first bytes would be taken for a length of gigabytes."""
    ours, theirs = pair
    ours.send(b"\xff" * 8)
    with pytest.raises(ValueError, match="a header of 4294967295 bytes"):
        wire.receive(theirs)


@given(st.binary(max_size=3000), st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_a_message_that_comes_in_pieces_is_taken_when_it_is_whole(blob, sizes):
    """In any pieces: nothing waits for the next one, and the next message is its own."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        incoming, data, found = wire.Incoming(theirs), wire.packed({"n": 1}, [blob, b""]) * 2, []
        for size in [*sizes, len(data)]:
            ours.sendall(data[:size])
            data = data[size:]
            while (message := incoming.next()) is not None:
                found.append(message)
        assert [wire.Message({"n": 1}, (blob, b""))] * 2 == found
        assert not incoming.is_partial


def test_a_message_that_has_begun_is_partial_until_it_is_whole(pair):
    """Three bytes are told apart from none."""
    ours, theirs = pair
    incoming = wire.Incoming(theirs)
    assert (None, False) == (incoming.next(), incoming.is_partial)
    ours.send(b"\0\0\0")
    assert (None, True) == (incoming.next(), incoming.is_partial)
    ours.close()
    with pytest.raises(EOFError):
        incoming.next()


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 8,
        b"\0" * 8,
        b"out.csv: 12 rows written\n",
        struct.pack("!II", 2, 2**30),
        struct.pack("!II", 2, 1) + struct.pack("!Q", 2**40) + b"{}",
        struct.pack("!II", 2, 2) + struct.pack("!QQ", 2**31, 1) + b"{}",
        struct.pack("!II", 2, 0) + b"[]",
        struct.pack("!II", 2, 0) + b"\xff\xfe",
        struct.pack("!II", 1, 0) + b"5",
        struct.pack("!II", 100_000, 0) + b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_found_as_soon_as_it_can_be(pair, sent):
    """Nothing is set aside for what it claims to be."""
    ours, theirs = pair
    ours.send(sent)
    with pytest.raises(ValueError, match=r"a message|a header|codec|Expecting"):
        wire.Incoming(theirs).next()
