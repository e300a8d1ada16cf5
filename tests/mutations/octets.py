"""Files as bytes: cut, flipped, repeated, of another encoding. Knows nothing of what they hold."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

ODD = [b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r\n", b"\t", b"\x1b[31m", b"{", b"]", b'"', b"\\", b"9" * 400, b","]


def changed(rng: random.Random, content: bytes) -> bytes:
    """Return the content with one change."""
    return rng.choice(_WAYS)(rng, content)


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(rng: random.Random, content: bytes) -> bytes:
    if not content:
        return b"\x00"
    flipped = bytearray(content)
    # What describes a file stands at its ends.
    at = rng.choice([rng.randrange(len(content)), -1 - rng.randrange(min(64, len(content)))])
    flipped[at] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _drop(rng: random.Random, content: bytes) -> bytes:
    start, stop = _span(rng, content)
    return content[:start] + content[stop:]


def _double(rng: random.Random, content: bytes) -> bytes:
    start, stop = _span(rng, content)
    return content[:stop] + content[start:]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(ODD) + content[at:]


def _noise(rng: random.Random, content: bytes) -> bytes:
    start, stop = _span(rng, content)
    return content[:start] + rng.randbytes(stop - start) + content[stop:]


def _lines(rng: random.Random, content: bytes) -> bytes:
    """Move a line to another place."""
    lines = content.splitlines(keepends=True)
    if lines:
        lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
    return b"".join(lines)


def _whole(rng: random.Random, content: bytes) -> bytes:
    text = content.decode(errors="replace")
    return rng.choice(
        [b"", b"\xef\xbb\xbf" + content, text.encode("utf-16"), content.replace(b"\n", b"\r\n"), content + b"\0",
         content * 2, gzip.compress(content), b"\0" * 2**20, b"[" * 10**5, b'{"a":' * 10**5, b"\x7fELF" + content,
         b"9" * 2**20, b" " * 2**20 + content]
    )  # fmt: skip


def _span(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 2, 8, 64, 1024]))


_WAYS: list[Callable[[random.Random, bytes], bytes]] = [
    _cut, _cut, _flip, _flip, _flip, _drop, _double, _insert, _insert, _noise, _lines, _whole,
]  # fmt: skip
