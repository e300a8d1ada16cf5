"""Numbers as people read them."""

from __future__ import annotations

from modelops_ray.config import format_size

__all__ = ["count", "duration", "format_size", "number", "one_line", "rate"]


def count(n: int, what: str) -> str:
    """Write `1 simulation`, `12,000 simulations`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


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


def one_line(text: str, most_chars: int) -> str:
    """Write a text without line breaks, its end cut off where it is longer."""
    text = " ".join(text.split())
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"
