"""What a child prints is told apart by marks, wherever what is read is cut."""

import os
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.sandbox.printing import KEPT_BYTES, Printed, mark

TEXTS = st.lists(st.text(st.characters(exclude_characters="\x1e", codec="utf-8"), max_size=30), max_size=6)


@given(texts=TEXTS, cuts=st.lists(st.integers(0, 300), max_size=8))
def test_each_simulation_has_what_it_printed(texts, cuts):
    """However the pipe cuts it."""
    data = b"".join(b"\x1e\x02%d\x03" % at + text.encode() for at, text in enumerate(texts))
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    printed = Printed()
    for begin, end in pairwise(ends):
        printed.take(data[begin:end])

    assert texts == [printed.of(at) for at in range(len(texts))]


def test_without_marks_what_was_printed_since_the_last_answers_is_anyones():
    """There is no telling whose it is."""
    printed = Printed()
    printed.take(b"one\n")
    printed.take(b"two\n")

    assert "one\ntwo\n" == printed.of(0) == printed.of(5) == printed.said()
    printed.forget_before(1)
    assert "" == printed.of(1)
    assert not printed.has_any


def test_what_is_answered_is_forgotten_and_what_goes_on_is_not():
    """The next simulation may have begun to print before the answers of those before it are read."""
    printed = Printed()
    printed.take(b"\x1e\x020\x03one\x1e\x021\x03tw")
    printed.forget_before(1)
    printed.take(b"o")

    assert ("", "two", "two") == (printed.of(0), printed.of(1), printed.said())


def test_the_end_is_kept_and_a_character_that_only_looks_like_a_mark():
    """64 KiB of each simulation."""
    printed = Printed()
    for _ in range(10):
        printed.take(b"\x1e" + b"x" * 20_000)

    assert KEPT_BYTES == len(printed.of(0))
    printed.take(b"\x1e")
    assert printed.of(0).endswith("x\x1e")


def test_a_mark_follows_what_was_printed_before_it():
    """It goes where the output goes."""
    read_fd, write_fd = os.pipe()
    mark(write_fd, 7)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as file:
        assert b"\x1e\x027\x03" == file.read()
