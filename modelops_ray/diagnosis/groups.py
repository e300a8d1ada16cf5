"""Failures that are one failure: the same cause at the same line of the model, and where in parameter space they are.

Owns what is alike. Reads tables that it is given, and prints nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.core.places import Place, place_of
from modelops_ray.core.report import Cause
from modelops_ray.diagnosis.regions import Regions, Values, by_set, regions_of
from modelops_ray.study.schema import PARAM_PREFIX

MOST_GROUPS = 20
"""Regions are looked for in the most frequent groups only."""
_NUMBERS = re.compile(r"\d[\d.,]*")
_OURS = {Cause.OUT_OF_MEMORY, Cause.TIMEOUT, Cause.UNSCHEDULABLE, Cause.WORKER_LOST, Cause.NODE_LOST}
"""Causes whose sentences are this program's: their figures make no difference."""


@dataclass(frozen=True, slots=True)
class Group:
    """Simulations that failed alike; `rows` are theirs in the table of failures, the first stands for all.

    `place` is None where no line of the model is known, `regions` where they were not looked for.
    """

    cause: str
    error_type: str
    message: str
    place: Place | None
    rows: tuple[int, ...]
    regions: Regions | None


def groups_of(simulations: pa.Table, model_label: str) -> tuple[pa.Table, list[Group]]:
    """Return the failures among simulations, and their groups, most frequent first."""
    is_failed = pc.equal(simulations["status"], "failed")
    failures = simulations.filter(is_failed)
    alike: dict[tuple[Any, ...], list[int]] = {}
    columns = ("cause", "error_type", "error_message", "traceback")
    told = list(zip(*(failures[name].to_pylist() for name in columns), strict=True))
    places = [place_of(without_printed(row[3]), model_label) for row in told]
    for at, ((cause, kind, message, _), place) in enumerate(zip(told, places, strict=True)):
        alike.setdefault(_likeness(cause, kind or "", message or "", place), []).append(at)
    numbers = np.flatnonzero(is_failed.to_numpy())
    groups = []
    for rank, rows in enumerate(sorted(alike.values(), key=lambda rows: (-len(rows), rows[0]))):
        cause, kind, message, _ = told[rows[0]]
        regions = _regions(simulations, numbers[rows]) if rank < MOST_GROUPS else None
        groups.append(Group(cause, kind or "", message or "", places[rows[0]], tuple(rows), regions))
    return failures, groups


def _likeness(cause: str, error_type: str, message: str, place: Place | None) -> tuple[object, ...]:
    if cause in _OURS:
        return (cause,)
    if place is not None and cause != Cause.BAD_OUTPUT:
        return cause, error_type, place.path, place.line
    return cause, error_type, place, _NUMBERS.sub("0", message)


def without_printed(traceback: str | None) -> str | None:
    """The traceback alone, where a row has what was printed behind it."""
    return traceback and traceback.partition("\nprinted before it:\n")[0]


def parameter_names(table: pa.Table) -> list[str]:
    """The names of the parameters that a table has columns of."""
    identity = {"param_id"}
    names = [name for name in table.column_names if name.startswith(PARAM_PREFIX) and name not in identity]
    return [name.removeprefix(PARAM_PREFIX) for name in names]


def parameters_of(table: pa.Table, rows: Sequence[int] | Values) -> dict[str, Values]:
    """The values of each parameter in some rows, as `regions_of` takes them."""
    taken = table.take(pa.array(rows, pa.int64()))
    return {name: _values(taken[PARAM_PREFIX + name]) for name in parameter_names(table)}


def _values(column: pa.ChunkedArray) -> Values:
    if pa.types.is_boolean(column.type) or pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _regions(simulations: pa.Table, failed_rows: Values) -> Regions:
    failed = np.zeros(simulations.num_rows, dtype=np.bool_)
    failed[failed_rows] = True
    first, n_failed, n_of = by_set(simulations["param_id"].to_pylist(), failed)
    return regions_of(parameters_of(simulations, first), n_failed, n_of)
