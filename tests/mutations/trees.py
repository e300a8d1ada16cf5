"""Documents as trees that hold what a parser would not: a key that stands twice, a token that is no value.

Owns reading a document into a tree, one change of a tree drawn by chance, and writing it as JSON (which is YAML as
well). Which documents there are, the caller knows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

DEEP = 5000
NUMBERS = [
    "0", "-1", "-0", "-0.0", "1.5", "0.5", "1e999", "-1e999", "1e-400", "NaN", "Infinity", "-Infinity", "9" * 400,
    "9" * 5000, "1" + "0" * 18, "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "4611686018427387904", "1e308", "2147483648", "100000000", "100000001", "0.1e1",
]  # fmt: skip
TEXTS = [
    '""', '" "', r'"\ud800"', r'"\udcff"', r'"\u0000"', r'"\u001b[31m"', r'"a\nb"', r'"\u202e"', '"[/]"', '"[red]"',
    '"' + "x" * 5000 + '"', '"../../../x"', '"/dev/null"', '"~nobody-such/x"', '"1_0"', '"nan"', '"true"', '"-"',
    '"2020-01-01T00:00:00Z"', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', '"' + "9" * 30 + '"',
    '"' + "a" * 64 + '"', '"' + "0" * 32 + '"', '"part-00000000-1.parquet"', '"9Ei"', '"' + "9" * 400 + 'Gi"',
    '"1e400"', '"-1Gi"', '"1n"', '"NaN"', '"\u0663"',
]  # fmt: skip
OTHERS = [
    "null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"a": 1}', '{"": null}', "[1, 2]", '[["a", "b"]]',
    "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * 70 + "]" * 70, "[" + "1," * 9999 + "1]",
]  # fmt: skip
BROKEN = ["", "01", "+1", "'x'", "nul", "0x10", "[", "]", "}", '"', "\\", "1.", "\t", ",", '"a": 1', "//", "1 2", "\0"]
HOSTILE = [*NUMBERS, *TEXTS, *OTHERS]


@dataclass(frozen=True, slots=True)
class Raw:
    """A token that is written as it stands."""

    text: str


class Pairs(list[tuple[str, Any]]):
    """An object as its keys and values in their order."""


def tree_of(value: Any) -> Any:
    """Make a tree of what a parser returned."""
    if isinstance(value, dict):
        return Pairs((str(key), tree_of(each)) for key, each in value.items())
    if isinstance(value, list):
        return [tree_of(each) for each in value]
    return value


def written(tree: Any) -> str:
    """Write a tree as JSON."""
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(each)}" for key, each in tree) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(written, tree)) + "]"
    return json.dumps(tree, default=str)


def changed(rng: random.Random, tree: Any, tokens: Sequence[str] = HOSTILE) -> Any:
    """Return the tree with one change somewhere in it; `tree` itself is changed, but for a change of its root."""
    slots = _slots(tree)
    if not slots:
        return Raw(rng.choice(tokens))
    holder, at = rng.choice(slots)
    rng.choice(_WAYS)(rng, holder, at, tokens)
    return tree


Slot = tuple[list[Any], int]


def _slots(tree: Any) -> list[Slot]:
    """Every place that holds a value."""
    if not isinstance(tree, list):
        return []
    here = [(tree, at) for at in range(len(tree))]
    return here + [slot for holder, at in here for slot in _slots(_value(holder, at))]


def _value(holder: list[Any], at: int) -> Any:
    return holder[at][1] if isinstance(holder, Pairs) else holder[at]


def _put(holder: list[Any], at: int, value: Any) -> None:
    holder[at] = (holder[at][0], value) if isinstance(holder, Pairs) else value


def _replace(rng: random.Random, holder: list[Any], at: int, tokens: Sequence[str]) -> None:
    _put(holder, at, Raw(rng.choice(tokens)))


def _break(rng: random.Random, holder: list[Any], at: int, _tokens: Sequence[str]) -> None:
    _put(holder, at, Raw(rng.choice(BROKEN)))


def _drop(_rng: random.Random, holder: list[Any], at: int, _tokens: Sequence[str]) -> None:
    del holder[at]


def _repeat(rng: random.Random, holder: list[Any], at: int, _tokens: Sequence[str]) -> None:
    holder[at:at] = [holder[at]] * rng.choice([1, 1, 2, 50])


def _rename(rng: random.Random, holder: list[Any], at: int, tokens: Sequence[str]) -> None:
    """Give a value another key: one that is misspelt, one that another has, or any text."""
    if not isinstance(holder, Pairs):
        return _replace(rng, holder, at, tokens)
    key, value = holder[at]
    others = [name for name, _ in holder]
    holder[at] = (rng.choice([key[1:], key.upper(), key + " ", "\ud800", "", "\x1b\n", "x" * 5000, *others]), value)
    return None


def _wrap(rng: random.Random, holder: list[Any], at: int, _tokens: Sequence[str]) -> None:
    value = _value(holder, at)
    _put(holder, at, rng.choice([[value], Pairs([("a", value)]), [value, value], json.dumps(written(value))]))


def _exchange(rng: random.Random, holder: list[Any], at: int, _tokens: Sequence[str]) -> None:
    """Give a value the place of one beside it."""
    other = rng.randrange(len(holder))
    here, there = _value(holder, at), _value(holder, other)
    _put(holder, at, there)
    _put(holder, other, here)


def _nudge(rng: random.Random, holder: list[Any], at: int, tokens: Sequence[str]) -> None:
    """Change a value a little, of the same type."""
    value = _value(holder, at)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _replace(rng, holder, at, tokens)
    if isinstance(value, str):
        cut = rng.randrange(len(value) + 1)
        _put(holder, at, value[:cut] + rng.choice(["", "x", "0", "/", "\n", "\x00", "\u202e", "é"]) + value[cut + 1 :])
    else:
        _put(holder, at, rng.choice([value + 1, value - 1, -value, value * 10**6, value / 3]))
    return None


_WAYS: list[Callable[[random.Random, list[Any], int, Sequence[str]], None]] = [
    _replace, _replace, _replace, _break, _drop, _repeat, _rename, _wrap, _exchange, _nudge, _nudge,
]  # fmt: skip
