"""What children tell: it arrives as it was, and what is anything else is refused in one sentence."""

from __future__ import annotations

import json
import math
import socket
import struct
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops_ray.sandbox import protocol, wire
from modelops_ray.sandbox.answers import Packer, answers_of
from modelops_ray.sandbox.outputs import outputs_of
from modelops_ray.sandbox.protocol import MAX_ANSWER_HEADER_BYTES, Answered, GarbledError, read_from_child
from modelops_ray.sandbox.raised import Told

NAN = struct.unpack("d", struct.pack("Q", 0x7FF8000000001234))[0]
ROW = {"none": None, "truth": True, "whole": -(2**63), "float": 0.1, "text": "day", "np_truth": np.bool_(0)}
ROW |= {"np_whole": np.int64(5), "narrow": np.int32(-7), "np_float": np.float64(0.5), "single": np.float32(0.1)}
TABLE = pa.table({"day": [1, 2, None], "name": ["a", "ü", None], "cases": [[1], [], None]})
TOLD = Told("model_error", "KeyError", "'beta'", "Traceback …")


def filled():
    """A packer with every kind of answer."""
    packer = Packer()
    packer.add(0.5, 100, None, packer.packed({"r": ROW, "t": TABLE}))
    packer.add(0.25, 7, TOLD, packer.packed({}))
    packer.add(0.0, 0, None, packer.packed({"r": ROW | {"float": NAN}}))
    packer.add(1.0, 1, None, packer.packed({"r": {"x": "other columns"}, "s": {"x": 2}}))
    return packer


def sent(packer, **told):
    """The bytes of a message."""
    message, blobs = packer.message(
        **({"n_left": 0, "took_s": 1.5, "own_bytes": 0, "wrote": (), "changed": (), "read": ()} | told)
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        protocol.send(ours, message, blobs)
        return theirs.recv(2**20)


def heard(data, n_given=4):
    """What a supervisor makes of bytes that arrive."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        ours.sendall(data)
        message = wire.Incoming(theirs, MAX_ANSWER_HEADER_BYTES).next()
        return None if message is None else read(message.header, message.blobs, n_given)


def read(header, blobs, n_given):
    """What a supervisor makes of a message of a child that runs simulations: what it tells, and the answers."""
    told = read_from_child(header, n_given, is_ready=True)
    return told, answers_of(told, blobs)


def test_answers_arrive_as_they_were_given():
    """Numbers to the bit, whatever they are the numbers of."""
    told, answers = heard(sent(filled(), own_bytes=9, wrote=[(3, "/tmp/out.csv")], changed=["run.parquet"]))

    assert (4, 0, 1.5, 9) == told[:4]
    assert ([(3, "/tmp/out.csv")], ["run.parquet"]) == (told.wrote, told.changed)
    assert [(0.5, 100, None), (0.25, 7, TOLD), (0.0, 0, None), (1.0, 1, None)] == [answer[:3] for answer in answers]
    assert ROW == answers[0].outputs["r"]
    assert TABLE.equals(answers[0].outputs["t"])
    assert {} == answers[1].outputs
    assert struct.pack("d", NAN) == struct.pack("d", answers[2].outputs["r"]["float"])
    assert [{"x": "other columns"}, {"x": 2}] == [answers[3].outputs["r"], answers[3].outputs["s"]]


scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(st.characters(max_codepoint=127))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), scalars, min_size=1), min_size=1, max_size=20))
def test_rows_of_any_columns_arrive_in_order(rows):
    """Whichever of them have the same."""
    packer = Packer()
    for row in rows:
        packer.add(0.0, 0, None, packer.packed({"r": row}))
    _, answers = heard(sent(packer), len(rows))
    assert repr(rows) == repr([answer.outputs["r"] for answer in answers])


def test_narrow_numbers_stay_narrow():
    """A column of them is as narrow."""
    _, [answer, *_] = heard(sent(filled()))
    assert (np.int32, np.float32) == (type(answer.outputs["r"]["narrow"]), type(answer.outputs["r"]["single"]))


def test_a_wide_row_and_values_of_other_types_travel_as_tables():
    """As they would have been kept in the end."""
    packer = Packer()
    wide = {f"x{at}": at for at in range(2000)}
    packer.add(0.0, 0, None, packer.packed(outputs_of({"wide": wide, "odd": {"x": b"bytes"}})))
    _, [answer] = heard(sent(packer), 1)
    assert [wide] == answer.outputs["wide"].to_pylist()
    assert [{"x": b"bytes"}] == answer.outputs["odd"].to_pylist()


MESSAGE = Answered(1, 0, 1.0, 0, [], [], [], [], [], [])
NUMBERS = [struct.pack("d", 0.5), struct.pack("q", 1)]
COLUMN = "\ud800"


def stream(table):
    """A table as Arrow writes it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def broken_text():
    """A column of text whose bytes are no UTF-8, as a model with a view of its own memory could make."""
    return pa.Table.from_arrays(
        [pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(struct.pack("2i", 0, 1)), pa.py_buffer(b"\xff")])],
        names=["x"],
    )


def wild_offsets():
    """A stream with a column of text that claims to lie far beyond its memory."""
    before, _, after = stream(pa.table({"x": ["a"]})).rpartition(struct.pack("2i", 0, 1))
    return before + struct.pack("2i", 0, 2**30) + after


@pytest.mark.parametrize(
    ("header", "blobs"),
    [
        ({"n": 2}, NUMBERS),
        ({"n": 0}, NUMBERS),
        ({"n": True}, NUMBERS),
        ({"n": 1.0}, NUMBERS),
        ({"n": None}, NUMBERS),
        ({"n_left": -1}, NUMBERS),
        ({"n_left": 4}, NUMBERS),
        ({"took_s": -1}, NUMBERS),
        ({"took_s": math.nan}, NUMBERS),
        ({"took_s": "1"}, NUMBERS),
        ({"own_bytes": 2**70}, NUMBERS),
        ({"own_bytes": "1"}, NUMBERS),
        ({"wrote": [[1, "x"]]}, NUMBERS),
        ({"wrote": [[0, 5]]}, NUMBERS),
        ({"wrote": 5}, NUMBERS),
        ({"read": [[1, "x", "1"]]}, NUMBERS),
        ({"read": [[0, 5, "1"]]}, NUMBERS),
        ({"read": [[0, "x", None]]}, NUMBERS),
        ({"read": [[0, "x", "1" * 1000]]}, NUMBERS),
        ({"read": 5}, NUMBERS),
        ({"changed": ["x" * 10**6]}, NUMBERS),
        ({}, []),
        ({}, [b"", b""]),
        ({}, [b"1234567", b""]),
        ({}, [struct.pack("d", math.inf), NUMBERS[1]]),
        ({}, [struct.pack("d", math.nan), NUMBERS[1]]),
        ({}, [struct.pack("d", -1), NUMBERS[1]]),
        ({}, [NUMBERS[0], struct.pack("q", -1)]),
        ({}, [*NUMBERS, b"one more"]),
        ({"failures": [[0, "node_lost", "", "", None]]}, NUMBERS),
        ({"failures": [[0, "bad_output", "T" * 3_000_000, "", None]]}, NUMBERS),
        ({"failures": [[0, "bad_output", "", "", "x" * 10**6]]}, NUMBERS),
        ({"failures": [[0, ["bad_output"], "", "", None]]}, NUMBERS),
        ({"failures": [[1, "bad_output", "", "", None]]}, NUMBERS),
        ({"failures": [[0, "bad_output", COLUMN, "", None]]}, NUMBERS),
        ({"failures": {"0": 1}}, NUMBERS),
        ({"failures": 7}, NUMBERS),
        ({"tables": [[0, "r"]]}, NUMBERS),
        ({"tables": [[0, "r"]]}, [*NUMBERS, b"no stream"]),
        ({"tables": [[1, "r"]]}, [*NUMBERS, stream(TABLE)]),
        ({"tables": [[-1, "r"]]}, [*NUMBERS, stream(TABLE)]),
        ({"tables": [[0, "../r"]]}, [*NUMBERS, stream(TABLE)]),
        ({"tables": [[0, "r" * 300]]}, [*NUMBERS, stream(TABLE)]),
        ({"tables": [[0, 5]]}, [*NUMBERS, stream(TABLE)]),
        ({"tables": [[0, "r"]]}, [*NUMBERS, stream(TABLE)[:-200]]),
        ({"tables": [[0, "r"]]}, [*NUMBERS, stream(broken_text())]),
        ({"tables": [[0, "r"]]}, [*NUMBERS, wild_offsets()]),
        ({"tables": [[0, "r"]]}, [*NUMBERS, stream(pa.table({"": [1]}))]),
        ({"tables": [[0, "r"]]}, [*NUMBERS, stream(pa.table({b"\xff": [1]}))]),
        ({"rows": [["r", ["x"], "d", [0]]]}, NUMBERS),
        ({"rows": [["r", ["x"], "d", [1]]]}, [*NUMBERS, struct.pack("d", 1)]),
        ({"rows": [["r", ["x"], "d", [0, 0]]]}, [*NUMBERS, struct.pack("d", 1)]),
        ({"rows": [["r", ["x", "x"], "dd", [0]]]}, [*NUMBERS, struct.pack("d", 1), struct.pack("d", 1)]),
        ({"rows": [["r", [], "", [0]]]}, NUMBERS),
        ({"rows": [["r", ["x"], "O", [0]]]}, [*NUMBERS, struct.pack("q", 1)]),
        ({"rows": [["r", ["x"], "?", [0]]]}, [*NUMBERS, b"\x02"]),
        ({"rows": [["r", ["x"], "n", [0]]]}, [*NUMBERS, b"x"]),
        ({"rows": [["r", ["x"], "s", [0]]]}, [*NUMBERS, b'["\\ud800"]']),
        ({"rows": [["r", ["x"], "s", [0]]]}, [*NUMBERS, b"[5]"]),
        ({"rows": [["r", ["x"], "s", [0]]]}, [*NUMBERS, b"[" * 100_000]),
        ({"rows": [["r", [COLUMN], "d", [0]]]}, [*NUMBERS, struct.pack("d", 1)]),
        ({"rows": [["r", [5], "d", [0]]]}, [*NUMBERS, struct.pack("d", 1)]),
        ({"rows": [["r", ["x"], "d", "0"]]}, [*NUMBERS, struct.pack("d", 1)]),
        ({"rows": [["r", ["x"] * 2000, "n" * 2000, [0] * 4000]]}, NUMBERS),
        ({"rows": [[]]}, NUMBERS),
    ],
)
def test_what_is_no_answer_is_refused_by_name(header, blobs):
    """Whichever part of it is wrong; no exception but one comes of it."""
    with pytest.raises(GarbledError):
        read({"Answered": MESSAGE._replace(**header)}, blobs, 3)


VALID = sent(filled())


@settings(max_examples=400)
@given(st.data())
def test_a_message_that_was_changed_is_an_answer_or_is_refused(data):
    """Bytes flipped, lost, put in or put twice: it never hangs, and nothing but a bounded sentence comes of it."""
    changed = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 16))
        with_bytes = data.draw(st.binary(max_size=16) | st.just(bytes(changed[at : at + length])))
        changed[at : at + length] = with_bytes
    with suppress(GarbledError, ValueError):
        found = heard(bytes(changed))
        assert found is None or (isinstance(found[0], Answered) and 1 <= len(found[1]) <= 4)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(MESSAGE._fields), nested))
def test_a_header_of_any_json_is_an_answer_or_is_refused(header):
    """Whatever stands where something else should."""
    told = json.loads(json.dumps({"Answered": MESSAGE._replace(**header)}))
    try:
        assert 1 == len(read(told, NUMBERS, 1)[1])
    except GarbledError:
        assert header
