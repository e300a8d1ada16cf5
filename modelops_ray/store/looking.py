"""A look at a run directory that others write meanwhile: at one run, at one moment.

Owns how it is told that what was read does not belong together. What is read is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from modelops_ray.errors import ResultsError
from modelops_ray.store.commits import last_number
from modelops_ray.store.run_json import NAME
from modelops_ray.store.storage.base import Folder

LOOKS = 10
T = TypeVar("T")


def consistently(hold: Callable[[], Folder], look: Callable[[Folder], T]) -> T:
    """Look, and look again where sessions replaced parts in between, or another run began.

    Args:
        hold: Opens the run directory for one look.
        look: Reads it. What it finds wrong counts only if nothing has changed meanwhile.

    Raises:
        ResultsError: What `look` found wrong, or it is never the same for as long as a look takes.
    """
    for _ in range(LOOKS):
        folder = hold()
        before = _state(folder)
        try:
            found = look(folder)
        except ResultsError:
            if _state(folder) == before and folder.is_in_place():
                raise
        else:
            if folder.mark(NAME) == before[0]:
                return found
    raise ResultsError(f"{folder.where()}: other sessions begin here again and again; start again once they have ended")


def _state(folder: Folder) -> tuple[Hashable | None, int]:
    return folder.mark(NAME), last_number(folder)
