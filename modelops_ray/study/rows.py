"""The rows of `simulations` and `attempts`, and the identity columns that outputs begin with.

Owns how an outcome becomes a row. Does not own names and types of columns: `study.schema` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from modelops_ray.core.report import FailedAttempts, Failure
from modelops_ray.sandbox.arrays import array_of, plain_array
from modelops_ray.sandbox.raised import bounded_traceback
from modelops_ray.study.chunk import Simulation
from modelops_ray.study.identity import task_id
from modelops_ray.study.schema import ATTEMPT_COLUMNS, identity_fields, simulations_schema

_INT16_MAX = 2**15 - 1
_SLICE = 10_000


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What the identities of all simulations of a run share.

    `bundle_ref` is `sha256:<64 hex digits>`, `entrypoint` is `<model>/<scenario>`.
    """

    bundle_ref: str
    entrypoint: str
    scenario: str
    parameter_types: Mapping[str, pa.DataType]

    def task_id(self, simulation: Simulation) -> str:
        """The full identity of a simulation."""
        return task_id(self.bundle_ref, self.entrypoint, simulation.param_id, simulation.seed)


def identity_table(run: RunIdentity, simulations: Sequence[Simulation]) -> pa.Table:
    """Build the identity columns, one row per simulation in the order given."""
    columns: tuple[list[Any], ...] = (
        [run.task_id(sim) for sim in simulations],
        [sim.param_id for sim in simulations],
        [sim.replicate for sim in simulations],
        [sim.seed for sim in simulations],
        *([sim.params.get(name) for sim in simulations] for name in run.parameter_types),
    )
    schema = identity_fields(run.parameter_types)
    return pa.table([plain_array(values, f.type) for values, f in zip(columns, schema, strict=True)], schema=schema)


def completed_rows(run: RunIdentity, identities: pa.Table, outcomes: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Build the rows of completed simulations from their identity columns and outcomes, one value per simulation.

    `outcomes` has `attempts`, `seconds`, `peak_bytes`, `request_bytes`, `node`, and times as `times` returns them.
    """
    return _rows(run, identities, "completed", outcomes)


def failure_rows(run: RunIdentity, failures: Sequence[Failure], simulations: Sequence[Simulation]) -> pa.Table:
    """Build the rows of failed simulations; `simulations[i]` is the one that `failures[i]` is about."""
    same = ("error_type", "attempts", "seconds", "peak_bytes", "request_bytes", "node")
    outcomes: dict[str, Sequence[Any]] = {
        "cause": [str(failure.cause) for failure in failures],
        "error_message": [failure.message for failure in failures],
        "traceback": [_traceback_of(failure) for failure in failures],
        **{name: [getattr(failure, name) for failure in failures] for name in same},
        **times([(failure.ended_unix_s, failure.seconds) for failure in failures]),
    }
    return _rows(run, identity_table(run, simulations), "failed", outcomes)


def _traceback_of(failure: Failure) -> str | None:
    """A traceback with what was printed before it; of a process that was killed, there is only what it printed."""
    if failure.traceback is None or not failure.printed:
        return failure.traceback or failure.printed
    return bounded_traceback(f"{failure.traceback}\nprinted before it:\n{failure.printed}")


def attempt_rows(
    run: RunIdentity,
    attempts: Sequence[FailedAttempts],
    take: Callable[[Sequence[int]], Sequence[Simulation]],
) -> pa.Table:
    """Build the rows of attempts that gave no result; `take` makes the simulations at some positions."""
    fields = list(ATTEMPT_COLUMNS)[2:]
    told = zip(*map(_told_of, attempts), strict=True)
    common = pa.table([plain_array(c, f.type) for c, f in zip(told, fields, strict=True)], schema=pa.schema(fields))
    positions = list(chain.from_iterable(each.positions for each in attempts))
    numbers = [min(number, _INT16_MAX) for each in attempts for number in each.numbers]
    # A node may take a hundred thousand simulations along, and more are lost while they are written.
    slices = (positions[at : at + _SLICE] for at in range(0, len(positions), _SLICE))
    task_ids = [plain_array([*map(run.task_id, take(some))], pa.string()) for some in slices]
    of_row = np.repeat(np.arange(len(attempts)), [len(each.positions) for each in attempts])
    columns = [pa.chunked_array(task_ids), plain_array(numbers, pa.int16()), *common.take(array_of(of_row)).columns]
    return pa.table(columns, names=ATTEMPT_COLUMNS.names)


def _told_of(attempts: FailedAttempts) -> tuple[Any, ...]:
    """What the rows of attempts that ended alike have in common: all columns of `ATTEMPT_COLUMNS` after the second."""
    failure = attempts.failure
    # Of a task that died it is not known when each of its simulations began, and seldom what each used.
    is_measured = bool(failure.seconds)
    [(started, ended)] = zip(*times([(failure.ended_unix_s, failure.seconds)]).values(), strict=True)
    return (
        started if is_measured else None,
        ended,
        failure.node or None,
        attempts.request_bytes or None,
        attempts.limit_bytes or None,
        failure.peak_bytes if is_measured else failure.peak_bytes or None,
        str(failure.cause),
        failure.error_type,
        failure.message,
        failure.killed_by,
        str(attempts.follows),
        failure.printed,
    )


def times(ended: Iterable[tuple[float | None, float]]) -> dict[str, list[int | None]]:
    """Say when simulations began and ended, in microseconds since 1970, None where that is not known.

    Each is given as when it ended, in seconds since 1970, and how many seconds it ran.
    """
    pairs = list(ended)
    return {
        "started_at": [None if at_s is None else int((at_s - for_s) * 1e6) for at_s, for_s in pairs],
        "ended_at": [None if at_s is None else int(at_s * 1e6) for at_s, _ in pairs],
    }


def _rows(run: RunIdentity, identities: pa.Table, status: str, outcomes: Mapping[str, Sequence[Any]]) -> pa.Table:
    schema = simulations_schema(run.parameter_types)
    n_rows = identities.num_rows
    told = {"scenario": [run.scenario] * n_rows, "status": [status] * n_rows, **outcomes}
    known = dict(zip(identities.column_names, identities.columns, strict=True))
    known |= {name: plain_array(values, schema.field(name).type) for name, values in told.items()}
    missing = {field.name: pa.nulls(n_rows, field.type) for field in schema if field.name not in known}
    return pa.table([(known | missing)[name] for name in schema.names], schema=schema)
