"""Numbers as people read them."""

from __future__ import annotations

from modelops_ray.config import format_size

__all__ = ["count", "duration", "format_size", "rate"]


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


def rate(per_second: float) -> str:
    """Write simulations per second, or per minute or hour where that is easier to read."""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * factor >= 1 or unit == "h":
            value = per_second * factor
            return f"{value:,.0f}/{unit}" if value >= 100 else f"{value:.1f}/{unit}"
    raise AssertionError("unreachable")
