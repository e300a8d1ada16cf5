"""The same forms of values at every level of isolation: equal tables, or the same refusal."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support.models import chunk_of, context_of_file, write
from support.short_folder import short_folder
from support.value_forms import FORMS, model_of

from modelops_ray.core.report import Cause
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.study.chunk import Chunk
from modelops_ray.study.schema import identity_fields

for library in ("pandas", "polars", "xarray"):
    pytest.importorskip(library)
MIB = 2**20
NAMES = list(FORMS)
HALF, FEW = NAMES[::2], NAMES[::25]


@pytest.fixture(scope="module", autouse=True)
def short_temporary_folder(tmp_path_factory):
    """Servers have one for all tests, and end soon."""
    tmp_path_factory.getbasetemp()
    with short_folder():
        yield


def returned(tmp_path, names, isolation):
    """Return by form what came of it: the model's own columns by output, or the message of its failure."""
    libraries = "pandas, xarray" if isolation in ("fork", "reuse") else "numpy"
    path = write(tmp_path / isolation / "model.py", model_of([FORMS[name].source for name in names], libraries))
    context = context_of_file(path, isolation=isolation)
    simulations = chunk_of([{"beta": 0.5, "n": n} for n in range(len(names))]).simulations
    found: dict[str, object] = {}
    # A chunk ends early where it takes long.
    while left := [each for each in simulations if names[each.position - 10] not in found]:
        chunk = Chunk(1, tuple(left), (1,) * len(left), 500 * MIB, 400 * MIB)
        report, payload = run_chunk(context, chunk)
        assert [] == [failure for failure in report.failures if failure.cause is not Cause.BAD_OUTPUT]
        found |= {names[failure.position - 10]: failure.message for failure in report.failures}
        found |= {names[done.position - 10]: {} for done in report.completed}
        for name, outputs in payload.outputs.items():
            for position, rows in (each for output in outputs for each in own_rows(output)):
                found[names[position - 10]][name] = rows
    return found


def own_rows(output):
    """Return the rows of each simulation in a table, without our columns."""
    ours = identity_fields({"beta": pa.float64(), "n": pa.int64()}).names
    table, at = output.table.drop_columns(ours), 0
    for position, n_rows in zip(output.positions, output.row_counts, strict=True):
        yield position, table.slice(at, n_rows)
        at += n_rows


def assert_as_meant(names, found):
    """Every form became the table that is meant, with null for the type of what is missing, or was refused."""
    assert set(names) == set(found)
    for name in names:
        expected = FORMS[name].expected
        if isinstance(expected, str):
            assert expected in found[name], name
        else:
            assert {each: table.to_pylist() for each, table in expected.items()} == {
                each: table.to_pylist() for each, table in found[name].items()
            }, name


@pytest.mark.parametrize(("isolation", "names"), [("fork", HALF), ("reuse", HALF), ("fresh", FEW)])
def test_children_keep_and_refuse_what_this_process_does(tmp_path, isolation, names):
    """Value for value, and word for word; of new interpreters a few, because each imports its libraries anew."""
    inside, outside = (returned(tmp_path, names, level) for level in ("none", isolation))

    assert_as_meant(names, inside)
    assert inside == outside


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["fork", "reuse", "fresh"])
def test_children_keep_and_refuse_all_forms(tmp_path, isolation):
    """Every form, at every level."""
    inside, outside = (returned(tmp_path, NAMES, level) for level in ("none", isolation))

    assert_as_meant(NAMES, inside)
    assert inside == outside
