"""Rows of simulations that completed or failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from modelops_ray.core.report import Cause, Failure
from modelops_ray.study.chunk import Simulation
from modelops_ray.study.identity import task_id
from modelops_ray.study.rows import RunIdentity, completed_rows, failure_rows, identity_table
from modelops_ray.study.schema import identity_fields, simulations_schema

TYPES = {"beta": pa.float64(), "label": pa.string()}
RUN = RunIdentity("sha256:" + "a" * 64, "sir.simulate/baseline", "baseline", TYPES)
SIMULATIONS = (
    Simulation(4, 0, {"beta": 1, "label": "a"}, "b" * 64, 2, 2**64 - 1),
    Simulation(9, 1, {"beta": 0.5}, "c" * 64, 0, 7),
)


def test_identities_have_their_columns_and_null_where_a_set_lacks_a_parameter():
    """Whole numbers in a column of floats are floats."""
    table = identity_table(RUN, SIMULATIONS)

    assert identity_fields(TYPES) == table.schema
    assert [
        {
            "task_id": task_id(RUN.bundle_ref, RUN.entrypoint, "b" * 64, 2**64 - 1), "param_id": "b" * 64,
            "replicate": 2, "seed": 2**64 - 1, "param_beta": 1.0, "param_label": "a",
        },
        {
            "task_id": task_id(RUN.bundle_ref, RUN.entrypoint, "c" * 64, 7), "param_id": "c" * 64,
            "replicate": 0, "seed": 7, "param_beta": 0.5, "param_label": None,
        },
    ] == table.to_pylist()  # fmt: skip


def at(unix_s):
    """A time of day, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC)


def test_failures_become_rows_of_simulations():
    """Everything that is known about a failure is in its row."""
    failures = [
        Failure(4, Cause.MODEL_ERROR, "ValueError", "no", "Traceback", 1.5, 10, 3, 20, "node-a", ended_unix_s=2.0),
        Failure(9, Cause.NODE_LOST, "NodeDiedError", "gone"),
    ]

    table = failure_rows(RUN, failures, SIMULATIONS)

    assert simulations_schema(TYPES) == table.schema
    assert identity_table(RUN, SIMULATIONS) == table.select(identity_fields(TYPES).names)
    columns = (
        "scenario", "status", "cause", "error_type", "error_message", "traceback", "attempts", "seconds",
        "peak_bytes", "request_bytes", "node", "started_at", "ended_at",
    )  # fmt: skip
    assert [
        (
            "baseline",
            "failed",
            "model_error",
            "ValueError",
            "no",
            "Traceback",
            3,
            1.5,
            10,
            20,
            "node-a",
            at(0.5),
            at(2.0),
        ),
        ("baseline", "failed", "node_lost", "NodeDiedError", "gone", None, 1, 0.0, 0, 0, "", None, None),
    ] == [tuple(row[name] for name in columns) for row in table.to_pylist()]


def test_no_rows_have_the_same_columns():
    """A chunk in which everything failed still has a table."""
    empty = completed_rows(RUN, identity_table(RUN, ()), {})

    assert (simulations_schema(TYPES), 0) == (empty.schema, empty.num_rows)


@pytest.mark.parametrize(
    ("traceback", "printed", "shown"),
    [
        ("Traceback", None, "Traceback"),
        ("Traceback", "hello", "Traceback\nprinted before it:\nhello"),
        ("", "hello", "\nprinted before it:\nhello"),
        (None, "hello", "hello"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_what_was_printed_stands_behind_a_traceback_or_in_its_place(traceback, printed, shown):
    """Of a process that was killed there is nothing else; what is too long loses its beginning."""
    failure = Failure(4, Cause.MODEL_ERROR, "ValueError", "no", traceback, printed=printed)

    assert [shown] == failure_rows(RUN, [failure], SIMULATIONS[:1])["traceback"].to_pylist()
    long = replace(failure, traceback="Traceback", printed="x" * 16 * 1024)
    [kept] = failure_rows(RUN, [long], SIMULATIONS[:1])["traceback"].to_pylist()
    assert ("… " + "x" * (16 * 1024 - 2)) == kept
