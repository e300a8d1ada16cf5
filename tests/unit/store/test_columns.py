"""Columns widen where nothing a model means is lost, and refuse the rest by name."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.store.columns import MisfitError, conformed, joined, plain, widened
from modelops_ray.study.schema import plain_schema

IDENTITY = pa.schema([("task_id", pa.string())])
NUMBERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
           pa.float16(), pa.float32(), pa.float64()]  # fmt: skip
OTHERS = [pa.null(), pa.bool_(), pa.string(), pa.date32(), pa.timestamp("us"), pa.list_(pa.int64())]
FLAT = st.sampled_from(NUMBERS + OTHERS)
KINDS = st.one_of(
    FLAT, FLAT.map(pa.list_), st.tuples(FLAT, FLAT).map(lambda two: pa.struct(list(zip("ab", two, strict=True))))
)


def table(**columns):
    """The rows of one simulation."""
    lengths = {len(values) for values in columns.values()}
    return pa.table({"task_id": ["t"] * max(lengths)} | columns)


@given(KINDS, KINDS)
def test_which_type_comes_first_does_not_matter(left, right):
    """Joining is symmetric."""
    assert joined(left, right) == joined(right, left)


@given(KINDS, KINDS, KINDS)
def test_in_which_order_types_are_joined_does_not_matter(a, b, c):
    """The type of a finished column does not depend on the order of commits."""
    ab, bc = joined(a, b), joined(b, c)

    left = joined(ab, c) if ab is not None else None
    right = joined(a, bc) if bc is not None else None

    assert left == right or None in (ab, bc)


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_all_numbers_fit_together(left, right):
    """Whole numbers widen to floats."""
    assert joined(left, right) is not None


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations([*OTHERS[1:], pa.int64()], 2)))
def test_different_kinds_of_values_do_not_fit(left, right):
    """Text is no number, and neither is true or false."""
    assert joined(left, right) is None


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


def test_ways_to_hold_text_are_one_type():
    """Categories of pandas and large strings of polars are text."""
    kinds = [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string()), pa.string()]

    assert {pa.string()} == {plain(kind) for kind in kinds}
    assert {pa.binary()} == {plain(kind) for kind in (pa.large_binary(), pa.binary_view())}


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
