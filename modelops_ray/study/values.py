"""What a parameter and a seed may be; owns the rules and their wording, not where the values come from."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from modelops_ray.errors import StudyError
from modelops_ray.study.identity import MAX_SEED

_NUMBER = "a number"
_KINDS: dict[type, str] = {bool: "true or false", int: _NUMBER, float: _NUMBER, str: "a text"}
_LARGEST = sys.float_info.max
_SHOWN_CHARS = 40


def refuse(place: str, found: str, right: str) -> StudyError:
    """Word an error: where, what was found, what would be right."""
    return StudyError(f"{place}: found {found}; expected {right}")


def pointer(*steps: str | int) -> str:
    """Write a JSON pointer: `("parameter_sets", 3)` is `/parameter_sets/3`."""
    return "".join("/" + _quote(str(step).replace("~", "~0").replace("/", "~1"))[1:-1] for step in steps)


def describe(value: object) -> str:
    """Name a value for people, in the words of JSON and in one line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            text = _quote(value)
            return f"the text {text if len(text) <= _SHOWN_CHARS else f'{text[:_SHOWN_CHARS]}...'}"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "an infinite number"
        case int() if value.bit_length() > 100:
            return "a whole number of more than 30 digits"
        case int() | float():
            return f"{value}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            kind = type(value)
            return "a " + f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def refuse_misspelt(keys: Iterable[str], known: Sequence[str], place: str) -> None:
    """Refuse a key that is nearly one that is known; any other is free, as it is for ModelOps."""
    for key in keys:
        near = () if key in known else get_close_matches(key, known, n=1, cutoff=0.8)
        if near:
            raise refuse(place, f"the key {_quote(key)}", f"{_quote(near[0])}, or a key that is less like it")


class ParameterRules:
    """Checks the parameters of one study, and that each is of one kind in all sets."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def fault(self, name: str, value: object) -> tuple[str, str] | None:
        """Say what was found and what would be right, or None where all is well; fast, since it sees every value."""
        kind = _KINDS.get(type(value))
        if kind is None:
            return describe(value), "a number, a text, true or false"
        if kind is _NUMBER and not -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
            return describe(value), "a finite number that fits a 64-bit float"
        if kind == "a text" and not is_unicode(value):
            return f"{describe(value)}, which is not Unicode", "a text without lone surrogates"
        known = self._kinds.get(name)
        if known is None:
            return self._meet(name, kind)
        if known is not kind:
            return f"{describe(value)}, where earlier parameter sets have {known}", "one kind of value in all sets"
        return None

    def _meet(self, name: str, kind: str) -> tuple[str, str] | None:
        if not is_unicode(name):
            return f"the parameter name {_quote(name)}, which is not Unicode", "a name without lone surrogates"
        if name == "id":
            return "a parameter called id", "another name, because its column param_id is taken by the identifier"
        self._kinds[name] = kind
        return None


def seed_fault(seed: object) -> tuple[str, str] | None:
    """Say what is wrong with an explicit seed and what would be right, or None; a bool is no seed."""
    if type(seed) is int and 0 <= seed <= MAX_SEED:
        return None
    return describe(seed), f"a whole number from 0 to {MAX_SEED} (2^64-1), or null to derive it"


def is_unicode(text: object) -> bool:
    """Whether it is a text that files and hashes can hold; JSON may escape half a surrogate pair, which is none."""
    return isinstance(text, str) and (text.isascii() or _without_surrogates(text) == text)


def _without_surrogates(text: str) -> str:
    return text.encode(errors="replace").decode()


def _quote(text: str) -> str:
    """Write any text in one printable line, as JSON does."""
    return json.dumps(_without_surrogates(text), ensure_ascii=False)
