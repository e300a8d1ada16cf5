"""The smallest input that goes wrong in the same way: fewer changes, fewer arguments, shorter files.

Owns what is tried. Whether a smaller one still goes wrong, the caller's function says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.mutations.inputs import Change, Input


def shrunk(asked: Input, fails: Callable[[Input], bool], most_s: float) -> Input:
    """Return the smallest input found within this time that `fails` still holds of."""
    until_s = time.monotonic() + most_s
    while True:
        for smaller in _smaller(asked):
            if time.monotonic() > until_s:
                return asked
            if fails(smaller):
                asked = smaller
                break
        else:
            return asked


def _smaller(asked: Input) -> Iterator[Input]:
    """Everything that is a little smaller, the smallest first."""
    for path in asked.changes:
        yield replace(asked, changes={each: asked.changes[each] for each in asked.changes if each != path})
    for at in range(1, len(asked.arguments)):
        yield replace(asked, arguments=asked.arguments[:at] + asked.arguments[at + 1 :])
    for at, text in enumerate(asked.arguments):
        if len(text) > 40:
            yield replace(asked, arguments=(*asked.arguments[:at], text[: len(text) // 2], *asked.arguments[at + 1 :]))
    for content in _shorter(asked.stdin):
        yield replace(asked, stdin=content)
    for path, change in asked.changes.items():
        for content in _shorter(change.content) if change.what == "file" else ():
            yield replace(asked, changes={**asked.changes, path: Change("file", content)})


def _shorter(content: bytes) -> Iterator[bytes]:
    """The content without a half of it, a quarter, and so on down to a line or some bytes."""
    pieces = content.splitlines(keepends=True)
    pieces = pieces if len(pieces) > 8 else [content[at : at + 1] for at in range(len(content))]
    n = len(pieces) // 2
    while n:
        for start in range(0, len(pieces), n):
            yield b"".join(pieces[:start] + pieces[start + n :])
        n = n // 2 if len(pieces) // max(1, n) < 64 else 0
