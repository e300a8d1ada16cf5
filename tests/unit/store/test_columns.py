# ruff: noqa: DTZ001 (times without a zone are what some of this is about)
"""Columns widen where nothing a model means is lost, and refuse the rest by name."""

import datetime as dt
from decimal import Decimal as D  # noqa: N817
from functools import partial

import pyarrow as pa
import pytest

from modelops_ray.sandbox.column_types import numbered
from modelops_ray.store.columns import MisfitError, all_hold, conformed, widened
from modelops_ray.study.schema import plain_schema

IDENTITY = pa.schema([("task_id", pa.string())])


def table(**columns):
    """The rows of one simulation."""
    lengths = {len(values) for values in columns.values()}
    return pa.table({"task_id": ["t"] * max(lengths)} | columns)


@pytest.mark.parametrize(
    ("values", "more", "kind"),
    [
        ([[]], [[1.5]], pa.list_(pa.float64())),
        ([[1]], [[1.5]], pa.list_(pa.float64())),
        (
            [{"a": None, "b": [1]}],
            [{"a": "x", "b": [2.5]}],
            pa.struct([("a", pa.string()), ("b", pa.list_(pa.float64()))]),
        ),
    ],
)
def test_what_is_in_lists_and_structs_widens_too(values, more, kind):
    """An empty list says nothing of its values, as a missing value says nothing."""
    first, second = table(x=values), table(x=more)
    schema = widened(widened(None, first, IDENTITY), second, IDENTITY)

    assert kind == schema.field("x").type
    assert [values, more] == [conformed(each, schema)["x"].to_pylist() for each in (first, second)]
    assert widened(schema, first, IDENTITY) is schema


@pytest.mark.parametrize(("values", "more"), [([1], [[1]]), ([{"a": 1}], [{"b": 1}]), ([[1]], [["x"]])])
def test_other_lists_and_structs_do_not_fit(values, more):
    """Neither with plain values nor with other fields."""
    schema = widened(None, table(x=values), IDENTITY)

    with pytest.raises(MisfitError, match="column 'x'"):
        widened(schema, table(x=more), IDENTITY)


def test_the_first_table_fixes_names_and_order():
    """Later ones may order their columns as they like."""
    known = widened(None, table(b=[1], a=["x"]), IDENTITY)

    assert known.names == ["task_id", "b", "a"]
    assert widened(known, table(a=["y"], b=[2]), IDENTITY) is known


def test_a_table_without_rows_fixes_no_types():
    """An empty list says nothing about what it would hold."""
    known = widened(None, table(a=pa.array([], pa.float64())), IDENTITY)
    later = widened(known, table(a=["text"]), IDENTITY)

    assert [pa.string(), pa.null()] == [known.field("task_id").type, known.field("a").type]
    assert pa.string() == later.field("a").type
    assert widened(later, table(a=pa.array([], pa.float64())), IDENTITY) is later


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"b": [1]}, "found columns b, expected a"),
        ({"a": [1], "b": [1]}, "found columns a, b, expected a"),
        ({"a": ["x"]}, "column 'a': found string, expected int64"),
        ({"a": [True]}, "column 'a': found bool, expected int64"),
    ],
)
def test_a_misfit_names_column_found_and_expected(found, message):
    """A modeller can act on the message."""
    known = widened(None, table(a=[1]), IDENTITY)

    with pytest.raises(MisfitError, match=message):
        widened(known, table(**found), IDENTITY)


def test_two_columns_of_one_name_do_not_fit():
    """No reader could tell them apart."""
    twice = pa.Table.from_arrays([pa.array(["t"]), pa.array([1]), pa.array([2])], names=["task_id", "a", "a"])

    with pytest.raises(MisfitError, match="two columns 'a'"):
        widened(None, twice, IDENTITY)


def test_a_type_that_parquet_cannot_hold_does_not_fit():
    """It is refused before a commit depends on it."""
    months = pa.array([None], pa.month_day_nano_interval())

    with pytest.raises(MisfitError, match="column 'a': found month_day_nano_interval, expected a type that Parquet"):
        widened(None, table(a=months), IDENTITY)


def test_conforming_reorders_and_casts():
    """Whole numbers become the floats of the same value, and texts stay in their dictionary until they are written."""
    schema = pa.schema([("task_id", pa.string()), ("a", pa.float64()), ("b", pa.string())])
    categories = pa.array(["x", "y"]).dictionary_encode()

    found = conformed(table(b=categories, a=[1, 2**53 + 1]), schema)

    assert found.to_pydict() == {"task_id": ["t", "t"], "a": [1.0, 2.0**53], "b": ["x", "y"]}
    assert schema == plain_schema(found.schema)


def column(table, schema):
    """What a table has in its column `x` in these columns."""
    return conformed(table, schema)["x"].to_pylist()


NS = pa.timestamp("ns")
FITTING = [
    ([D("1.25")], [D("1000.5")], pa.decimal128(6, 2)),
    (pa.array([None], pa.float64()), ["a"], pa.string()),
    (pa.array([None], pa.date32()), pa.array([1], NS), NS),
    (pa.array([None, None], pa.bool_()), [1], pa.int64()),
    ([1, None, 2**63 - 1], [D("1.25")], pa.decimal128(22, 2)),
    (pa.array([2**64 - 1], pa.uint64()), [D("1.25")], pa.decimal128(22, 2)),
    (pa.array([[-128]], pa.list_(pa.int8())), [[D("1.25")]], pa.list_(pa.decimal128(5, 2))),
    ([dt.datetime(2020, 1, 1)], pa.array([1], NS), NS),
    (
        pa.array([1], pa.timestamp("us", "Europe/Berlin")),
        pa.array([1], pa.timestamp("ms", "Asia/Tokyo")),
        pa.timestamp("us", "UTC"),
    ),
    (pa.array([1], pa.duration("s")), pa.array([1], pa.duration("us")), pa.duration("us")),
    (pa.array([1], pa.time32("ms")), pa.array([1], pa.time64("ns")), pa.time64("ns")),
    ([1], pa.array([2**64 - 1], pa.uint64()), pa.uint64()),
    ([-1], pa.array([5], pa.uint64()), pa.int64()),
    ([[1], []], [[2**53, None]], pa.list_(pa.int64())),
    ([2**53], [0.5], pa.float64()),
    ([None], pa.array([["a"]]), pa.list_(pa.string())),
]


@pytest.mark.parametrize(("one", "other", "kind"), FITTING)
def test_values_of_different_types_keep_their_values(one, other, kind):
    """Whichever simulation comes first."""
    tables = [table(x=one), table(x=other)]
    for first, second in (tables, tables[::-1]):
        known = widened(None, first, IDENTITY)
        schema = widened(known, second, IDENTITY, partial(all_hold, [first]))

        assert kind == schema.field("x").type
        assert [each["x"].cast(kind).to_pylist() for each in tables] == [column(each, schema) for each in tables]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([2**53 + 1], [0.5]),
        ([[2**60]], [[0.5]]),
        ([-1], pa.array([2**64 - 1], pa.uint64())),
        ([dt.datetime(9999, 1, 1)], pa.array([1], NS)),
        ([dt.datetime(2020, 1, 1)], [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
        ([D(10**30)], [D("1e-30")]),
        ([D("0.5")], [0.5]),
        ([True], [D("0.5")]),
        ([1.5, None], ["a"]),
        ([1], [D("1e-30")]),
        ([dt.date(2020, 1, 1)], [dt.datetime(2020, 1, 1)]),
        ([True], [1]),
        (["a"], [b"a"]),
    ],
)
def test_values_that_no_type_holds_do_not_fit(one, other):
    """The second simulation is refused by the name of the column, never rounded, and the first is as it was."""
    tables = [table(x=one), table(x=other)]
    for first, second in (tables, tables[::-1]):
        known = widened(None, first, IDENTITY)
        with pytest.raises(MisfitError, match="column 'x': found"):
            widened(known, second, IDENTITY, partial(all_hold, [first]))


@pytest.mark.parametrize("other", [[["a"]], [{"b": 1}], [D("1.5")], [b"c"]])
def test_what_is_missing_throughout_fits_beside_anything(other):
    """In every type that it came in: NaN of pandas are numbers that are missing."""
    tables = [table(x=pa.array([None], pa.float64())), table(x=other)]
    for first, second in (tables, tables[::-1]):
        schema = widened(widened(None, first, IDENTITY), second, IDENTITY, partial(all_hold, [first]))

        assert [[None], other] == [column(each, schema) for each in tables]


def test_a_table_without_rows_fits_with_columns_of_any_type():
    """A frame that is empty has seldom the columns that it would have."""
    known = widened(None, table(a=[1]), IDENTITY)

    assert known is widened(known, table(b=pa.nulls(0)), IDENTITY)


def labelled(x, index=None):
    """The rows of one simulation, of a frame with labels or without."""
    rows = {"task_id": ["t"] * len(x), "x": x}
    return pa.table(rows | {"index": index}) if index else numbered(pa.table(rows))


@pytest.mark.parametrize("turn", [1, -1])
def test_rows_without_labels_are_numbered_beside_rows_with_labels(turn):
    """A frame from which nothing was dropped has the same columns as one that lost some of its rows."""
    one, other = [labelled([1.5, 2.5]), labelled([3.5], [1])][::turn]
    schema = widened(widened(None, one, IDENTITY), other, IDENTITY, partial(all_hold, [one]))

    tables = [labelled([1.5, 2.5]), labelled([3.5], [1])]
    assert [[0, 1], [1]] == [conformed(each, schema)["index"].to_pylist() for each in tables]


def test_numbers_begin_again_with_each_simulation():
    """Also where a table has several."""
    table = numbered(pa.table({"task_id": ["a", "a", "b", "c", "c"], "x": [1, 2, 3, 4, 5]}))
    schema = pa.schema([*IDENTITY, ("x", pa.int64()), ("index", pa.int64())])

    assert [0, 1, 0, 0, 1] == conformed(table, schema)["index"].to_pylist()


def test_only_rows_of_frames_are_numbered():
    """A column that a model forgot is not made up."""
    known = widened(None, labelled([3.5], [1]), IDENTITY)
    plain = table(x=[1.5])

    with pytest.raises(MisfitError, match="found columns x, expected x, index"):
        widened(known, plain, IDENTITY, partial(all_hold, [labelled([3.5], [1])]))
    with pytest.raises(MisfitError, match="found columns x, index, expected x"):
        widened(widened(None, plain, IDENTITY), labelled([3.5], [1]), IDENTITY, partial(all_hold, [plain]))
