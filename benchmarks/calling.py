"""What every engine but ours sends to its workers: calls of a model by its name, and how many at a time.

Imports nothing but what it calls, so that workers are no larger than they have to be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

CHUNK_S = 0.05
LARGEST_CHUNK = 1000

Model = Callable[[Mapping[str, Any], int], Mapping[str, Any]]


@cache
def load(model: str) -> Model:
    """Import `module:function`."""
    module, _, name = model.partition(":")
    found: Model = getattr(import_module(module), name)
    return found


def call(model: str, params: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """Run one simulation."""
    return load(model)(params, seed)


def call_with(model: str, params: Mapping[str, Any], seed: int, leases: Any) -> Mapping[str, Any]:
    """Run one simulation while holding a lease of a semaphore."""
    with leases:
        return call(model, params, seed)


def call_all(
    model: str, chunk: Sequence[tuple[int, tuple[Mapping[str, Any], int]]]
) -> tuple[list[tuple[int, Mapping[str, Any]]], float]:
    """Run (position, (params, seed)) one after the other; return (position, result) and the seconds it took."""
    simulate, began_s = load(model), time.perf_counter()
    return [(position, simulate(params, seed)) for position, (params, seed) in chunk], time.perf_counter() - began_s


def next_size(size: int, seconds: float, left: int, n_workers: int) -> int:
    """How many to give to a worker next: what takes `CHUNK_S`, growing, and fewer towards the end."""
    wanted = min(2 * size, int(size * CHUNK_S / max(seconds, 1e-6)), LARGEST_CHUNK, left // (8 * n_workers))
    return max(1, wanted)


def value_of(result: Mapping[str, Any]) -> float:
    """Find the value that is checked in what a model returned."""
    value: float = result["result"]["value"] if "result" in result else result["value"]
    return value
