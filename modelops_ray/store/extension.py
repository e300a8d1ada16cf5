"""Going on with a study that contains an older one: its positions in the new study, its rows in new columns.

Owns the comparison of two studies and the translation of parts. The order of the durable steps is `run_store`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.config import SeedPolicy
from modelops_ray.core.ranges import runs
from modelops_ray.sandbox.arrays import plain_array
from modelops_ray.store import batch, columns, run_json
from modelops_ray.store.commits import LivePart, Part
from modelops_ray.store.parts import ATTEMPTS, read_part
from modelops_ray.store.storage.base import Folder
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study


@dataclass(frozen=True, slots=True)
class Move:
    """Where the simulations of an older study are in a newer one: `position[p]` of position `p`.

    `same_numbers` is set where every simulation keeps its replicate number.
    """

    position: npt.NDArray[np.int64]
    same_numbers: bool

    def runs(self, part: LivePart) -> list[tuple[int, int]]:
        """Translate the positions of a part, in the order of its rows."""
        return list(runs(self.position[part.position_of_row].tolist()))


def find_move(older: run_json.StudyEntry, study: Study, simulations: Simulations, policy: SeedPolicy) -> Move | None:
    """Look for every simulation of an older study in this one; None unless all are there and mean the same."""
    was = Study.from_dict(older.document, source="run.json")
    if (was.scenario, was.outputs) != (study.scenario, study.outputs):
        return None
    positions = np.empty(older.simulations, dtype=np.int64)
    same_numbers = True
    for simulation in Simulations(was, policy):
        position = simulations.position_of(simulation.param_id, simulation.seed)
        if position is None:
            return None
        positions[simulation.position] = position
        same_numbers = same_numbers and simulations[position].replicate == simulation.replicate
    return Move(positions, same_numbers)


def moved_parts(
    folder: Folder, parts: Mapping[str, LivePart], move: Move, simulations: Simulations, schemas: batch.TableSchemas
) -> Iterator[tuple[LivePart, pa.Table | None, list[tuple[int, int]]]]:
    """Yield every live part with its table in the new columns, None where the file can stay as it is."""
    numbers = None if move.same_numbers else _numbers(folder, parts, move, simulations)
    for part in parts.values():
        positions = move.runs(part) if len(part.positions) else []
        yield part, _renewed(folder, part, schemas, numbers), positions


def kept(part: LivePart, positions: list[tuple[int, int]]) -> Part:
    """Name a part again that stays as it is."""
    return Part(
        path=part.path,
        rows=part.rows,
        bytes=part.size_bytes,
        sha256=part.sha256,
        positions=tuple(positions),
        failed=part.failed,
    )


def _renewed(folder: Folder, part: LivePart, schemas: batch.TableSchemas, numbers: pa.Table | None) -> pa.Table | None:
    if part.folder == ATTEMPTS:
        return None  # it names simulations by what stays
    table = read_part(folder, part)
    own = (field for field in table.schema if field.name not in schemas.identity.names)
    schema = schemas.simulations if len(part.positions) else pa.schema([*schemas.identity, *own])
    if numbers is None and table.schema.equals(schema):
        return None
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    table = columns.conformed(table, schema)
    return table if numbers is None else _renumbered(table, numbers)


def _numbers(folder: Folder, parts: Mapping[str, LivePart], move: Move, simulations: Simulations) -> pa.Table:
    tables = []
    for part in parts.values():
        if not len(part.positions):
            continue
        positions = [position for run in move.runs(part) for position in range(*run)]
        replicates = [simulations[position].replicate for position in positions]
        tasks = read_part(folder, part, ["task_id"])
        tables.append(tasks.append_column("replicate", plain_array(replicates, pa.int32())))
    return pa.concat_tables(tables)


def _renumbered(table: pa.Table, numbers: pa.Table) -> pa.Table:
    at = pc.index_in(table["task_id"], value_set=numbers["task_id"].combine_chunks())
    index = table.column_names.index("replicate")
    return table.set_column(index, table.schema.field(index), numbers["replicate"].take(at))
