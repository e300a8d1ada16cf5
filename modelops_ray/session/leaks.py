"""Whether a model keeps state between its simulations: a few run again, each in a new interpreter, and are compared.

Owns the comparison and the sentence that follows from it. The run that is checked is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from modelops_ray.core.policy import count
from modelops_ray.errors import UsageError
from modelops_ray.sandbox.arrays import plain_array
from modelops_ray.session import execute, ports, request
from modelops_ray.store.reader import RunReader
from modelops_ray.study.sameness import first_place, not_a_function
from modelops_ray.study.sample import sample_positions

SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Difference:
    """One simulation that came out otherwise when it ran alone, and the first place where it did."""

    task_id: str
    where: str


@dataclass(frozen=True, slots=True)
class Check:
    """What running `simulations` of them again showed; not `is_reproducible` where even two new processes differ."""

    model: str
    simulations: int
    differences: tuple[Difference, ...] = ()
    is_reproducible: bool = True

    @property
    def complaint(self) -> str:
        """One line that says what is wrong and what to do; empty if nothing is."""
        if not self.differences:
            return ""
        first = self.differences[0]
        n = count(self.simulations, "simulation")
        found = f"{len(self.differences)} of {n} (first {first.task_id}: {first.where})"
        if not self.is_reproducible:
            return not_a_function(self.model, found)
        return (
            f"model {self.model} keeps state between simulations: {found} came out otherwise in a new process; "
            "run the study with --isolation fresh --fresh, or have the model build everything anew"
        )


def check(question: request.RunRequest, watcher: ports.Watcher, samples: int = SAMPLES) -> Check:
    """Run a sample of what a run completed again, and compare value for value.

    UsageError if the run has completed nothing, any ModelopsRayError if the simulations cannot be run again.
    """
    before = RunReader(question.out)
    # Not every n-th position: in a grid those may all have the same level of a parameter.
    sample = sample_positions(question.simulations, samples, question.study.digest, before.completed())
    if not len(sample):
        raise UsageError(f"{question.out}: nothing completed, so there is nothing to check for leaks")
    question = question.inspected()
    watcher.note(f"checking for leaks: {count(len(sample), 'simulation')} once more, each in a new process")
    with execute.scratch_run(question, sample, watcher, isolation="fresh") as alone:
        differences = tuple(compared(before, alone))
        if not differences:
            return Check(question.model.label, len(sample))
        with execute.scratch_run(question, sample, watcher, isolation="fresh") as again:
            is_reproducible = not any(compared(alone, again))
    return Check(question.model.label, len(sample), differences, is_reproducible)


def compared(before: RunReader, alone: RunReader) -> Iterator[Difference]:
    """Yield the simulations of `alone` that have another result in `before`, in study order."""
    again = alone.simulations().select(["task_id", "status", "error_message"]).to_pylist()
    ids = [row["task_id"] for row in again]
    runs = [(run, set(run.output_names())) for run in (before, alone)]
    names = sorted(set.union(*(known for _, known in runs)))
    nothing = pa.table({"task_id": plain_array([], pa.string())})
    tables = {name: [run.output_of(name, ids) if name in known else nothing for run, known in runs] for name in names}
    for row in again:
        if row["status"] != "completed":
            yield Difference(row["task_id"], f"alone it fails: {row['error_message']}")
            continue
        places = (first_place(name, _rows_of(one, row), _rows_of(other, row)) for name, (one, other) in tables.items())
        if where := next(filter(None, places), ""):
            yield Difference(row["task_id"], where)


def _rows_of(table: pa.Table, row: dict[str, str]) -> pa.Table:
    return table.filter(pa.compute.equal(table["task_id"], row["task_id"]))
