"""Text of others is one line that a terminal shows and does not obey."""

import pytest

from modelops_ray.report.text import MOST_CHARS, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain β, 中文, 🦠", "plain β, 中文, 🦠"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\r\nc\x0bd\x0ce", r"a\nb\r\nc\x0bd\x0ce"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\x00\x08\x7f", r"\x00\x08\x7f"),
        ("runs/caf\udce9", r"runs/caf\xe9"),
        ("\ud800 alone", r"\ud800 alone"),
        ("\ufefftext\U000e0041", r"\ufefftext\U000e0041"),
        ("a\tb", "a b"),
        ("क्\u200dष 12\u00a0%", "क्\u200dष 12\u00a0%"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text, shown):
    """Letters of every script stay letters, and what joins them stays."""
    assert shown == printable(text)


def test_a_text_without_end_loses_its_middle():
    """What an error begins with names the thing, what it ends with is the remedy."""
    shown = printable("begin " + "x" * 10**6 + " end")

    assert MOST_CHARS == len(shown)
    assert shown.startswith("begin x")
    assert "x…x" in shown
    assert shown.endswith("x end")
