"""Models that take time, memory or nothing, and what each must answer.

Every model returns one row with `value`, and `<model>_answer` says from the same arguments what that is. Knows nothing
about engines.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.ledger import Attempt, attempt

Params = Mapping[str, Any]
Rows = Mapping[str, Any]

MIB = 2**20
PAGE = 4096
SLICE_BYTES = 16 * MIB
BEAT_S = 0.05


def noop(params: Params, seed: int) -> Rows:
    """Return one row at once."""
    return {"x": params["x"], "value": seed % 7}


def noop_answer(_params: Params, seed: int) -> float:
    """Say what `noop` returns."""
    return seed % 7


def busy(params: Params, seed: int) -> Rows:
    """Keep a core busy for `ms` milliseconds of CPU time."""
    end_s = time.process_time() + params["ms"] / 1000
    total = 0
    while time.process_time() < end_s:
        total += 1
    return {"ms": params["ms"], "value": seed % 7}


busy_answer = noop_answer


def need(params: Params, seed: int) -> Rows:
    """Fill memory, page by page, and keep it for `hold_s` seconds.

    `mib` of it, or `tail` times as much in one of `every` parameter sets where these are given.
    """
    with attempt(params["ledger"], params["x"], seed) as ledger:
        held = fill(need_mib(params) * MIB, seed % 251, ledger)
        hold(params["hold_s"], ledger)
        return {"value": float(held[::PAGE].sum(dtype=np.int64))}


def need_answer(params: Params, seed: int) -> float:
    """Say what `need` returns: every page has the same first byte."""
    return float(need_mib(params) * (MIB // PAGE) * (seed % 251))


def need_mib(params: Params) -> int:
    """How much a simulation fills."""
    is_large = "every" in params and params["x"] % params["every"] == params["every"] // 2
    return int(params["mib"] * (params["tail"] if is_large else 1))


def fill(n_bytes: int, value: int, ledger: Attempt) -> npt.NDArray[np.uint8]:
    """Touch every page of so much memory, as fast as the machine gives it."""
    held = np.empty(n_bytes, dtype=np.uint8)
    for start in range(0, n_bytes, SLICE_BYTES):
        held[start : start + SLICE_BYTES : PAGE] = value
        ledger.beat()
    return held


def hold(seconds: float, ledger: Attempt) -> None:
    """Let time pass, with a sign of life every 50 ms."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(BEAT_S, left_s))
        ledger.beat()


def large(params: Params, seed: int) -> Mapping[str, Rows]:
    """Return `mib` MiB of random numbers and their sum."""
    values = np.random.default_rng(seed).random(params["mib"] * MIB // 8)
    return {"result": {"value": float(values.sum())}, "large": {"x": values}}


def large_answer(params: Params, seed: int) -> float:
    """Say what the sum in `large` is."""
    return float(np.random.default_rng(seed).random(params["mib"] * MIB // 8).sum())


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
