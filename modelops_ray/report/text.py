"""Numbers as people read them, and text of others as a terminal, a table or a log may be given it.

Owns what of a text is shown as an escape. Does not print; `screen` does.
"""

from __future__ import annotations

import unicodedata

from modelops_ray.config import format_size
from modelops_ray.core.policy import count
from modelops_ray.errors import one_line

__all__ = ["count", "duration", "format_size", "number", "one_line", "printable", "rate"]

MOST_CHARS = 2000
"""The longest text that is shown; of a longer one the middle is left out, for the remedy of an error is its end."""

_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": " "}
# Persian, Hindi and emoji are joined by them; they move nothing.
_JOINERS = "\u200c\u200d"


def duration(seconds: float) -> str:
    """Write seconds as `0.24 s`, `42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    for large, large_unit, small, small_unit in ((days, "d", h, "h"), (hours, "h", m, "min"), (minutes, "min", s, "s")):
        if large:
            return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"
    return f"{s} s"


def rate(per_second: float, what: str = "") -> str:
    """Write `12.3/s` or `12.3 simulations/s`, per minute or hour where that is easier to read."""
    value, unit = per_second, "s"
    for factor, slower in ((60, "min"), (3600, "h")):
        if value < 1:
            value, unit = per_second * factor, slower
    return f"{value:,.0f}{what}/{unit}" if value >= 100 else f"{value:.1f}{what}/{unit}"


def number(value: float) -> str:
    """Write a measured number with four digits that count: 0.04612, 12.35, 123,457."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def printable(text: str, most_chars: int = MOST_CHARS) -> str:
    r"""Write text of others as one line that a terminal shows and does not obey.

    Control sequences, line breaks, characters that turn the direction of writing, and surrogates are shown as escapes:
    `\x1b`, `\n`, `\u202e`. A byte of a file name that is not UTF-8 is shown as that byte.
    """
    if len(text) > most_chars:
        left = most_chars // 2
        text = f"{text[:left]}…{text[left + 1 - most_chars :]}"
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return _ESCAPES.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
