"""Which outputs a simulation may have: names that can be folders and columns, types that can be kept."""

from __future__ import annotations

import pyarrow as pa
import pytest

from modelops_ray.sandbox import usable
from modelops_ray.sandbox.outputs import BadOutputError
from modelops_ray.sandbox.usable import require_usable, usable_outputs

ALLOWED_COLUMN = "a column name is 1 to 255 bytes of UTF-8 text without control characters"


@pytest.mark.parametrize("name", ["x", "x[/y]", "beta/gamma", "..", "Größe (m²)", "β", "a b", "x" * 255, "=1+1", "😀"])
def test_what_parquet_can_name_is_a_column(name):
    """A slash too: columns are no files."""
    assert [name] == list(usable_outputs({"r": {name: 1.0}})["r"])
    assert [name] == usable_outputs({"r": {name: [1, 2]}})["r"].column_names


@pytest.mark.parametrize(
    "name", ["", "\ud800", "caf\udce9.csv", "a\x00b", "a\nb", "\x1b[31m", "\x7f", "\x85", "x" * 256, "ü" * 128]
)
@pytest.mark.parametrize("values", [1.0, [1.0, 2.0], "text", ["a"]])
def test_other_names_of_columns_are_refused_and_the_sentence_says_what_is_allowed(name, values):
    """The same for one row and for a table; the sentence can be kept and printed."""
    with pytest.raises(BadOutputError) as refused:
        usable_outputs({"r": {name: values}})
    assert ALLOWED_COLUMN in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "name", ["r" * 300, "r" * 256, "../r", "a/b", "..", ".hidden", "-r", "", "r\n", "\ud800", "a\x00"]
)
def test_names_that_cannot_be_folders_are_no_outputs(name):
    """Of one row and of a table."""
    for content in ({"x": 1}, {"x": [1]}):
        with pytest.raises(BadOutputError, match=r"output name .* must be letters, digits"):
            usable_outputs({name: content})


def test_fields_of_structs_have_names_like_columns():
    """They are columns in Parquet."""
    for name in ("", "a\nb", "x" * 300):
        with pytest.raises(BadOutputError, match="column name"):
            require_usable({"r": pa.table({"x": pa.array([{name: 1}])})})


def test_columns_nested_too_deeply_are_refused():
    """Readers follow them by recursion."""
    kind = pa.int64()
    for _ in range(60):
        kind = pa.list_(kind)
    with pytest.raises(BadOutputError, match="nested more than 32 deep"):
        require_usable({"r": pa.table({"x": pa.nulls(1, kind)})})


@pytest.mark.parametrize(
    "kind",
    [
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.dense_union([pa.field("a", pa.int64())]),
        pa.month_day_nano_interval(),
        pa.list_view(pa.int64()),
        pa.list_(pa.struct([("x", pa.list_(pa.int64(), 0))])),
        pa.struct([]),
        pa.binary(0),
        pa.dictionary(pa.int8(), pa.string()),
        pa.large_string(),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
        pa.decimal256(60, 0),
    ],
)
def test_types_that_are_not_kept_are_refused_by_name(kind):
    """All the way down, and before they meet those of another simulation."""
    with pytest.raises(BadOutputError, match=r"output 'r', column 'x': found .*"):
        require_usable({"r": pa.Table.from_batches([], pa.schema([("x", kind)]))})


def test_there_is_a_most_to_what_one_simulation_returns(monkeypatch):
    """Outputs by number, tables by size."""
    with pytest.raises(BadOutputError, match="1,001 outputs; a simulation may have 1,000"):
        usable_outputs({f"r{at}": {"x": 1} for at in range(1001)})
    monkeypatch.setattr(usable, "MAX_TABLES_BYTES", 10_000)
    with pytest.raises(BadOutputError, match="a simulation may return 1 GiB"):
        usable_outputs({"a": {"x": list(range(1000))}, "b": {"x": list(range(1000))}})


def test_the_size_of_a_text_in_a_row_is_bounded_as_that_of_a_table_is(monkeypatch):
    """One text may be larger than all that one message carries."""
    monkeypatch.setattr(usable, "MAX_TABLES_BYTES", 2**20)
    with pytest.raises(BadOutputError, match=r"GiB; a simulation may return"):
        usable_outputs({"r": {"x": "a" * 2**21}})


class Name(str):
    """A name of the model's own type."""

    __slots__ = ()


@pytest.mark.parametrize("wrap", [lambda row: row, lambda row: {"r": row}], ids=["bare", "named"])
@pytest.mark.parametrize(
    "later", [{"x": 2**63, "y": 1.0}, {"x": 1, Name("y"): 2.0}, {"x": True, "y": 2.0}, {"x": 1, "y": [1.0]}, {"x": 1}]
)
def test_what_was_learned_of_the_row_before_changes_nothing(wrap, later):
    """A row of the same names and types is not looked at again: another one is."""

    def found(row):
        (content,) = usable_outputs(wrap(row)).values()
        if isinstance(content, pa.Table):
            return content.to_pydict()
        return [(type(name), name, type(value), value) for name, value in content.items()]

    def outcome():
        try:
            return found(later)
        except BadOutputError as error:
            return str(error)

    usable._number_rows.clear()
    first = outcome()
    found({"x": 1, "y": 1.0})
    assert first == outcome()
    assert [(str, "x", int, 3), (str, "y", float, 4.0)] == found({"x": 3, "y": 4.0})
