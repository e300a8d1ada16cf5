"""A study whose every answer is known beforehand, and what is wrong with a run directory of it.

Owns the model and the comparison. The answers are worked out here from the study alone, not by another run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from modelops_ray.store.reader import RunReader
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

MODEL = '''
"""Holds memory for a while; its rows are a function of parameter set and seed alone."""

import time

import numpy as np


def simulate(params, seed):
    held = np.ones(params["touch_mb"] * 125_000)
    time.sleep(params["sleep_ms"] / 1000)
    if params["raises"]:
        raise ValueError("this set has no answer")
    x = params["set"] + (seed % 9973) * np.arange(params["n_rows"])
    blob = bytes([seed % 251]) * params["blob_bytes"]
    return {"result": {"x": x}, "held": {"bytes": held.nbytes, "blob": blob}}
'''


def parameter_sets(n: int, *, has_failures: bool, blob_bytes: int = 0) -> list[dict[str, int | bool]]:
    """Parameter sets of 50 to 450 ms and 5 to 35 MB each."""
    return [
        {
            "set": i,
            "sleep_ms": 50 + 50 * (i * 7 % 9),
            "touch_mb": 5 + i * 11 % 31,
            "n_rows": 3 + i % 2,
            "blob_bytes": blob_bytes,
            "raises": has_failures and i % 10 == 3,
        }
        for i in range(n)
    ]


def wrong_with(out: Path, study: Path) -> Iterator[str]:
    """Tell what differs from the answers: once as the program reads the directory, once as pyarrow does."""
    simulations = list(Simulations(Study.load(study)))
    reader = RunReader(out)
    rows = reader.simulations()
    expected = [(one.params["set"], one.replicate, one.seed) for one in simulations]
    found = list(zip(*(rows[name].to_pylist() for name in ("param_set", "replicate", "seed")), strict=True))
    if expected != found:
        lost, extra = set(expected) - set(found), len(found) - len(set(found))
        yield f"of {len(expected)} simulations {len(lost)} are lost, {extra} are there twice"
        return
    statuses = ["failed" if one.params["raises"] else "completed" for one in simulations]
    if statuses != rows["status"].to_pylist():
        failed = rows.filter(pa.compute.equal(rows["status"], "failed"))
        yield f"other simulations failed than the model's: {failed.select(['param_set', 'cause']).to_pylist()}"
        return
    good = [one for one in simulations if not one.params["raises"]]
    n_rows = [int(one.params["n_rows"]) for one in good]
    answers = [int(one.params["set"]) + one.seed % 9973 * np.arange(n) for one, n in zip(good, n_rows, strict=True)]
    output = reader.output("result")
    seeds = np.repeat(np.array([one.seed for one in good], dtype=np.uint64), n_rows)
    if not (np.array_equal(np.concatenate(answers), output["x"]) and np.array_equal(seeds, output["seed"])):
        yield "the rows of the output are not the model's in study order"
    blobs, held = (bytes([one.seed % 251]) * int(one.params["blob_bytes"]) for one in good), reader.output("held")
    if len(good) != held.num_rows or any(one != other.as_py() for one, other in zip(blobs, held["blob"], strict=True)):
        yield "the second output is not the model's in study order"
    for name, table in (("simulations", rows), ("outputs/result", output)):
        by_pyarrow = ds.dataset(out / name).to_table().select(table.column_names)
        order = [(each, "ascending") for each in ("task_id", *(["x"] if "x" in table.column_names else []))]
        if not by_pyarrow.sort_by(order).equals(table.sort_by(order)):
            yield f"pyarrow reads other rows in {name} than the program"
