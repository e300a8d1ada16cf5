"""What earlier sessions left that the next one goes by: read from their parts before it writes anything.

Owns which parts a start reads, so that a damaged one is refused while the directory is as it was. Does not say which
simulations are done: the commit log does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from modelops_ray.core.ranges import Ranges
from modelops_ray.store.commits import Log
from modelops_ray.store.directory import Largest, largest_of
from modelops_ray.store.found import Found
from modelops_ray.store.parts import ATTEMPTS, OUTPUTS, SIMULATIONS, part_schema, read_parts
from modelops_ray.store.storage.base import Folder


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the simulations with a row took at most, the columns of every output, and attempts in vain.

    `attempts` has how often a simulation was attempted, by task id, where it has no row that stays.
    """

    largest: Largest
    columns: Mapping[str, pa.Schema]
    attempts: Mapping[str, int]


def read_earlier(found: Found, repeat: Ranges) -> Earlier:
    """Read it, where failures at the positions `repeat` are to be forgotten; ResultsError if a part is damaged.

    Reads two columns of all simulations, and their task ids where attempts gave no result.
    """
    largest = largest_of(found.folder, found.log.parts_of(SIMULATIONS))
    return Earlier(largest, columns_of(found.folder, found.log), _attempts(found, repeat))


def columns_of(folder: Folder, log: Log) -> dict[str, pa.Schema]:
    """Read the columns of every output from one of its parts; all parts of an output have the same."""
    prefix = f"{OUTPUTS}/"
    parts = {part.folder.removeprefix(prefix): part for part in log.parts.values() if part.folder.startswith(prefix)}
    return {name: part_schema(folder, part) for name, part in parts.items()}


def _attempts(found: Found, repeat: Ranges) -> dict[str, int]:
    made: dict[str, int] = {}
    for table in read_parts(found.folder, found.log.parts_of(ATTEMPTS), ["task_id", "attempt"]):
        for task_id, number in zip(*table.to_pydict().values(), strict=True):
            made[task_id] = max(number, made.get(task_id, 0))
    parts = found.log.parts_of(SIMULATIONS) if made else []
    for part, table in zip(parts, read_parts(found.folder, parts, ["task_id"]), strict=True):
        positions = part.position_of_row if found.move is None else found.move.position[part.position_of_row]
        for position, task_id in zip(positions.tolist(), table["task_id"].to_pylist(), strict=True):
            if not (part.failed and position in repeat):
                made.pop(task_id, None)
    return made
