"""Payloads of chunks become the tables of one commit."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.runner.collect import Collector
from modelops_ray.store import batch, columns
from modelops_ray.store.batch import TableSchemas, assemble
from modelops_ray.study.chunk import Payload, Simulation
from modelops_ray.study.rows import RunIdentity, completed_rows, identity_table
from modelops_ray.study.schema import identity_fields, simulations_schema

RUN = RunIdentity("sha256:" + "ab" * 32, "sir.py:simulate/baseline", "baseline", {})
SCHEMAS = TableSchemas(simulations_schema({}), identity_fields({}))

VALUES = {"number": 1.5, "text": "a"}
KINDS = {pa.float64(): "number", pa.string(): "text"}
simulated = st.dictionaries(st.sampled_from(["cases", "deaths"]), st.sampled_from(list(VALUES)))


def payload(done: Sequence[tuple[int, dict[str, str]]]) -> Payload:
    """What a chunk hands over of (position, what kind of value each output has)."""
    collector = Collector(RUN)
    for index, (position, kinds) in enumerate(done):
        collector.add(index, position, {name: {"value": VALUES[kind]} for name, kind in kinds.items()})
    positions = tuple(position for position, _ in done)
    identities = identity_table(RUN, [Simulation(at, 0, {}, "p", at, at) for at in positions])
    outcomes: dict[str, list[Any]] = {
        name: [value] * len(done)
        for name, value in {"attempts": 1, "seconds": 0.1, "peak_bytes": 1, "request_bytes": 2, "node": "n"}.items()
    }
    return Payload(positions, completed_rows(RUN, identities, outcomes), collector.tables(positions, identities))


def committed(**values):
    """What is committed: of each of these outputs one row with this value."""
    tables = {name: [pa.table({"value": [value]})] for name, value in values.items()}
    return lambda name: tables.get(name, [])


@given(kinds=st.lists(simulated, min_size=1, max_size=12), data=st.data())
def test_those_that_do_not_fit_are_left_out_however_simulations_are_spread_over_tables(kinds, data):
    """What decides is the column, which the first simulation in study order fixes, not which chunk had whom."""
    order = data.draw(st.permutations(list(enumerate(kinds))))
    cut = data.draw(st.integers(0, len(order)))
    known = {"cases": pa.schema([*SCHEMAS.identity, ("value", pa.string())])}

    made = assemble([payload(order[:cut]), payload(order[cut:])], known, SCHEMAS, committed(cases="a"))

    fixed, misfits = {"cases": "text"}, set()
    for at, outputs in enumerate(kinds):
        if any(fixed.get(name, kind) != kind for name, kind in outputs.items()):
            misfits.add(at)
        else:
            fixed |= outputs
    assert fixed == {name: KINDS[schema.field("value").type] for name, schema in made.schemas.items()}
    assert {failure.position for failure in made.rejected} == misfits
    assert made.positions.tolist() == [at for at in range(len(kinds)) if at not in misfits]
    for name, table in made.outputs.items():
        assert table.column("seed").to_pylist() == [at for at in made.positions.tolist() if name in kinds[at]]


def test_a_chunk_in_which_nothing_completed_adds_nothing():
    """All of its simulations failed, say."""
    made = assemble([payload([])], {}, SCHEMAS)
    assert (made.simulations.num_rows, dict(made.outputs), made.rejected) == (0, {}, ())


def test_a_value_that_does_not_go_into_the_columns_leaves_out_its_simulation_alone(monkeypatch):
    """Also where its type does, and where its rows are in one table with those of others."""
    cast = columns.conformed

    def refusing(table, schema):
        if "value" in schema.names and 3.0 in table.column("value").to_pylist():
            raise pa.ArrowInvalid("3 does\nnot fit")
        return cast(table, schema)

    monkeypatch.setattr(batch, "conformed", refusing)
    monkeypatch.setitem(VALUES, "odd", 3.0)
    found = assemble([payload([(0, {"a": "number"}), (1, {"a": "odd"}), (2, {"a": "number"})])], {}, SCHEMAS)
    assert [(1, "output 'a': 3 does not fit")] == [(failure.position, failure.message) for failure in found.rejected]
    assert [0, 2] == found.positions.tolist() == found.outputs["a"].column("seed").to_pylist()


def test_what_is_said_of_a_simulation_that_does_not_fit_is_bounded():
    """The type of a column may be as long as a table."""
    wide = pa.struct([(f"field_{at}", pa.int64()) for at in range(1000)])
    known = {"a": pa.schema([*SCHEMAS.identity, ("value", wide)])}
    rows = committed(a={"field_0": 1})
    [rejected] = assemble([payload([(0, {"a": "number"})])], known, SCHEMAS, rows).rejected

    assert rejected.message.startswith("output 'a': column 'value': found double, expected struct<")
    assert 4096 == len(rejected.message)
