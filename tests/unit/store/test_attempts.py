"""Attempts that gave no result are rows of a table of their own: committed with results, and with nothing else lost."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow.dataset as ds
import pytest
from support.stores import attempts, failure, grid, open_store, payload, task_ids

from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause, Failure, Follows, Killer
from modelops_ray.errors import ResultsError
from modelops_ray.store.commits import FORMAT
from modelops_ray.store.reader import RunReader
from modelops_ray.study.schema import ATTEMPT_COLUMNS
from modelops_ray.study.study import Study

duckdb, pd, pl = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))

STUDY = grid(2, 3)
"""Six simulations."""


@pytest.fixture
def path(tmp_path):
    """A run directory that is not there yet."""
    return tmp_path / "run"


def numbered(path):
    """Which attempts of which simulations have a row, in the order in which a reader shows them."""
    table, places = RunReader(path).attempts(), {task_id: at for at, task_id in enumerate(task_ids(STUDY))}
    return [(places[row["task_id"]], row["attempt"]) for row in table.to_pylist()]


def commit(path, *args, **how):
    """A session of one commit, which ended."""
    store = open_store(path, STUDY, **how)
    store.commit(*args)
    store.close("stopped")


def test_a_row_says_what_is_known_of_an_attempt(path):
    """Of one that a worker saw to its end, everything but what it printed."""
    ended = Failure(
        3, Cause.OUT_OF_MEMORY, "OutOfMemory", "killed", None, 2.5, 900, 7, 11, "n1", ended_unix_s=100.0,
        killed_by=Killer.US,
    )  # fmt: skip
    commit(path, [], [], [replace(attempts([3], 2, follows=Follows.RAISED), failure=ended)])

    [row] = RunReader(path).attempts().to_pylist()

    assert {
        "task_id": task_ids(STUDY)[3],
        "attempt": 2,
        "started_at": datetime(1970, 1, 1, 0, 1, 37, 500_000, UTC),
        "ended_at": datetime(1970, 1, 1, 0, 1, 40, 0, UTC),
        "node": "n1",
        "request_bytes": 2**21,
        "limit_bytes": 2**20,
        "peak_bytes": 900,
        "cause": "out_of_memory",
        "error_type": "OutOfMemory",
        "error_message": "killed",
        "killed_by": "us",
        "follows": "raised",
        "printed": None,
    } == row


def test_what_is_not_known_of_an_attempt_is_null(path):
    """A task that died says neither when each of its simulations began nor what each used."""
    lost = Failure(0, Cause.WORKER_LOST, "WorkerCrashedError", "it died", ended_unix_s=100.0)
    commit(path, [], [], [replace(attempts([0, 1]), failure=lost, limit_bytes=0, request_bytes=0)])

    rows = RunReader(path).attempts().to_pylist()

    unknown = ["started_at", "node", "request_bytes", "limit_bytes", "peak_bytes", "killed_by", "printed"]
    assert [unknown, unknown] == [[name for name, value in row.items() if value is None] for row in rows]


def test_rows_are_in_study_order_and_those_of_simulations_without_a_row_come_last(path):
    """The attempts of one simulation stay together, in their order."""
    store = open_store(path, STUDY)
    store.commit([payload(STUDY, [4])], [], [attempts([5, 4]), attempts([2])])
    store.commit([payload(STUDY, [1])], [failure(2)], [attempts([1, 5, 2], 2), attempts([5], 3)])

    found = numbered(path)

    assert [(1, 2), (2, 1), (2, 2), (4, 1), (5, 1), (5, 2), (5, 3)] == found


def test_attempts_alone_are_a_commit_in_which_no_simulation_is_done(path):
    """And the next session can say how often each was attempted."""
    commit(path, [], [], [attempts([0, 1]), attempts([1], 2)])

    store = open_store(path, STUDY)

    assert (Ranges(), 0, 0, {0: 1, 1: 2}) == (store.done(), store.completed, store.failed, store.attempts_made())
    assert [(0, 1), (1, 1), (1, 2)] == sorted(numbered(path))
    assert 0 == RunReader(path).simulations().num_rows
    assert [] == RunReader(path).output_names()


def test_a_run_in_which_every_attempt_gave_a_result_writes_no_such_table(path):
    """There is no folder, and the table has its columns and no rows."""
    commit(path, [payload(STUDY, range(6))], [])

    assert not (path / "attempts").exists()
    assert ATTEMPT_COLUMNS.empty_table().equals(RunReader(path).attempts())
    assert {} == open_store(path, STUDY).attempts_made()


def test_attempts_of_simulations_that_are_done_are_not_counted_on(path):
    """A failure that is repeated is not done, and is counted on from its last attempt."""
    commit(path, [payload(STUDY, [0])], [failure(1)], [attempts([0, 1, 2]), attempts([1], 2, follows=Follows.FAILED)])

    assert {2: 1} == open_store(path, STUDY, take_over=True).attempts_made()
    assert {1: 2, 2: 1} == open_store(path, STUDY, take_over=True, retry_failed=True).attempts_made()
    assert [(0, 1), (1, 1), (1, 2), (2, 1)] == sorted(numbered(path))


def test_the_table_stays_as_it_is_when_the_study_grows(path):
    """Its rows name simulations by what stays, and their positions are found again."""
    older, newer = Study.grid({"beta": [2]}, replicates=3), Study.grid({"beta": [1, 2]}, replicates=3)
    store = open_store(path, older)
    store.commit([payload(older, [0])], [], [attempts([0, 2])])
    store.close("stopped")
    before = {each.name: each.read_bytes() for each in (path / "attempts").iterdir()}

    store = open_store(path, newer)

    assert {5: 1} == store.attempts_made()
    assert before == {each.name: each.read_bytes() for each in (path / "attempts").iterdir()}
    assert [task_ids(newer)[3], task_ids(newer)[5]] == RunReader(path).attempts()["task_id"].to_pylist()


def test_other_programs_open_the_folder_as_it_is(path):
    """They see the rows and the types of our own reader."""
    store = open_store(path, STUDY)
    for number in (1, 2):
        store.commit([], [], [attempts([0, 1], number)])
    store.close("stopped")
    ours, folder = RunReader(path).attempts().sort_by([("attempt", "ascending"), ("task_id", "ascending")]), str(path)

    found = ds.dataset(f"{folder}/attempts").to_table()
    assert ours.equals(found.sort_by([("attempt", "ascending"), ("task_id", "ascending")]))
    assert ours["task_id"].to_pylist() == sorted(pl.read_parquet(f"{folder}/attempts/*.parquet")["task_id"][:2]) * 2
    assert [(4,)] == duckdb.sql(f"select count(*) from '{folder}/attempts/*.parquet'").fetchall()
    assert [1, 1, 2, 2] == sorted(pd.read_parquet(f"{folder}/attempts")["attempt"])


def make_format_2(path):
    """Write the commits as versions did that had no such table."""
    previous = None
    for each in sorted((path / "_commits").iterdir()):
        document = json.loads(each.read_text()) | {"format": 2}
        del document["sha256"]
        document["previous"] = previous or document["previous"]
        body = json.dumps(document, separators=(",", ":")).encode()[:-1]
        data = body + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
        each.write_bytes(data)
        previous = hashlib.sha256(data).hexdigest()


def test_a_run_of_an_earlier_version_is_read_and_goes_on(path):
    """It has no attempts, and gets some."""
    commit(path, [payload(STUDY, [0])], [failure(1)])
    make_format_2(path)
    assert 0 == RunReader(path).attempts().num_rows

    commit(path, [payload(STUDY, [2])], [], [attempts([2])], take_over=True)

    assert [(2, 1)] == numbered(path)
    assert 3 == RunReader(path).simulations().num_rows


def test_an_earlier_version_is_told_to_be_too_old_for_a_run_with_attempts(path):
    """Every commit has a number that it reads first; nothing of the run is called damaged."""
    commit(path, [], [], [attempts([0])])

    assert {FORMAT} == {json.loads(each.read_text())["format"] for each in (path / "_commits").iterdir()}


def test_a_table_that_is_damaged_is_named(path):
    """It is not read as if it were whole."""
    commit(path, [], [], [attempts([0])])
    [part] = (path / "attempts").iterdir()
    part.write_bytes(part.read_bytes()[:-1] + b"x")

    with pytest.raises(ResultsError, match=f"{part.name}: not what .*000002.json says, its content is damaged"):
        RunReader(path).attempts()


def test_starting_over_takes_the_table_aside(path):
    """The new run has none."""
    commit(path, [], [], [attempts([0])])

    commit(path, [payload(STUDY, [0])], [], fresh=True)

    [aside] = path.parent.glob("run.old-*")
    assert ([], [(0, 1)]) == (numbered(path), numbered(aside))
