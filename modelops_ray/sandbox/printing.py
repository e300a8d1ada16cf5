"""What a child prints, told apart by simulation: marks among the text, and reading them.

Owns the form of a mark and how much of the text of one simulation is kept. A mark costs a system call, so a model that
prints nothing is not asked for any. Standard library only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from .buffers import flush_standard

KEPT_BYTES = 64 * 1024
_MARK = re.compile(rb"\x1e\x02([0-9]{1,9})\x03")
_BEGIN = b"\x1e"
_LONGEST = 12


def mark(fd: int, index: int) -> None:
    """Say that what comes is of the simulation of this index; what was printed before it arrives before it."""
    flush_standard()
    with suppress(OSError):
        os.write(fd, b"\x1e\x02%d\x03" % index)


class Printed:
    """The end of what a child printed since it was given work, by the index of the simulation that printed it.

    Without marks all of it is of whichever is asked for: what was printed since the last answers.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._parts: dict[int, bytes] = {}
        self._index = -1
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Take what was read; a mark may come in two pieces."""
        data = self._rest + data
        begun = data.rfind(_BEGIN, max(0, len(data) - _LONGEST))
        is_cut = begun >= 0 and not _MARK.match(data, begun)
        self._rest, data = (data[begun:], data[:begun]) if is_cut else (b"", data)
        text, *marked = _MARK.split(data)
        self._add(text)
        for number, text in zip(marked[::2], marked[1::2]):
            self._index = int(number)
            self._parts.setdefault(self._index, b"")
            self._add(text)

    def _add(self, text: bytes) -> None:
        if text:
            self._parts[self._index] = (self._parts.get(self._index, b"") + text)[-KEPT_BYTES:]

    @property
    def has_any(self) -> bool:
        """Whether anything is kept."""
        return any(self._parts.values()) or bool(self._rest)

    def of(self, index: int) -> str:
        """The end of what a simulation printed."""
        is_marked = any(at >= 0 for at in self._parts)
        at = index if is_marked else -1
        return _text(self._parts.get(at, b"") + (self._rest if at == self._index else b""))

    def said(self) -> str:
        """The end of what was printed last, by whichever it was."""
        return _text(self._parts.get(self._index, b"") + self._rest)

    def forget_before(self, index: int) -> None:
        """The simulations before this one are answered; what was printed without a mark goes with them."""
        self._parts = {at: text for at, text in self._parts.items() if at >= index}


def _text(data: bytes) -> str:
    return data[-KEPT_BYTES:].decode(errors="replace")
