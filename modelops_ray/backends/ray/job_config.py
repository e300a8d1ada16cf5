"""What Ray is told about the program that connects to it.

Owns the search path of workers: Ray would have them look into the script's folder and the working directory first, so
that a model's helper called `statistics.py` would be taken for Python's by Ray's worker and by ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_OURS = str(Path(__file__).parents[2])


class _WhereOursIs(list[str]):
    """Folders for workers to search first; takes in none but that of this package."""

    def extend(self, folders: Iterable[str]) -> None:
        """Add folders."""
        super().extend(folder for folder in folders if folder == _OURS)


def job_config() -> Any:
    """Return the `JobConfig` of a driver whose workers find nothing of the model's by themselves."""
    from ray.job_config import JobConfig

    config = JobConfig()
    config._py_driver_sys_path = _WhereOursIs()  # noqa: SLF001 (there is no option for it)
    return config
