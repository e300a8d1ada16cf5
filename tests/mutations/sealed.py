"""The commit log of a changed run directory, sealed and chained again: what lies behind the seals is reached, too."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

_SEAL = b',"sha256":"'
_PREVIOUS = re.compile(rb'"previous":"[0-9a-f]{64}"')


def resealed(commits: Mapping[str, bytes], parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the commits, by path in the order of their numbers, so that they name these parts and one another."""
    done: dict[str, bytes] = {}
    before = b""
    for path in sorted(commits):
        body = _body(commits[path])
        for part, content in parts.items():
            body = _naming(body, part, content)
        if before:
            body = _PREVIOUS.sub(b'"previous":"' + _digest(before) + b'"', body, count=1)
        before = done[path] = body + _SEAL + _digest(body) + b'"}\n'
    return done


def _body(commit: bytes) -> bytes:
    """What the seal of a commit is over; of one whose keys are in another order, all that can be."""
    body, found, _ = commit.rpartition(_SEAL)
    return body if found else re.sub(rb', "sha256": "[0-9a-f]*"', b"", commit).rstrip()[:-1]


def _naming(body: bytes, part: str, content: bytes) -> bytes:
    pattern = rb'("path":"' + re.escape(part.encode()) + rb'","rows":\d+,"bytes":)\d+(,"sha256":")[0-9a-f]+'
    said = re.compile(pattern)
    return said.sub(lambda found: found[1] + str(len(content)).encode() + found[2] + _digest(content), body)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
