"""Reading a run directory that other sessions write meanwhile: one run, as it was at one moment.

Owns how files that do not belong together are noticed, and reading them again. What is read is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from modelops_ray.errors import ResultsError
from modelops_ray.store.commits import last_number
from modelops_ray.store.run_json import NAME
from modelops_ray.store.storage.base import Folder

READINGS = 10
T = TypeVar("T")


def read_consistently(hold: Callable[[], Folder], read: Callable[[Folder], T]) -> T:
    """Read, and read again where sessions replaced parts in between, or another run began.

    `hold` opens the run directory for one reading, and `read` reads it. A ResultsError of `read` counts only if no file
    has changed meanwhile; it is raised as well if the directory changed during each of ten readings.
    """
    for _ in range(READINGS):
        folder = hold()
        before = _state(folder)
        try:
            found = read(folder)
        except ResultsError:
            if _state(folder) == before and folder.is_in_place():
                raise
        else:
            if folder.mark(NAME) == before[0]:
                return found
    raise ResultsError(f"{folder.where()}: other sessions begin here again and again; start again once they have ended")


def _state(folder: Folder) -> tuple[Hashable | None, int]:
    return folder.mark(NAME), last_number(folder)
