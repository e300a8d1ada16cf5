"""Messages between supervisor, fork server and child: they arrive as they were sent, and all others are refused."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops_ray.sandbox import protocol, wire
from modelops_ray.sandbox.limits import Limit
from modelops_ray.sandbox.protocol import (  # fmt: skip
    Arm,
    CannotLoad,
    Ended,
    GarbledError,
    Hello,
    Kill,
    Lend,
    Lent,
    Looked,
    NoChild,
    Ready,
    TakeBack,
    Terms,
    Work,
    read_from_child,
    read_from_server,
    read_report,
    read_to_server,
    receive_work,
    work_bytes,
)

SOFT = Limit(2**30, is_hard=False, cap_bytes=2**31)
TO_SERVER = [Lend(SOFT, 2**20), Arm(7, Limit(1, is_hard=True), 2**20), Kill(7, "timeout"), TakeBack(7, 3, 200)]
FROM_SERVER = [
    Hello(2**28, "", True),
    Lent(7, False),
    NoChild("no process can be started: Too many open files"),
    Ended(7, -9, "", 2**20, None),
    Ended(7, 3, "timeout", 0, True),
]


def through(message):
    """The header of a message as the other side receives it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol.send(ours, message)
        return wire.receive(theirs).header


@pytest.mark.parametrize("message", TO_SERVER, ids=repr)
def test_what_a_supervisor_asks_arrives_as_it_was_asked(message):
    """As the same type with the same fields."""
    found = read_to_server(through(message))
    assert (type(message), message) == (type(found), found)


@pytest.mark.parametrize("message", FROM_SERVER, ids=repr)
def test_what_the_server_tells_arrives_as_it_was_told(message):
    """As the same type with the same fields."""
    found = read_from_server(through(message))
    assert (type(message), message) == (type(found), found)


def test_the_terms_of_a_server_are_read_as_they_were_written(tmp_path):
    """They stand in its folder for its children, too."""
    terms = Terms({"label": "epi:simulate"}, 1, 60.0, "/models", True, 2**30)
    terms.write(tmp_path)
    assert terms == Terms.read(tmp_path)


def test_work_arrives_as_it_was_given():
    """Parameters of any size are beside the header."""
    work = Work("baseline", ["r"], True, False, [{"beta": 0.5, "text": "ü" * 100}], [[0, 1000], [0, 1001]])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(work_bytes(work))
        assert work == receive_work(theirs)


@pytest.mark.parametrize("message", [Ready(), CannotLoad("no module named 'epi'")], ids=repr)
def test_a_child_says_once_whether_it_could_load_the_model(message):
    """From a child that runs simulations already it is refused."""
    assert message == read_from_child(through(message), 0, is_ready=False)
    with pytest.raises(GarbledError):
        read_from_child(through(message), 0, is_ready=True)


def test_what_a_child_says_of_a_model_it_cannot_load_is_cut_off():
    """It goes into a message of one line."""
    assert 4096 == len(read_from_child({"CannotLoad": ["x" * 10**6]}, 0, is_ready=False).why)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Lend": []},
        {"Lend": 5},
        {"Lend": None},
        {"lend": [[1, False, None], 0]},
        {"Lend": [[1, False, None], 0], "Kill": [7, ""]},
        {"Lend": [[1, False], 0]},
        {"Lend": [[1, False, None, 1], 0]},
        {"Lend": [[1, 0, None], 0]},
        {"Lend": [[1.0, False, None], 0]},
        {"Lend": [[-1, False, None], 0]},
        {"Lend": [[2**63, False, None], 0]},
        {"Lend": [[1, False, "1"], 0]},
        {"Lend": [[1, False, None], True]},
        {"Lend": [[1, False, None], 0, 0]},
        {"Arm": ["7", [1, False, None], 0]},
        {"Arm": [0, [1, False, None], 0]},
        {"Arm": [7, [1, False, None], -1]},
        {"Kill": [7]},
        {"Kill": [-7, ""]},
        {"Kill": [2**31, ""]},
        {"Kill": [7, None]},
        {"Kill": [7, "x" * 10**5]},
        {"Kill": [7, "\ud800"]},
        {"TakeBack": [7, -1, 1]},
        {"TakeBack": [7, 1, None]},
        {"Hello": [1, "", True]},
        {"Answered": [1, 0, 1.0, 0, [], [], [], [], [], []]},
    ],
    ids=repr,
)
def test_what_is_no_request_is_refused(header):
    """Whichever field is missing, too much, of another type or out of bounds."""
    with pytest.raises(GarbledError):
        read_to_server(header)


@pytest.mark.parametrize(
    "header",
    [
        {"Hello": [-1, "", True]},
        {"Hello": [1, None, True]},
        {"Hello": [1, "", 1]},
        {"Lent": [7]},
        {"Lent": [None, True]},
        {"NoChild": [5]},
        {"Ended": [7, None, "", 0, None]},
        {"Ended": [7, 0, "", 0]},
        {"Ended": [7, 0, "", -1, None]},
        {"Ended": [7, 0, "", 0, 1]},
        {"Kill": [7, ""]},
    ],
    ids=repr,
)
def test_what_the_server_does_not_say_is_refused(header):
    """A supervisor acts on nothing else."""
    with pytest.raises(GarbledError):
        read_from_server(header)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from(["Lend", "Arm", "Kill", "TakeBack", "Hello", "Lent", "NoChild", "Ended", "Ready", "Answered"])


@settings(max_examples=200)
@given(st.dictionaries(names, anything, max_size=2))
def test_a_header_of_any_json_is_a_message_or_is_refused(header):
    """No other exception comes of it, whoever reads it."""
    for read in (read_to_server, read_from_server, lambda told: read_from_child(told, 3, is_ready=False)):
        with suppress(GarbledError):
            assert isinstance(read(header), tuple)


REPORTS = [
    Looked(2**20, ("queue", "types"), True, ["/sir.py"]),
    Looked(0, (), False, []),
    CannotLoad("it does not import"),
]


@pytest.mark.parametrize("report", REPORTS, ids=repr)
def test_what_is_said_of_a_model_that_was_looked_at_arrives_as_it_was_said(report):
    """As the same type with the same fields."""
    found = read_report(json.dumps({type(report).__name__: report}).encode())
    assert (type(report), report) == (type(found), found)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"no JSON", b"[]", b"{}", b'{"Looked": []}', b'{"Looked": [-1, [], false, []]}', b"[" * 10**5,
        b'{"Looked": [1.5, [], true, []]}', b'{"Looked": [1, ["a b"], false, []]}',
        b'{"Looked": [1, [1], false, []]}', b'{"Looked": [1, [], 1, []]}', b'{"Looked": [1, [], false, "x"]}',
        b'{"Looked": [1, [], false, [5]]}', b'{"Looked": [1, [], false]}',
        b'{"CannotLoad": [1]}', b'{"Ready": []}', b"\xff",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_report_of_a_model_is_refused(text):
    """An import may have written anything where the report is read."""
    with pytest.raises(GarbledError):
        read_report(text)
