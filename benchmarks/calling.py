"""What every engine but ours sends to its workers: a call of a model by its name.

Imports nothing but what it calls, so that workers are no larger than they have to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

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


def value_of(result: Mapping[str, Any]) -> float:
    """Find the value that is checked in what a model returned."""
    value: float = result["result"]["value"] if "result" in result else result["value"]
    return value
