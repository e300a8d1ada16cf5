"""A reader shows committed rows in study order, verified, while other sessions change the directory."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from support.stores import Clock, failure, grid, open_store, payload

from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause
from modelops_ray.errors import ResultsError, UsageError
from modelops_ray.store import directory as directory_module
from modelops_ray.store import reader as reader_module
from modelops_ray.store import writer as writer_module
from modelops_ray.store.directory import Rows
from modelops_ray.store.reader import RunReader
from modelops_ray.study.schema import simulations_schema
from modelops_ray.study.simulations import Simulations
from tests.mutations.sealed import resealed

STUDY = grid(2, 3)


@pytest.fixture
def path(tmp_path):
    """A run in progress: five of six simulations, in two commits and the wrong order."""
    store = open_store(tmp_path / "run", STUDY, clock=Clock())
    store.commit([payload(STUDY, [5, 3])], [failure(1)])
    store.commit([payload(STUDY, [2, 0])], [])
    store.heartbeat({"outstanding": 7})
    return tmp_path / "run"


def test_rows_are_in_study_order(path):
    """Not in the order of commits."""
    rows = RunReader(path).simulations().select(["replicate", "param_beta", "status"]).to_pylist()

    assert [(r["replicate"], r["param_beta"]) for r in rows] == [(0, 0.1), (1, 0.1), (2, 0.1), (0, 0.2), (2, 0.2)]
    assert [r["status"] for r in rows] == ["completed", "failed", "completed", "completed", "completed"]


def test_rows_of_a_simulation_keep_the_order_of_the_model(path):
    """Only simulations are sorted."""
    output = RunReader(path).output("incidence")

    assert output["day"].to_pylist() == [2, 0, 1] * 4
    assert output["cases"].to_pylist()[2::3] == [0.0, 2.0, 3.0, 5.0]


def test_rows_are_the_same_however_few_are_put_in_order_at_a_time(path, monkeypatch):
    """And whichever of them are in one part."""
    expected = RunReader(path).output("incidence")
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 100)

    assert expected.equals(RunReader(path).output("incidence"))


def test_more_than_two_gibibytes_of_text_are_put_in_order():
    """Arrow counts the bytes of a column of text in 32 bits."""
    n = 33
    table = pa.table({"row": pa.array(range(n)), "text": pa.chunked_array([pa.array(["x" * 2**26])] * n)})

    assert table.equals(reader_module._in_order([Rows(np.arange(n), table)]))
    blocks = reader_module._blocks(table, np.arange(n)[::-1])
    assert list(reversed(range(n))) == [row for block in blocks for row in block["row"].to_pylist()]


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A run of before simulations had times: one completed, and two failed."""
    real = writer_module.write_part

    def without_times(folder, path, table, *args, **kwargs):
        old = table.drop_columns(["started_at", "ended_at"]) if path.startswith("simulations/") else table
        return real(folder, path, old, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "write_part", without_times)
        store = open_store(tmp_path / "run", STUDY)
        store.commit([payload(STUDY, [0])], [failure(1), failure(2)])
        store.close("stopped")
    return tmp_path / "run"


def test_simulations_of_before_there_were_times_are_shown_without(old):
    """In the columns of today, alone and beside those of a session that goes on."""
    before = RunReader(old).simulations()
    open_store(old, STUDY).commit([payload(STUDY, [3])], [])
    after = RunReader(old).simulations()

    assert after.schema == before.schema == simulations_schema({"beta": pa.float64()})
    assert [None] * 3 == before["ended_at"].to_pylist() == after["ended_at"].to_pylist()[:3]
    assert datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC) == after["ended_at"].to_pylist()[3]
    assert RunReader(old).failures().schema == after.schema


@pytest.mark.parametrize(("study", "how"), [(STUDY, {"repeat": Ranges([(1, 2)])}), (grid(3, 3), {}), (grid(2, 4), {})])
def test_a_run_of_before_there_were_times_is_gone_on_with(old, study, how):
    """One of its failures is repeated, or the study has grown."""
    store = open_store(old, study, **how)
    left = [position for position in range(len(Simulations(study))) if position not in store.done()]
    store.commit([payload(study, left)], [])

    found = RunReader(old).simulations()
    assert len(Simulations(study)) == found.num_rows
    assert found.num_rows - len(left) == found["started_at"].null_count


def test_an_unknown_output_is_refused_with_the_known_ones(path):
    """A misspelt name is a usage error."""
    assert RunReader(path).output_names() == ["incidence"]
    with pytest.raises(UsageError, match="no output 'incidense'; the outputs are: incidence"):
        RunReader(path).output("incidense")


def test_a_run_without_a_commit_has_empty_tables(tmp_path):
    """With the columns that rows will have."""
    open_store(tmp_path / "run", STUDY)

    empty = RunReader(tmp_path / "run").simulations()

    assert (empty.num_rows, empty.column_names[0], empty.column_names[-1]) == (0, "task_id", "param_beta")


@pytest.mark.parametrize("name", ["", "nothing"])
def test_what_is_no_run_directory_is_named(tmp_path, name):
    """Empty or absent."""
    with pytest.raises(ResultsError, match=r"not a run directory, it has no run\.json"):
        RunReader(tmp_path / name)


def test_status_comes_from_the_commits(path):
    """Only counters are the session's own words."""
    clock = Clock()
    clock.advance(5)

    status = RunReader(path, clock).status()

    assert (status.total, status.completed, status.failed, status.causes) == (6, 4, 1, {"model_error": 1})
    assert (
        status.running, status.heartbeat_age_s, status.ending, status.counters
    ) == (True, 5.0, None, {"outstanding": 7})  # fmt: skip


def test_a_session_not_heard_of_for_a_minute_is_not_running(path):
    """It was killed, or its machine is gone."""
    clock = Clock()
    clock.advance(60)

    assert not RunReader(path, clock).status().running


def test_a_session_that_ended_says_how(tmp_path):
    """And keeps its last counters."""
    store = open_store(tmp_path / "run", STUDY)
    store.heartbeat({"outstanding": 7})
    store.close("stopped")

    status = RunReader(tmp_path / "run").status()

    assert (status.running, status.ending, status.counters) == (False, "stopped", {"outstanding": 7})


def test_status_before_the_first_heartbeat_knows_no_session(path):
    """`progress.json` may be missing."""
    (path / "progress.json").unlink()

    status = RunReader(path).status()

    assert (status.running, status.heartbeat_age_s, status.host, status.counters) == (False, None, None, {})


def test_every_flipped_byte_of_a_part_is_reported(path):
    """Also in footers and headers, which page checksums do not cover."""
    for part in [*(path / "simulations").iterdir(), *(path / "outputs" / "incidence").iterdir()]:
        data = part.read_bytes()
        for at in range(0, len(data), 97):
            part.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            with pytest.raises(ResultsError, match=rf"{part.name}: not what .* its content is damaged"):
                RunReader(path).output("incidence"), RunReader(path).simulations()
        part.write_bytes(data)


def test_parts_have_page_checksums_for_other_readers(path):
    """A flipped byte of data is an error in pyarrow too."""
    part = min((path / "outputs" / "incidence").iterdir())
    data = bytearray(part.read_bytes())
    chunk = pa.parquet.ParquetFile(part).metadata.row_group(0).column(6)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    data[start + chunk.total_compressed_size - 1] ^= 1
    part.write_bytes(data)

    with pytest.raises(OSError, match="CRC"):
        pa.parquet.read_table(part, page_checksum_verification=True)


def test_a_missing_part_is_reported(path):
    """With the commit that names it."""
    next((path / "simulations").iterdir()).unlink()

    with pytest.raises(ResultsError, match=r"simulations/part-.*missing, and named by .*_commits/00000"):
        RunReader(path).simulations()


def test_rows_of_an_uncommitted_simulation_are_reported(path):
    """An output can only hold what `simulations` holds."""
    log_path = path / "_commits" / "000003.json"
    real = directory_module.read_log

    def forgetful(folder, run):
        log = real(folder, run)
        for name in [name for name, part in log.parts.items() if part.commit == str(log_path) and len(part.positions)]:
            del log.parts[name]
        return log

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory_module, "read_log", forgetful)
        with pytest.raises(ResultsError, match="rows of a simulation that is not committed"):
            RunReader(path).output("incidence")


def test_parts_that_are_replaced_while_reading_are_read_again(tmp_path, monkeypatch):
    """A session may widen columns, or retry failures, at any moment."""
    path = tmp_path / "run"
    store = open_store(path, STUDY)
    store.commit([payload(STUDY, [0], lambda _: {"o": {"x": [1]}})], [])
    real = directory_module.read_log
    widen = iter([lambda: store.commit([payload(STUDY, [1], lambda _: {"o": {"x": [0.5]}})], [])])

    def read_log(folder, run):
        log = real(folder, run)
        next(widen, lambda: None)()
        return log

    monkeypatch.setattr(directory_module, "read_log", read_log)

    assert RunReader(path).output("o")["x"].to_pylist() == [1.0, 0.5]


def test_causes_are_counted_by_name(tmp_path):
    """One number per cause that occurred."""
    store = open_store(tmp_path / "run", STUDY)
    store.commit([], [failure(0), failure(1, Cause.OUT_OF_MEMORY), failure(2)])

    assert RunReader(tmp_path / "run").status().causes == {"model_error": 2, "out_of_memory": 1}


def test_a_failure_without_a_cause_is_damage(tmp_path):
    """Also where the commit names the file as it is, which another program may have written."""
    path = tmp_path / "run"
    open_store(path, STUDY).commit([], [failure(0)])
    [part] = (path / "simulations").iterdir()
    table = pa.parquet.read_table(part)
    at = table.column_names.index("cause")
    pa.parquet.write_table(table.set_column(at, "cause", pa.nulls(1, pa.string())), part)
    commits = {str(each): each.read_bytes() for each in (path / "_commits").iterdir()}
    for name, content in resealed(commits, {f"simulations/{part.name}": part.read_bytes()}).items():
        Path(name).write_bytes(content)

    with pytest.raises(ResultsError, match=rf"{part.name}: a failure there has no cause"):
        RunReader(path).status()


def test_folders_open_in_other_programs_as_they_are(path):
    """pyarrow, DuckDB, polars and pandas see all rows and the same columns."""
    expected = RunReader(path).output("incidence")
    folder = str(path / "outputs" / "incidence")
    duckdb, pl, pd = (pytest.importorskip(name) for name in ("duckdb", "polars", "pandas"))

    tables = [
        ds.dataset(folder).to_table(),
        duckdb.sql(f"from '{folder}/*.parquet'").to_arrow_table(),
        pl.read_parquet(folder).to_arrow(),
        pa.Table.from_pandas(pd.read_parquet(folder), preserve_index=False),
    ]

    for table in tables:
        same = table.cast(expected.schema).replace_schema_metadata(None)
        order = [("task_id", "ascending"), ("day", "ascending")]
        assert expected.sort_by(order).equals(same.sort_by(order))


def test_a_run_reads_while_its_study_grows(path):
    """Between the two steps of going over to a larger study positions are those of the older one."""
    document = json.loads((path / "run.json").read_text())
    larger = document["study"] | {"digest": "00" * 32, "simulations": 60}
    (path / "run.json").write_text(json.dumps(document | {"study": larger, "previous": document["study"]}))

    assert (RunReader(path).simulations().num_rows, RunReader(path).status().total) == (5, 60)
