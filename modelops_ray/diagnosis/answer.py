"""What failures do to the answer: whether what is missing differs from what is there in what was to be found out.

Owns the comparison: where need and outcome rise together among the simulations that have a result, those that failed
for their need would have had other outcomes. Reads tables that it is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.core.report import Cause
from modelops_ray.study.schema import is_identity

LEAST_SIMULATIONS = 10
LEAST_CORRELATION = 0.3
_NEEDS = {Cause.OUT_OF_MEMORY: "peak_bytes", Cause.TIMEOUT: "seconds"}


class Together(NamedTuple):
    """A need (`peak_bytes` or `seconds`) and a column of an output that go together, by their rank correlation."""

    need: str
    output: str
    column: str
    correlation: float


def gone_together(causes: Iterable[str], simulations: pa.Table, name: str, output: pa.Table) -> Together | None:
    """Find the column of an output, one row per simulation, that goes together most with what simulations failed for.

    None where they did not fail for a need, too few are left, or nothing goes together.
    """
    needs = [need for cause, need in _NEEDS.items() if cause in set(causes)]
    at = pc.index_in(output["task_id"], value_set=simulations["task_id"].combine_chunks())
    if not needs or at.null_count or output.num_rows < LEAST_SIMULATIONS or len(at.unique()) < output.num_rows:
        return None
    found = [
        Together(need, name, column, correlation)
        for need in needs
        for column in _numbers(output)
        if (correlation := _ranked(simulations[need].take(at), output[column])) is not None
    ]
    strongest = max(found, key=lambda one: abs(one.correlation), default=None)
    return strongest if strongest and abs(strongest.correlation) >= LEAST_CORRELATION else None


def _numbers(table: pa.Table) -> list[str]:
    kinds = (pa.types.is_integer, pa.types.is_floating)
    return [
        field.name for field in table.schema if not is_identity(field.name) and any(is_(field.type) for is_ in kinds)
    ]


def _ranked(one: pa.ChunkedArray, other: pa.ChunkedArray) -> float | None:
    """The correlation of the ranks of two columns, where both have a value; None where one has but one value."""
    a, b = (np.asarray(column.cast(pa.float64(), safe=False), dtype=np.float64) for column in (one, other))
    there = np.isfinite(a) & np.isfinite(b)
    if there.sum() < LEAST_SIMULATIONS:
        return None
    a, b = _ranks(a[there]), _ranks(b[there])
    if not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Any) -> Any:
    """The rank of each value, the mean of them where several are the same."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]
