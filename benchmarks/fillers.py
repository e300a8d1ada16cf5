"""Models that fill memory, and what each must answer. Owns filling and holding; says who lives and dies in `ledger`."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from benchmarks.ledger import Attempt, attempt
from benchmarks.models import MIB, Params, Rows

PAGE = 4096
SLICE_BYTES = 16 * MIB
BEAT_S = 0.05


def need(params: Params, seed: int) -> Rows:
    """Fill memory, page by page, and keep it until about `hold_s` seconds have passed since the start.

    `mib` of it, or `tail` times as much in one of `every` parameter sets where these are given. That filling it counts
    keeps apart what is measured, how many run at a time, from how fast a virtual machine happens to hand out memory.
    """
    end_s = time.monotonic() + held_s(params, seed)
    with attempt(params["ledger"], params["x"], seed) as ledger:
        held = fill(need_mib(params) * MIB, seed % 251, ledger)
        hold_until(end_s, ledger)
        return {"value": float(held[::PAGE].sum(dtype=np.int64))}


def need_answer(params: Params, seed: int) -> float:
    """Say what `need` returns: every page has the same first byte."""
    return float(need_mib(params) * (MIB // PAGE) * (seed % 251))


def held_s(params: Params, seed: int) -> float:
    """How long a simulation takes: up to a quarter more or less, so that no engine goes in lock step by chance."""
    return float(params["hold_s"]) * (0.75 + seed % 1000 / 2000)


def need_mib(params: Params) -> int:
    """How much a simulation fills."""
    is_large = "every" in params and params["x"] % params["every"] == params["every"] // 2
    return int(params["mib"] * (params["tail"] if is_large else 1))


def fill(n_bytes: int, value: int, ledger: Attempt) -> npt.NDArray[np.uint8]:
    """Touch every page of `n_bytes` of memory, as fast as the machine gives it."""
    held = np.empty(n_bytes, dtype=np.uint8)
    for start in range(0, n_bytes, SLICE_BYTES):
        held[start : start + SLICE_BYTES : PAGE] = value
        ledger.beat()
    return held


def hold_until(end_s: float, ledger: Attempt) -> None:
    """Let time pass, with a sign of life every 50 ms; `end_s` is of the monotonic clock."""
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
