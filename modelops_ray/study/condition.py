"""Which parameter sets are meant by an expression such as `beta<0.5 and gamma>1`; owns its grammar. Pure.

An expression is comparisons of a parameter with a value, joined by `and`. Nothing of it is evaluated as Python.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from modelops_ray.errors import UsageError
from modelops_ray.study.chunk import Scalar

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_COMPARISON = re.compile(
    r"""\s*(?P<name>[^<>=!"']*[^<>=!"'\s])\s*(?P<operator><=|>=|==|!=|<|>)\s*"""
    r"""(?P<value>"[^"]*"|'[^']*'|[^\s<>=!"']+)(?P<end>\s+and\s|\s*\Z)"""
)
_FORM = "write comparisons joined by `and`, as in 'beta<0.5 and gamma>1'"
_ORDERS = frozenset({"<", ">", "<=", ">="})


@dataclass(frozen=True, slots=True)
class Comparison:
    """One parameter against one value."""

    name: str
    sign: str
    value: Scalar

    def holds(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a parameter set has the parameter, and it compares so."""
        return self.name in params and _OPERATORS[self.sign](params[self.name], self.value)


@dataclass(frozen=True, slots=True)
class Condition:
    """Comparisons which all have to hold."""

    text: str
    comparisons: tuple[Comparison, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read an expression; UsageError names the place where it is none."""
        found, at, is_over = [], 0, False
        while not is_over:
            match = _COMPARISON.match(text, at)
            if match is None:
                raise UsageError(f"--where {text!r}: no comparison at {text[at:].strip()[:40]!r}; {_FORM}")
            found.append(Comparison(match["name"], match["operator"], _value(match["value"])))
            at, is_over = match.end(), not match["end"].strip()
        return cls(text, tuple(found))

    def holds(self, params: Mapping[str, Scalar]) -> bool:
        """Whether all comparisons hold for a parameter set."""
        return all(each.holds(params) for each in self.comparisons)

    def require_fit(self, sets: Iterable[Mapping[str, Scalar]]) -> None:
        """Make sure that the parameters are there, and are of the kind they are compared with; else UsageError."""
        kinds: dict[str, type] = {}
        for params in sets:
            for name in params.keys() - kinds.keys():
                kinds[name] = _kind(params[name])
        for one in self.comparisons:
            if one.name not in kinds:
                near = get_close_matches(one.name, kinds, n=1) or sorted(kinds)
                has = f"did you mean {near[0]}?" if len(near) == 1 else f"there are {', '.join(near[:10])}"
                raise UsageError(f"--where {self.text!r}: no parameter set has {one.name!r}; {has}")
            kind = kinds[one.name]
            if kind is not _kind(one.value) or (kind is bool and one.sign in _ORDERS):
                right = {float: "a number", str: "a text", bool: "true or false by == or !="}[kind]
                raise UsageError(f"--where {self.text!r}: {one.name} is to be compared with {right}")


def _kind(value: Scalar) -> type:
    return float if type(value) is int else type(value)


def _value(text: str) -> Scalar:
    """A number, true or false, or a text, which needs quotes only where it has blanks or looks like one of these."""
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false", "True", "False"):
        return text in ("true", "True")
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
