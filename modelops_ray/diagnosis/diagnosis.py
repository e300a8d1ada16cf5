"""What is known of why a run ended as it did, gathered from its directory alone.

Owns which tables are read for it. The searches are in `groups` and `regions`; the sentences are `report.why`'s.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.diagnosis.answer import Together, gone_together
from modelops_ray.diagnosis.groups import Group, groups_of
from modelops_ray.diagnosis.pace import Pace, pace_of
from modelops_ray.errors import UsageError
from modelops_ray.store.reader import RunReader
from modelops_ray.store.status import Status
from modelops_ray.study.schema import PARAM_PREFIX, PRINTED

LOOK_BYTES = 32 * 2**20
"""An output larger than this on disk is not read to have a look at it."""
_OF_THE_STUDY = ("model", "params", "replicates")
"""The options that say which study it is."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A run, its failures in groups, and what each simulation took.

    `failures` are those rows of `simulations` that failed; `pace` is None where the last session did not say.
    """

    run_dir: str
    model_label: str
    config: Mapping[str, Any]
    status: Status
    simulations: pa.Table
    failures: pa.Table
    groups: tuple[Group, ...]
    pace: Pace | None

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
    status = reader.status()
    pace = pace_of(status.counters, run.config)
    return Diagnosis(run_dir, run.model_label, run.config, status, simulations, failures, tuple(groups), pace)


def bias_of(reader: RunReader, found: Diagnosis) -> Together | None:
    """Whether what simulations failed for goes together with an outcome; the first small output that has one is read.

    ResultsError where the directory is damaged.
    """
    causes = {group.cause for group in found.groups}
    for name, size in reader.output_sizes().items():
        if size.rows == found.status.completed and size.size_bytes <= LOOK_BYTES and name != PRINTED:
            together = gone_together(causes, found.simulations, name, reader.output(name))
            if together is not None:
                return together
    return None


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


def attempts_of(reader: RunReader, task_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The attempts without a result of some simulations, in their order."""
    table = reader.attempts()
    found: dict[str, list[dict[str, Any]]] = {task_id: [] for task_id in task_ids}
    for row in table.filter(pc.is_in(table["task_id"], pa.array(task_ids, pa.string()))).to_pylist():
        found[row["task_id"]].append(row)
    return found


def parameters_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in a row of `simulations`."""
    is_parameter = {name: name.startswith(PARAM_PREFIX) and name != "param_id" for name in row}
    return {name.removeprefix(PARAM_PREFIX): row[name] for name, it_is in is_parameter.items() if it_is}
