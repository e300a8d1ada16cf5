"""Models that do as little as possible besides taking time or memory."""

from __future__ import annotations

import time
from collections.abc import Mapping


def noop(params: Mapping[str, float], seed: int) -> dict[str, float]:
    """Return one row at once."""
    return {"x": params["x"], "y": seed % 7}


def busy(params: Mapping[str, float], seed: int) -> dict[str, float]:
    """Keep a core busy for `ms` milliseconds of CPU time."""
    end_s = time.process_time() + params["ms"] / 1000
    total = 0
    while time.process_time() < end_s:
        total += 1
    return {"ms": params["ms"], "y": seed % 7}
