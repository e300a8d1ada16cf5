"""How models are called: a function of (params, seed) or of (params, seed, scenario), by position.

Owns reading a signature, and where a function returns. Does not find or load anything.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Mapping
from typing import Union

from ..errors import ModelError

Params = Mapping[str, Union[bool, int, float, str]]
Model = Callable[[Params, int, str], object]


def calling(function: Callable[..., object], label: str) -> Model:
    """Make a function one of (params, seed, scenario), whether or not it wants the scenario; else ModelError."""
    wanted = f"model {label} must take (params, seed) or (params, seed, scenario) by position"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{wanted}; its signature cannot be read: {error}") from error
    n_arguments = _n_arguments(signature)
    if n_arguments == 0:
        raise ModelError(f"{wanted}; it takes {signature}")
    if n_arguments == 3:
        return function

    def without_scenario(params: Params, seed: int, _scenario: str) -> object:
        return function(params, seed)

    return without_scenario


def returning(function: Callable[..., object]) -> str:
    """The place where a function returns, as in a traceback; where it begins, if there are several; "" if not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    starts, line, lines = dict(dis.findlinestarts(code)), code.co_firstlineno, set()
    for instruction in dis.get_instructions(code):
        line = starts.get(instruction.offset) or line
        if instruction.opname in {"RETURN_VALUE", "RETURN_CONST"}:
            lines.add(line)
    line = lines.pop() if len(lines) == 1 else code.co_firstlineno
    return f'  File "{code.co_filename}", line {line}, in {code.co_name}\n'


def _n_arguments(signature: inspect.Signature) -> int:
    """How many of (params, seed, scenario) a function wants: 2, 3, or 0 where it fits neither."""
    parameters = signature.parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if names[:1] == ["seed"] or names[1:2] == ["params"]:
        return 0
    wanted = 3 if "scenario" in signature.parameters else 2
    if wanted == 3 and names[2:3] != ["scenario"]:
        return 0
    try:
        signature.bind(*range(wanted))
    except TypeError:
        return 0
    return wanted
