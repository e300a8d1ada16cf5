"""Tables of made-up runs, of any size, for tests of the page about a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from support.stores import grid, run_json_of

from modelops_ray.report.page.build import Tables
from modelops_ray.report.page.outputs import numbered, output_of
from modelops_ray.store.commits import FileUse
from modelops_ray.study.schema import ATTEMPT_COLUMNS, simulations_schema

SECOND_US = 1_000_000
BEGAN_US = 1_740_000_000 * SECOND_US
CREATED = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def tables(n_sets: int = 16, replicates: int = 5, n_days: int = 20, **changes: Any) -> Tables:
    """A run of two parameters in a grid; an eighth of it, where both are large, has failed.

    `changes` are fields that differ; `outputs` are tables by name.
    """
    rows = changes.get("simulations", simulations(n_sets, replicates))
    made = changes.pop("outputs", None)
    returned = outputs(rows, n_days) if made is None else made
    task_ids = rows["task_id"].combine_chunks()
    given = {
        "name": "made-up", "run": run_json_of(grid(), created=CREATED), "total": rows.num_rows, "simulations": rows,
        "attempts": attempts(rows), "files": {"sir.py": FileUse("ab" * 32, 70)}, "n_outputs": len(returned),
        "outputs": tuple(output_of(name, [numbered(table, task_ids)]) for name, table in returned.items()),
    }  # fmt: skip
    return Tables(**given | changes)


def simulations(n_sets: int, replicates: int, columns: Mapping[str, Any] | None = None) -> pa.Table:
    """Rows of `simulations`, two at a time for half a second each; `columns` take the place of some."""
    n = n_sets * replicates
    at = np.arange(n)
    of_set, replicate = at // replicates, at % replicates
    side = int(np.ceil(np.sqrt(n_sets)))
    beta, gamma = (of_set // side) / side, (of_set % side) / side
    failed = (beta >= 0.5) & (gamma >= 0.75)
    started_us = BEGAN_US + (at // 2) * SECOND_US // 2
    made = {
        "task_id": [f"{each:064x}" for each in at], "param_id": [f"{each:032x}" for each in of_set],
        "replicate": replicate, "seed": at, "scenario": ["baseline"] * n,
        "status": np.where(failed, "failed", "completed"), "cause": _where(failed, "model_error"),
        "error_type": _where(failed, "ValueError"), "error_message": _where(failed, "it does not converge"),
        "traceback": [None] * n, "attempts": np.ones(n), "seconds": 0.5 + beta / 10,
        "peak_bytes": ((20 + 100 * gamma + at % 7) * 2**20).astype(np.int64), "request_bytes": np.full(n, 300 * 2**20),
        "node": ["n0"] * n, "started_at": started_us, "ended_at": started_us + SECOND_US // 2,
        "param_beta": beta, "param_gamma": gamma,
    } | dict(columns or {})  # fmt: skip
    schema = simulations_schema({"beta": pa.float64(), "gamma": pa.float64()})
    return pa.table({name: pa.array(values) for name, values in made.items()}).cast(schema)


def _where(which: np.ndarray[Any, Any], text: str) -> list[str | None]:
    return [text if each else None for each in which]


def attempts(rows: pa.Table) -> pa.Table:
    """Each seventh simulation ran out of memory once."""
    some = rows.take(pa.array(np.arange(0, rows.num_rows, 7)))
    n = some.num_rows
    made = {name: some[name] for name in ("task_id", "started_at", "ended_at", "node", "request_bytes", "peak_bytes")}
    made |= {"attempt": [1] * n, "limit_bytes": [2**20] * n, "cause": ["out_of_memory"] * n}
    made |= {"error_type": ["OutOfMemory"] * n, "error_message": [""] * n, "killed_by": ["us"] * n}
    made |= {"follows": ["raised"] * n, "printed": [""] * n}
    return pa.table({name: made[name] for name in ATTEMPT_COLUMNS.names}).cast(ATTEMPT_COLUMNS)


def outputs(rows: pa.Table, n_days: int) -> dict[str, pa.Table]:
    """An output over time and one of single values, of the simulations that completed."""
    done = rows.filter(pa.compute.equal(rows["status"], "completed")).select(["task_id", "param_beta"])
    of_row = np.repeat(np.arange(done.num_rows), n_days)
    day = np.tile(np.arange(n_days), done.num_rows)
    beta = done["param_beta"].to_numpy()
    identity = {"task_id": done["task_id"].take(pa.array(of_row))}
    cases = beta[of_row] * day + np.random.default_rng(1).random(len(day))
    return {
        "daily": pa.table(identity | {"day": day, "cases": cases, "deaths": cases / 10}),
        "summary": pa.table(
            {"task_id": done["task_id"], "size": beta * n_days, "peak_day": np.arange(done.num_rows) % n_days}
        ),
    }
