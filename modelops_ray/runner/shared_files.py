"""Files outside of their own folders that more than one simulation writes: what the user is told of them, once each.

Pure; knows no simulation but by its position.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from modelops_ray.sandbox.reading import MAX_FILES

MOST_FILES = 1000
MOST_NOTICES = 10
_SHARED = (
    "several simulations write {}, where each meets what others wrote; have them write it into their working "
    "directory, which is each one's own, or give it a name with the seed in it"
)
_CHANGED = (
    "{} was changed while simulations ran, where all of them see it; have the model write a file of another name, or "
    "open it with Python"
)

_MANY = (
    f"a process read more than {MAX_FILES:,} files; a later change of one after these is not noticed, unless it is "
    "declared (--include)"
)


class SharedFiles:
    """What this process has seen of that."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._told: set[str] = set()
        self._notices: deque[str] = deque()

    def note(self, wrote: Iterable[tuple[int, str]], changed: Iterable[str]) -> None:
        """Take note of paths that simulations, by their positions, wrote, and of files of the model's that changed."""
        for position, path in wrote:
            if len(self._first) < MOST_FILES and self._first.setdefault(path, position) != position:
                self._tell(path, _SHARED.format(path))
        for path in changed:
            self._tell(path, _CHANGED.format(path))

    def note_read(self, n_files: int) -> None:
        """Take note of how many files one process has read."""
        if n_files >= MAX_FILES:
            self._tell("", _MANY)

    @property
    def notice(self) -> str:
        """The next thing to tell, each one once; empty where there is nothing."""
        return self._notices.popleft() if self._notices else ""

    def _tell(self, path: str, text: str) -> None:
        if path not in self._told and len(self._told) < MOST_NOTICES:
            self._told.add(path)
            self._notices.append(text)
