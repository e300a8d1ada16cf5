"""Models that take time or nothing, and what each must answer.

Every model returns one row with `value`, and `<model>_answer` says from the same arguments what that is. Imports
nothing that a fork would have to carry along: what takes memory is in `fillers`. Knows nothing about engines.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Params = Mapping[str, Any]
Rows = Mapping[str, Any]

MIB = 2**20


def noop(params: Params, seed: int) -> Rows:
    """Return one row at once."""
    return {"x": params["x"], "value": seed % 7}


def noop_answer(_params: Params, seed: int) -> float:
    """Say what `noop` returns."""
    return seed % 7


def busy(params: Params, seed: int) -> Rows:
    """Keep a core busy for `ms` milliseconds of CPU time of its own: other threads of the process are the engine's."""
    end_s = time.thread_time() + params["ms"] / 1000
    total = 0
    while time.thread_time() < end_s:
        total += 1
    return {"ms": params["ms"], "value": seed % 7}


busy_answer = noop_answer


def three_decades(n: int, seed: int = 1) -> list[float]:
    """Draw run times between 3 ms and 3 s, each decade as often as the others."""
    rng = random.Random(seed)
    return [round(3 * 1000 ** ((i + rng.random()) / n), 3) for i in range(n)]


Model = Callable[[Params, int], Rows]
Answer = Callable[[Params, int], float]


def answer_of(model: str) -> Answer:
    """Find what says what a model must return."""
    module, _, name = model.partition(":")
    answer: Answer = getattr(import_module(module), f"{name}_answer")
    return answer
