"""The rows of `simulations` for simulations that failed; those that completed bring theirs along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from modelops_ray.core.events import Failure
from modelops_ray.store.opening import Question
from modelops_ray.study.identity import task_id
from modelops_ray.study.schema import PARAM_PREFIX, parameter_array


def failure_table(failures: Sequence[Failure], question: Question) -> pa.Table:
    """Make one row per failure, in the order given."""
    schema = question.schemas.simulations
    simulations = question.simulations.take([failure.position for failure in failures])
    asked = question.asked
    rows: list[dict[str, Any]] = [
        {
            "task_id": task_id(asked.bundle_ref, asked.entrypoint, simulation.param_id, simulation.seed),
            "param_id": simulation.param_id,
            "replicate": simulation.replicate,
            "seed": simulation.seed,
            "scenario": question.study.scenario,
            "status": "failed",
            "cause": str(failure.cause),
            "error_type": failure.error_type,
            "error_message": failure.message,
            "traceback": failure.traceback,
            "attempts": failure.attempts,
            "seconds": failure.seconds,
            "peak_bytes": failure.peak_bytes,
            "request_bytes": failure.request_bytes,
            "node": failure.node,
        }
        | {PARAM_PREFIX + name: value for name, value in simulation.params.items()}
        for failure, simulation in zip(failures, simulations, strict=True)
    ]
    arrays = [parameter_array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
