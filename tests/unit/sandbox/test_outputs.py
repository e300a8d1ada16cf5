"""What a model may return, and what it is told when it returns something else."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

from modelops_ray.sandbox.outputs import BadOutputError, outputs_of, row_table

duckdb = pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

DAYS = {"day": [0, 1, 2], "n": [1.5, 2.5, 3.5]}


def tables(returned, wanted=None):
    """Return the outputs, rows of scalars as tables too."""
    outputs = outputs_of(returned, wanted)
    return {name: row_table([value]) if isinstance(value, dict) else value for name, value in outputs.items()}


def refused(returned, wanted=None):
    """Return the sentence a model is refused with."""
    with pytest.raises(BadOutputError) as caught:
        outputs_of(returned, wanted)
    return str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        pa.table,
        pa.RecordBatch.from_pydict,
        lambda data: pa.table(data).to_reader(),
        pd.DataFrame,
        pl.DataFrame,
        lambda data: duckdb.from_arrow(pa.table(data)),
        dict,
        lambda data: {name: np.array(values) for name, values in data.items()},
        lambda data: {name: tuple(values) for name, values in data.items()},
        lambda data: {name: pa.array(values) for name, values in data.items()},
        lambda data: {name: pa.chunked_array([values[:1], values[1:]]) for name, values in data.items()},
        lambda data: {name: pl.Series(values) for name, values in data.items()},
        lambda data: {name: pd.Series(values) for name, values in data.items()},
        lambda data: {"day": range(3), "n": np.array(data["n"])},
    ],
    ids=[
        "pyarrow", "batch", "reader", "pandas", "polars", "duckdb", "lists", "numpy", "tuples", "arrays", "chunked",
        "polars columns", "pandas columns", "range",
    ],
)  # fmt: skip
def test_every_form_of_a_table_is_the_same_table(make):
    """The same rows and types, whether returned bare or as a named output."""
    expected = pa.table(DAYS)

    assert {"result": expected} == tables(make(DAYS))
    assert {"cases": expected} == tables({"cases": make(DAYS)})


def test_a_mapping_of_scalars_is_one_row():
    """Scalars of Python and NumPy make one row."""
    row = {"a": 1, "b": 2.5, "c": "x", "d": True, "e": None, "f": np.float64(3.5), "g": np.int64(4), "h": np.array(5)}

    expected = pa.table({name: [value] for name, value in row.items() if name != "h"} | {"h": [5]})
    assert {"result": expected} == tables(row)
    assert {"summary": expected} == tables({"summary": row})


def test_a_struct_of_arrow_is_a_scalar_although_it_is_a_mapping():
    """Alone and beside others; below a name it is one row."""
    at = pa.scalar({"x": 1})
    assert {"result": pa.table({"at": [{"x": 1}], "n": [3]})} == tables({"at": at, "n": 3})
    assert {"result": pa.table({"at": [{"x": 1}]})} == tables({"at": at})
    assert {"summary": pa.table({"at": [{"x": 1}]})} == tables({"summary": {"at": at}})


def test_seeds_of_64_bits_are_unsigned_integers():
    """What does not fit int64 is uint64, alone and beside small values."""
    assert {"result": pa.table({"x": pa.array([1, 2**64 - 1], pa.uint64())})} == tables({"x": [1, 2**64 - 1]})


def test_several_outputs_may_have_different_forms():
    """A frame, columns and scalars next to each other."""
    expected = {"a": pa.table(DAYS), "b": pa.table(DAYS), "c": pa.table({"x": [1]})}

    assert expected == tables({"a": pl.DataFrame(DAYS), "b": DAYS, "c": {"x": 1}})


def test_no_outputs_is_a_result():
    """An empty mapping is valid."""
    assert outputs_of({}) == {}


def test_only_wanted_outputs_are_kept_and_only_they_must_be_right():
    """The study's filter goes first."""
    assert {"a": pa.table(DAYS)} == tables({"a": DAYS, "b": {"x": object()}}, ["a"])


@pytest.mark.parametrize("returned", [{"a": []}, {"a": [], "b": []}, {"a": iter([]), "b": []}])
def test_lists_without_rows_are_outputs_where_the_study_names_them(returned):
    """A simulation in which nothing happened is one without rows, and lacks no output."""
    assert {} == tables(returned, ["a"])


def test_a_wanted_output_that_is_missing_is_named():
    """The sentence says what was asked and what came."""
    says = refused({"a": DAYS, "b": DAYS}, ["c"])

    assert says == "the study asks for output 'c' and the model returned 'a', 'b'"


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "output 'result' is None; a model returns a mapping"),
        ((1, 2), "output 'result' is a tuple; a model returns"),
        ([DAYS, 2], "output 'result' is a list; a model returns"),
        ([[1, 2]], "output 'result' is a list; a model returns"),
        ({1, 2}, "output 'result' is a set, which has no order"),
        (object(), "output 'result' is a object; a model returns"),
        (pl.LazyFrame(DAYS), "output 'result' is a polars.lazyframe.frame.LazyFrame; return .collect()"),
        ({"a": DAYS, "b": [1, 2]}, "output 'b' is a list while others are tables"),
        ({"a": DAYS, "b": 1}, "output 'b' is a int while others are tables"),
        ({"a": {}, "b": {"x": 1}}, "output 'a' is a mapping without columns"),
        ({"a/b": DAYS}, "output name 'a/b' must be letters"),
        ({".a": DAYS}, "output name '.a' must be letters"),
        ({"": DAYS}, "output name '' must be letters"),
        ({1: DAYS}, "output name 1 must be letters"),
        ({1: [1, 2]}, "output 'result' has a column name 1; column names must be text"),
        ([{1: 2}], "output 'result' is a mapping with the key 1; keys must be text"),
        ({"x": [1, 2], "y": 3}, "output 'result' mixes scalars and sequences ('y' is a int)"),
        ({"x": [1, 2], "y": [3]}, "output 'result' has columns of different lengths: 'x' 2, 'y' 1"),
        ({"x": np.ones((2, 2)), "x_1": [1, 2]}, "output 'result' has more than one column 'x_1'"),
        ({"x": np.ones((2, 0))}, "output 'result', column 'x': found 0 columns in an array of two dimensions"),
        (
            {"x": [1, "a"]},
            "output 'result', column 'x': found values of no common type, an int in row 0 and text in row 1",
        ),
        ({"x": [{1}, object()]}, "output 'result', column 'x', row 0: found a set"),
        ({"x": object()}, "output 'result', column 'x', row 0: found an object"),
        ({"x": 2**64}, "output 'result', column 'x', row 0: found integers from 18446744073709551616"),
        (pa.table([[1], [2]], names=["x", "x"]), "output 'result' has more than one column 'x'"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(returned, says):
    """The sentence says what was returned, and where."""
    assert refused(returned).startswith(says)


def test_a_query_that_fails_when_it_is_read_is_a_bad_output():
    """A lazy relation runs here, and its error is shown."""
    relation = duckdb.sql("select error('the query says no') as x")

    assert "the query says no" in refused({"a": relation})


def test_running_out_of_memory_while_reading_is_no_bad_output():
    """MemoryError passes, to be counted as what it is."""

    class Huge(dict):
        def values(self):
            raise MemoryError

    with pytest.raises(MemoryError):
        outputs_of(Huge(x=1))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pa.table({"x": pa.array(["a", "b", "a"]).dictionary_encode()}), pa.table({"x": ["a", "b", "a"]})),
        (pa.table({"x": pa.array(["a"], pa.large_string())}), pa.table({"x": ["a"]})),
        (pa.table({"x": pa.array(["a"], pa.string_view())}), pa.table({"x": ["a"]})),
        (pa.table({"x": pa.array([b"a"], pa.large_binary())}), pa.table({"x": [b"a"]})),
        (pa.table({"x": pa.array([["a"]], pa.large_list(pa.large_string()))}), pa.table({"x": [["a"]]})),
        (pa.table({"x": pa.array([{"y": "a"}], pa.struct({"y": pa.large_string()}))}), pa.table({"x": [{"y": "a"}]})),
        (pd.DataFrame({"x": pd.Categorical(["a", "b"])}), pa.table({"x": ["a", "b"]})),
        (pl.DataFrame({"x": pl.Series(["a", "b"], dtype=pl.Categorical)}), pa.table({"x": ["a", "b"]})),
        ({"x": pl.Series(["a", "b"], dtype=pl.Categorical)}, pa.table({"x": ["a", "b"]})),
        ({"x": pa.array(["a", "b"]).dictionary_encode()}, pa.table({"x": ["a", "b"]})),
        (pa.table({"x": pa.array([1], pa.int8())}), pa.table({"x": pa.array([1], pa.int8())})),
        ({"x": np.ones(2, np.float32)}, pa.table({"x": pa.array([1, 1], pa.float32())})),
    ],
)
def test_encodings_become_plain_and_types_stay(table, expected):
    """Dictionaries, categories, large and view forms are decoded; widths of numbers are the model's."""
    assert {"result": expected} == tables(table)


def test_metadata_does_not_make_tables_differ():
    """What pandas notes about itself is dropped."""
    assert tables(pd.DataFrame(DAYS))["result"].schema.metadata is None


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (None, ["x"]),
        (pd.RangeIndex(2, 6, 2, name="day"), ["x", "day"]),
        (pd.Index([2, 4], name="day"), ["x", "day"]),
        (pd.Index(["a", "b"]), ["x", "index"]),
        (pd.MultiIndex.from_tuples([(2, 1), (4, 2)], names=["day", None]), ["x", "day", "level_1"]),
    ],
)
def test_a_pandas_index_is_kept_unless_it_is_a_plain_range(index, expected):
    """A label is data."""
    table = tables(pd.DataFrame({"x": [1.0, 2.0]}, index=index))["result"]

    assert expected == table.column_names
    assert "day" not in expected or table.column("day").to_pylist() == [2, 4]


def test_nan_keeps_its_bits():
    """A NaN with a payload comes out as it went in."""
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_BEEF))[0]
    values = np.array([nan, 1.0])

    column = tables({"x": values})["result"].column("x").to_numpy()

    assert values.tobytes() == column.tobytes()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda buffer: {"x": buffer},
        lambda buffer: pa.table({"x": buffer}),
        lambda buffer: {"x": pa.array(buffer)},
        lambda buffer: pd.DataFrame({"x": buffer}, copy=False),
        lambda buffer: {"x": pd.Series(buffer, copy=False)},
        lambda buffer: {"x": pl.Series(buffer)},
        lambda buffer: {"x": np.ma.masked_array(buffer)},
        lambda buffer: {"x": memoryview(buffer)},
    ],
)
def test_a_model_may_use_its_buffers_again(wrap):
    """What was returned is a copy, in each wrapper that it may have been in."""
    buffer = np.arange(5.0)
    table = tables(wrap(buffer))["result"]

    buffer[:] = -1

    assert table.column("x").to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_slice_does_not_keep_the_whole():
    """Ten rows of a million are ten rows."""
    table = tables(pa.table({"x": np.arange(10**6)}).slice(5, 10))["result"]

    assert table.get_total_buffer_size() < 1000
