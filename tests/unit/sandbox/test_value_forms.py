"""Every form of value is kept exactly in plain types that all readers read, or refused by name."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.value_forms import FORMS, MODEL

from modelops_ray.sandbox.outputs import BadOutputError, outputs_of, row_table
from modelops_ray.store.parts import write_part
from modelops_ray.store.storage.local import LocalFolder

duckdb = pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pytest.importorskip("xarray")
# What NumPy says of forms that are written as models write them.
pytestmark = pytest.mark.filterwarnings("ignore:The 'generic' unit:DeprecationWarning")
SPACE: dict = {}
exec(MODEL, SPACE)
ACCEPTED = [name for name, form in FORMS.items() if not isinstance(form.expected, str)]
REFUSED = [name for name in FORMS if name not in ACCEPTED]


def tables_of(source):
    """Return the tables that a form becomes."""
    outputs = outputs_of(SPACE["form"](source))
    return {name: row_table([value]) if isinstance(value, dict) else value for name, value in outputs.items()}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_form_becomes_the_table_that_is_meant(name):
    """Values, types, columns and their order."""
    form = FORMS[name]
    tables = tables_of(form.source)

    assert {each: table.schema for each, table in form.expected.items()} == {n: t.schema for n, t in tables.items()}
    assert form.expected == tables


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_cannot_be_kept_is_refused_by_name(name):
    """In one line that names the output, and says what it is."""
    with pytest.raises(BadOutputError) as caught:
        outputs_of(SPACE["form"](FORMS[name].source))

    assert FORMS[name].expected in str(caught.value)
    assert str(caught.value).startswith("output '")
    assert "\n" not in str(caught.value)


def has_span(type_):
    """Whether spans are in it, which Parquet has not, so that DuckDB reads their ticks."""
    return pa.types.is_duration(type_)


READERS = {
    "pyarrow": lambda path: pq.ParquetFile(path).read(),
    "pandas": lambda path: pd.read_parquet(path, dtype_backend="pyarrow"),
    "polars": pl.read_parquet,
    "duckdb": lambda path: duckdb.sql(f"select * from '{path}'").to_arrow_table(),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write what every accepted form becomes, as a part of a run."""
    folder = tmp_path_factory.mktemp("parts")
    tables = [table for name in ACCEPTED for table in FORMS[name].expected.values()]
    parts = {f"outputs/r/part-00000000-{at}.parquet": table for at, table in enumerate(tables)}
    for path, table in parts.items():
        write_part(LocalFolder(folder), path, table)
    return {folder / path: table for path, table in parts.items()}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_kept_is_read_by_others(written, reader):
    """With the same values, in the types that they have for them."""
    for path, table in written.items():
        (read,) = outputs_of({"read": READERS[reader](path)}).values()
        shown = [name for name in table.column_names if reader != "duckdb" or not has_span(table[name].type)]
        assert table.select(shown).to_pylist() == read.select(shown).to_pylist(), path


def test_pandas_reads_them_in_types_of_its_own_too(written):
    """The model need not know of another backend of types."""
    for path, table in written.items():
        assert table.num_rows == len(pd.read_parquet(path))
