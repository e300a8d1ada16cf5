"""The runs below a folder, by when a session last wrote to them.

Owns what counts as one, from names and times alone: nothing of a run is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modelops_ray.errors import StorageError, UsageError
from modelops_ray.store import heartbeat, run_json

RUNS = Path("runs")
"""Where runs go that are given no directory."""
_MARKS = (run_json.NAME, heartbeat.NAME)


class Found(NamedTuple):
    """A run directory, and when it was last written to, in seconds since 1970."""

    path: Path
    written_unix_s: float


def runs_below(folder: Path = RUNS) -> list[Found]:
    """List the runs in a folder, newest first; none where there is no such folder. StorageError if it is unreadable."""
    try:
        found = [Found(path, max(times)) for path in folder.iterdir() if (times := list(_times(path)))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}; give a folder that holds run directories") from error
    return sorted(found, key=lambda run: (-run.written_unix_s, run.path.name))


def newest_run(folder: Path = RUNS) -> Path:
    """Return the run below a folder that was written to last; UsageError where there is none."""
    found = runs_below(folder)
    if not found:
        raise UsageError(f"there is no run below {folder}/; name a run directory")
    return found[0].path


def _times(path: Path) -> Iterator[float]:
    """When the files of a run that tell of sessions were written; of a run in shards, those of all."""
    for name in _MARKS:
        for place in (path / name, *path.glob(f"shards/*/{name}")):
            if place.is_file():
                yield place.stat().st_mtime
