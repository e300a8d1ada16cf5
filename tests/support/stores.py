"""Studies, payloads and sessions for tests of run directories; results are functions of the simulation alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause, FailedAttempts, Failure, Follows
from modelops_ray.sandbox.loading import ModelRef
from modelops_ray.store.found import RunSpec
from modelops_ray.store.opening import Opening, open_directory
from modelops_ray.store.run_json import RunJson, ShardEntry, StudyEntry
from modelops_ray.store.run_store import RunStore
from modelops_ray.store.writer import Surroundings, utc_now
from modelops_ray.study.chunk import OutputTable, Payload, Simulation
from modelops_ray.study.rows import RunIdentity, completed_rows, identity_table
from modelops_ray.study.schema import parameter_types, repeated
from modelops_ray.study.simulations import Simulations, scope_of
from modelops_ray.study.study import Study

BUNDLE = "sha256:" + "ab" * 32
ENTRYPOINT = "sir.py:simulate/baseline"

Columns = Mapping[str, Sequence[Any] | pa.Array]
Model = Callable[[Simulation], Mapping[str, Columns]]


class Clock:
    """A time of day that moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Read it."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


def grid(sets: int = 4, replicates: int = 5, **kwargs: Any) -> Study:
    """A study of one parameter; a larger one of the same replicates contains the smaller."""
    return Study.grid({"beta": [0.1 * (i + 1) for i in range(sets)]}, replicates=replicates, **kwargs)


def incidence(simulation: Simulation) -> Mapping[str, Columns]:
    """Three rows in an order of the model's own."""
    return {"incidence": {"day": [2, 0, 1], "cases": [float(simulation.seed % 97), 0.5, float(simulation.position)]}}


def run_json_of(study: Study, **changes: Any) -> RunJson:
    """What is asked of a run directory; `changes` are values that differ, or its `simulations` if they are known."""
    policy = changes.get("seed_policy", "job-file")
    simulations = changes.pop("simulations", None) or Simulations(study, policy)
    given = {
        "study": StudyEntry(digest=study.digest, simulations=len(simulations), document=study.to_dict()),
        "model_digest": "cd" * 32,
        "model_label": "sir.py:simulate",
        "entrypoint": ENTRYPOINT,
        "bundle_ref": BUNDLE,
        "seed_policy": policy,
        "config": {"cpus": 1.0},
        "versions": {"numpy": "2.0"},
        "created": utc_now(),
    }
    return RunJson(**given | changes)


def open_store(path: Path, study: Study, **changes: Any) -> RunStore:
    """Open a store as the same run would; `changes` are arguments that differ."""
    return opened(path, study, **changes).begin()


def opened(path: Path, study: Study, **changes: Any) -> Opening:
    """Read a run directory, and begin no session yet; `changes` as for `open_store`, or the `part` that it is of it."""
    simulations = changes.pop("simulations", None) or Simulations(study, changes.get("seed_policy", "job-file"))
    how = {name: changes.pop(name) for name in ("take_over", "fresh", "repeat", "around", "whole") if name in changes}
    known = {name: changes.pop(name) for name in ("model", "accepts_changes") if name in changes}
    part = changes.pop("part", None)
    scope = None if part is None else scope_of(simulations, part)
    if part is not None:
        changes["shard"] = ShardEntry(number=part.number, of=part.of, simulations=len(scope))
    if "clock" in changes:
        how["around"] = Surroundings(changes.pop("clock"))
    if changes.pop("retry_failed", False):
        how["repeat"] = Ranges([(0, len(simulations))])
    created = how.get("around", Surroundings()).clock()
    asked = run_json_of(study, created=created, simulations=simulations, **changes)
    known.setdefault("model", ModelRef("pickled", asked.model_label, "sir.simulate", asked.model_digest, "simulate"))
    return open_directory(path, RunSpec(asked, study, simulations, _identity(study), scope=scope, **known), **how)


def payload(
    study: Study,
    positions: Iterable[int],
    model: Model = incidence,
    of: Simulations | None = None,
    tries: Mapping[int, int] | None = None,
) -> Payload:
    """What a chunk of these simulations returns; consecutive simulations with equal columns share a table.

    `tries` says which attempt of each it was; the first by default.
    """
    simulations = (of or Simulations(study)).take(list(positions))
    return Payload(
        tuple(simulation.position for simulation in simulations),
        _rows(study, simulations, tries or {}),
        _outputs(study, simulations, model),
    )


def failure(position: int, cause: Cause = Cause.MODEL_ERROR) -> Failure:
    """A failure as the core hands it over."""
    return Failure(position, cause, "ValueError", f"no luck at {position}", "Traceback ...", 0.25, 1000, 2, 4096, "n1")


def task_ids(study: Study) -> list[str]:
    """The task ids of a study, in study order."""
    identity = _identity(study)
    return [identity.task_id(simulation) for simulation in Simulations(study)]


def attempts(
    positions: Iterable[int], number: int = 1, cause: Cause = Cause.NODE_LOST, follows: Follows = Follows.RETRIED
) -> FailedAttempts:
    """Attempts without a result as a committer hands them over: all ended alike, 100 s after 1970 began."""
    at = tuple(positions)
    failure = Failure(at[0], cause, "NodeDiedError", "its node died", node="10.0.0.7", ended_unix_s=100.0)
    return FailedAttempts(at, (number,) * len(at), failure, follows, 2**20, 2**21, 5.0)


def _identity(study: Study) -> RunIdentity:
    return RunIdentity(BUNDLE, ENTRYPOINT, study.scenario, parameter_types(study.parameter_sets))


def _rows(study: Study, simulations: Sequence[Simulation], tries: Mapping[int, int]) -> pa.Table:
    facts = {"seconds": 0.5, "peak_bytes": 10, "request_bytes": 20, "node": "n0"}
    facts |= {"started_at": 1_000_000, "ended_at": 1_500_000}
    outcomes = {name: [value] * len(simulations) for name, value in facts.items()}
    outcomes["attempts"] = [tries.get(simulation.position, 1) for simulation in simulations]
    run = _identity(study)
    return completed_rows(run, identity_table(run, simulations), outcomes)


def _outputs(study: Study, simulations: Sequence[Simulation], model: Model) -> dict[str, tuple[OutputTable, ...]]:
    groups: dict[str, list[tuple[list[Simulation], list[pa.Table]]]] = {}
    for simulation in simulations:
        for name, columns in model(simulation).items():
            table = pa.table(dict(columns))
            known = groups.setdefault(name, [])
            if known and known[-1][1][-1].schema.equals(table.schema):
                known[-1][0].append(simulation)
                known[-1][1].append(table)
            else:
                known.append(([simulation], [table]))
    return {name: tuple(_output_table(study, *group) for group in known) for name, known in groups.items()}


def _output_table(study: Study, simulations: Sequence[Simulation], tables: Sequence[pa.Table]) -> OutputTable:
    counts = [table.num_rows for table in tables]
    own = pa.concat_tables(tables)
    identity = repeated(identity_table(_identity(study), simulations), range(len(simulations)), counts)
    columns = [*identity.columns, *own.columns]
    table = pa.Table.from_arrays(columns, names=[*identity.column_names, *own.column_names])
    return OutputTable(tuple(each.position for each in simulations), tuple(counts), table)


class DiedError(BaseException):
    """What a process sees of its own SIGKILL: nothing, so no handler of ours may catch it."""


@contextmanager
def dying(after: int) -> Iterator[list[str]]:
    """Let `after` changes to the file system happen, then none; the next one dies, a write half way through.

    Yields:
        The changes that were made or tried.
    """
    tried: list[str] = []
    write = os.write

    def deadly(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            tried.append(name)
            if len(tried) <= after:
                return real(*args, **kwargs)
            if name == "write" and len(tried) == after + 1:
                write(args[0], args[1][: len(args[1]) // 2])
            raise DiedError(name)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir"):
            patch.setattr(os, name, deadly(name, getattr(os, name)))
        yield tried
