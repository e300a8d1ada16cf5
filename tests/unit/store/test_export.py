"""Tables are written for other programs by the ending of the name, whole or not at all."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from modelops_ray.errors import StorageError, UsageError
from modelops_ray.store.export import write_table

TABLE = pa.table({"seed": pa.array([2**64 - 1], pa.uint64()), "cases": [0.5], "name": ['a "b"']})


READERS = {
    ".parquet": pq.read_table,
    ".arrow": lambda path: pa.ipc.open_file(path).read_all(),
    ".csv": lambda path: csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=TABLE.schema)),
}


@pytest.mark.parametrize("ending", READERS)
def test_a_table_reads_back(tmp_path, ending):
    """In every format that is offered, over what was there."""
    path = tmp_path / f"table{ending}"
    path.write_text("old")

    write_table(TABLE, path)

    assert TABLE.equals(READERS[ending](path))
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["table.xlsx", "table", ".csv"])
def test_another_ending_is_refused_with_those_that_work(tmp_path, name):
    """Nothing is written."""
    with pytest.raises(UsageError, match=r"written as \.parquet, \.csv, \.arrow"):
        write_table(TABLE, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_cannot_hold_is_refused_with_one_that_can(tmp_path):
    """Lists have no CSV; what was there stays."""
    path = tmp_path / "table.csv"
    path.write_text("old")

    with pytest.raises(UsageError, match=r"\.csv cannot hold this table .*write \.parquet"):
        write_table(pa.table({"x": [[1, 2]]}), path)
    assert ("old", [path]) == (path.read_text(), list(tmp_path.iterdir()))


def test_a_refusal_of_the_file_system_names_the_file(tmp_path):
    """A file in place of the folder."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match=r"file/table\.csv: "):
        write_table(TABLE, tmp_path / "file" / "table.csv")
