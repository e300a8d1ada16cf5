"""What is known of why a run ended as it did, gathered from its directory alone.

Owns which tables are read for it. The searches are in `groups` and `regions`; the sentences are `report.why`'s.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.diagnosis.groups import Group, groups_of
from modelops_ray.errors import UsageError
from modelops_ray.store.reader import RunReader
from modelops_ray.store.status import Status
from modelops_ray.study.schema import PARAM_PREFIX

COLUMNS = [
    "task_id", "param_id", "replicate", "seed", "status", "cause", "error_type", "error_message", "traceback",
    "attempts", "seconds", "peak_bytes", "request_bytes", "node",
]  # fmt: skip
_OF_THE_STUDY = ("model", "params", "replicates")
"""The options that say which study it is."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A run, its failures in groups, and what each simulation took.

    `simulations` has `COLUMNS` and the parameters, `failures` those of its rows that failed.
    """

    run_dir: str
    model_label: str
    config: Mapping[str, Any]
    status: Status
    simulations: pa.Table
    failures: pa.Table
    groups: tuple[Group, ...]

    def task_id_of(self, group: Group) -> str:
        """The simulation that stands for a group."""
        return str(self.failures["task_id"][group.rows[0]].as_py())

    def command(self, words: str, *more: str) -> str:
        """The command that does something with the study of this run, as a shell reads it."""
        study = self.config.get("study_path") or "STUDY"
        given = [(name, self.config.get(name)) for name in _OF_THE_STUDY]
        options = [word for name, value in given if value for word in (f"--{name}", str(value))]
        return f"modelops-ray {words} {shlex.join([str(study), *options, *more])}"


@dataclass(frozen=True, slots=True)
class OfOne:
    """All that is known of one simulation: its row, None where it has none, and its attempts without a result."""

    row: Mapping[str, Any] | None
    attempts: tuple[Mapping[str, Any], ...]


def diagnose(reader: RunReader, run_dir: str) -> Diagnosis:
    """Read a run; ResultsError where its directory is damaged."""
    run = reader.run
    simulations = reader.simulations()
    failures, groups = groups_of(simulations, run.model_label)
    return Diagnosis(run_dir, run.model_label, run.config, reader.status(), simulations, failures, tuple(groups))


def one_of(reader: RunReader, task_id: str, run_dir: str) -> OfOne:
    """Read what is known of one simulation; UsageError where nothing is. The beginning of a task id is enough."""
    simulations, attempts = reader.simulations(), reader.attempts()
    known = set(_beginning(simulations, task_id)["task_id"].to_pylist())
    known.update(_beginning(attempts, task_id)["task_id"].to_pylist())
    if len(known) != 1:
        found = "several simulations have" if known else "no simulation that has run has"
        raise UsageError(f"{run_dir}: {found} the task_id {task_id}; `modelops-ray results {run_dir} --to FILE.csv`")
    rows = _beginning(simulations, task_id).to_pylist()
    return OfOne(rows[0] if rows else None, tuple(_beginning(attempts, task_id).to_pylist()))


def _beginning(table: pa.Table, task_id: str) -> pa.Table:
    return table.filter(pc.starts_with(table["task_id"], task_id))


def printed_by(reader: RunReader, task_id: str) -> str:
    """The end of what a failed simulation printed in its last attempt, "" where nothing is kept."""
    attempts = reader.attempts()
    rows = attempts.filter(pc.equal(attempts["task_id"], task_id)).select(["attempt", "printed"]).to_pylist()
    printed = [row["printed"] for row in sorted(rows, key=lambda row: row["attempt"]) if row["printed"]]
    return printed[-1] if printed else ""


def parameters_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in a row of `simulations`."""
    is_parameter = {name: name.startswith(PARAM_PREFIX) and name != "param_id" for name in row}
    return {name.removeprefix(PARAM_PREFIX): row[name] for name, it_is in is_parameter.items() if it_is}
