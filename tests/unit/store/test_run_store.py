"""A session commits all or nothing, goes on where the last one ended, and refuses what it must not touch."""

import json
import os
import shutil
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.stores import Clock, DiedError, attempts, dying, failure, grid, incidence, open_store, payload

from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause
from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.sandbox.column_types import numbered
from modelops_ray.store import run_json
from modelops_ray.store.commits import FOLDER
from modelops_ray.store.heartbeat import ProcessIdentity, Progress, read_progress, write_progress
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.local import LocalFolder
from modelops_ray.study.study import Study


@pytest.fixture
def path(tmp_path):
    """A run directory that is not there yet."""
    return tmp_path / "run"


def snapshot(path):
    """All there is below a directory, with times of change."""
    return {str(each): (each.stat().st_mtime_ns, each.is_dir() or each.read_bytes()) for each in path.rglob("*")}


def run_half(path, study, **kwargs):
    """Leave a run with ten results and two failures, ended properly."""
    store = open_store(path, study, **kwargs)
    tried = [attempts([10, 11])]
    store.commit([payload(study, range(5, 10)), payload(study, range(5))], [failure(11), failure(10)], tried)
    store.close("stopped")


def test_what_was_committed_is_done_for_the_next_session(path):
    """Results and failures both count."""
    run_half(path, grid())

    store = open_store(path, grid())

    assert (Ranges([(0, 12)]), 10, 2) == (store.done(), store.completed, store.failed)


def test_a_session_counts_as_it_commits(path):
    """Without reading the directory again."""
    store = open_store(path, grid())
    store.commit([payload(grid(), [3])], [failure(7)])

    assert (Ranges.of([3, 7]), 1, 1) == (store.done(), store.completed, store.failed)
    results = [path / part.path for part in RunReader(path).log().parts.values() if not part.failed]
    assert store.written.output_bytes == sum(each.stat().st_size for each in results)


def test_a_commit_of_nothing_writes_nothing(path):
    """No empty steps in the log."""
    store = open_store(path, grid())
    before = snapshot(path)

    assert () == store.commit([], [])
    assert before == snapshot(path)


@pytest.mark.parametrize("again", [([payload(grid(), [3])], []), ([], [failure(3)])])
def test_nothing_is_committed_twice(path, again):
    """A second result for a simulation is an error of the caller."""
    store = open_store(path, grid())
    store.commit([payload(grid(), [3])], [])

    with pytest.raises(ValueError, match="committed twice: position 3"):
        store.commit(*again)


def test_one_commit_cannot_hold_a_simulation_twice(path):
    """Neither as result and failure."""
    store = open_store(path, grid())

    with pytest.raises(ValueError, match="committed twice"):
        store.commit([payload(grid(), [3])], [failure(3)])


def test_a_commit_has_one_part_per_table_and_one_for_failures(path):
    """However many chunks it is made of."""
    store = open_store(path, grid())
    store.commit([payload(grid(), [i]) for i in range(8)], [failure(8), failure(9)])

    assert [len(list((path / each).iterdir())) for each in ("simulations", "outputs/incidence")] == [2, 1]


def test_a_finished_run_is_opened_without_a_write(path):
    """Looking at it costs nothing and disturbs no session, not even a session that seems to write."""
    study = grid(1, 2)
    open_store(path, study).commit([payload(study, range(2))], [])
    before = snapshot(path)

    store = open_store(path, study)
    store.heartbeat({})
    store.close("complete")

    assert Ranges([(0, 2)]) == store.done()
    assert before == snapshot(path)
    with pytest.raises(ValueError, match="no session"):
        store._writing()


def test_a_repeated_failure_is_forgotten_first(path):
    """Results stay, failures are not done any more, and their parts are gone."""
    run_half(path, grid())

    store = open_store(path, grid(), retry_failed=True)

    assert (Ranges([(0, 10)]), 0) == (store.done(), store.failed)
    assert len(list((path / "simulations").iterdir())) == 1
    store.commit([payload(grid(), [10])], [])
    assert RunReader(path).simulations()["status"].to_pylist() == ["completed"] * 11


def test_retrying_a_run_that_ended_begins_it_again(path):
    """Nothing is pending but what failed."""
    study = grid(1, 2)
    store = open_store(path, study)
    store.commit([payload(study, [0])], [failure(1)])
    store.close("complete")

    assert Ranges([(0, 1)]) == open_store(path, study, retry_failed=True).done()


def test_of_many_failures_only_those_to_repeat_are_forgotten(path):
    """Their parts are written once more without them; where there are none of them, nothing changes."""
    study = grid()
    store = open_store(path, study)
    store.commit([payload(study, range(5))], [failure(10), failure(11), failure(12)])
    store.commit([], [failure(13)])
    store.close("stopped")

    store = open_store(path, study, repeat=Ranges.of([2, 11]))

    assert (Ranges([(0, 5), (10, 11), (12, 14)]), 5, 3) == (store.done(), store.completed, store.failed)
    assert [f"no luck at {i}" for i in (10, 12, 13)] == RunReader(path).failures()["error_message"].sort().to_pylist()
    assert len(list((path / "simulations").iterdir())) == 3


def test_failures_are_repeated_in_a_study_that_grew(path):
    """Positions to repeat are those of the larger study."""
    older, newer = Study.grid({"beta": [2]}, replicates=3), Study.grid({"beta": [1, 2]}, replicates=3)
    store = open_store(path, older)
    store.commit([payload(older, [0])], [failure(1), failure(2)])
    store.close("stopped")

    assert Ranges.of([3, 5]) == open_store(path, newer, repeat=Ranges.of([0, 4])).done()


def test_all_that_a_study_says_about_itself_is_kept(path):
    """Half a surrogate pair too, which no UTF-8 has: it came from an escape in a JSON file."""
    study = replace(grid(), metadata={"title": "Übung \ud83d"})

    open_store(path, study).close("stopped")

    assert study.metadata == json.loads((path / "run.json").read_text())["study"]["document"]["metadata"]
    assert Ranges() == open_store(path, study).done()


def test_a_study_may_grow_before_anything_of_it_was_committed(path):
    """A session was killed between its first two files."""
    open_store(path, grid(2)).close("stopped")
    for commit in (path / FOLDER).iterdir():
        commit.unlink()

    open_store(path, grid(4)).close("stopped")

    assert Ranges() == open_store(path, grid(4)).done()


def test_starting_over_moves_the_old_run_aside(path):
    """It is not lost, and its name says when it was replaced."""
    clock = Clock()
    run_half(path, grid(), clock=clock)
    before = RunReader(path).simulations()

    store = open_store(path, grid(5), fresh=True, clock=clock)

    assert len(store.done()) == 0
    assert before.equals(RunReader(path.with_name("run.old-20250301T120000Z")).simulations())


def test_starting_over_where_nothing_is_starts(path):
    """`fresh` is no claim that there was something."""
    assert len(open_store(path, grid(), fresh=True).done()) == 0


def test_starting_over_repairs_a_damaged_run(path):
    """It is the remedy that messages name."""
    run_half(path, grid())
    (path / "run.json").write_text("{")

    assert len(open_store(path, grid(), fresh=True).done()) == 0


@pytest.mark.parametrize("fresh", [True, False])
def test_a_directory_of_something_else_is_left_alone(path, fresh):
    """Nothing is moved, nothing is written."""
    path.mkdir()
    (path / "thesis.tex").write_text("")
    before = snapshot(path)

    with pytest.raises(ResultsError, match=r"not a run directory, it holds thesis\.tex and no run\.json"):
        open_store(path, grid(), fresh=fresh)
    assert before == snapshot(path)


def test_a_file_in_place_of_the_directory_is_named(path):
    """Not taken for an absence."""
    path.write_text("")

    with pytest.raises(StorageError, match="a file is where a folder should be"):
        open_store(path, grid())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_digest": "ee" * 32}, "run with model sir.py:simulate .*this is .*--out"),
        ({"seed_policy": "dask-compatible"}, "run with seed policy job-file, this is dask-compatible; .*--fresh"),
        ({"entrypoint": "other/baseline"}, "run with entrypoint sir.py:simulate/baseline, this is other/baseline"),
        ({"study": grid(3)}, "study .*20 simulations.* does not contain"),
    ],
)
def test_another_question_is_refused_and_changes_nothing(path, change, message):
    """The message names both sides."""
    run_half(path, grid())
    before = snapshot(path)

    with pytest.raises(ResultsError, match=message):
        open_store(path, **({"study": grid()} | change))
    assert before == snapshot(path)


def test_other_package_versions_are_a_warning(path):
    """They are told, and the run goes on."""
    run_half(path, grid())

    store = open_store(path, grid(), versions={"numpy": "2.1", "scipy": "1.0"})

    assert store.warnings == (
        "numpy was 2.0 when this run began and is 2.1 now",
        "scipy was absent when this run began and is 1.0 now",
    )


def _break_run(path):
    (path / "run.json").write_text("no")


def _newer_run(path):
    document = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(document | {"format": run_json.FORMAT + 1}))


def _wrong_run(path):
    document = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(document | {"seed_policy": "dice"}))


def _lose_run(path):
    (path / "run.json").unlink()


def _break_commit(path):
    (path / "_commits" / "000002.json").write_text("no")


def _lose_log(path):
    shutil.rmtree(path / "_commits")


def _lose_part(path):
    next((path / "simulations").iterdir()).unlink()


def _cut_part(path):
    part = next((path / "outputs" / "incidence").iterdir())
    part.write_bytes(part.read_bytes()[:-1])


def _break_part(path, table="outputs/incidence"):
    part = next((path / table).iterdir())
    part.write_bytes(b"x" * part.stat().st_size)


def _break_simulations(path):
    _break_part(path, "simulations")


def _break_attempts(path):
    _break_part(path, "attempts")


def _break_progress(path):
    (path / "progress.json").write_text("no")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break_run, r"run\.json: not JSON"),
        (_newer_run, r"run\.json: written in format 3"),
        (_wrong_run, r"run\.json: /seed_policy: "),
        (_lose_run, r"not a run directory, it holds _commits"),
        (_break_commit, r"000002\.json: not JSON"),
        (_lose_log, r"_commits: no commits, and there are parts"),
        (_lose_part, r"simulations/part-.*: missing, and named by .*000002\.json"),
        (_cut_part, r"incidence/part-.*: not what .*000002\.json says, it has [\d,]+ bytes instead of [\d,]+"),
        (_break_part, r"incidence/part-.*: not what .*000002\.json says, its content is damaged"),
        (_break_simulations, r"simulations/part-.*: not what .*000002\.json says, its content is damaged"),
        (_break_attempts, r"attempts/part-.*: not what .*000002\.json says, its content is damaged"),
        (_break_progress, r"progress\.json: not a progress file .*delete it"),
    ],
)
def test_a_damaged_directory_is_named_and_nothing_is_changed(path, damage, message):
    """No session begins, so that a user may restore what was there; not even one that would repeat failures."""
    run_half(path, grid())
    damage(path)
    before = snapshot(path)

    with pytest.raises(ResultsError, match=message):
        open_store(path, grid(), retry_failed=True)
    assert before == snapshot(path)


def test_positions_beyond_the_study_are_refused(path, monkeypatch):
    """A log of another length of study is not believed."""
    run_half(path, grid())
    document = json.loads((path / "run.json").read_text())
    document["study"]["simulations"] = 9
    (path / "run.json").write_text(json.dumps(document))

    with pytest.raises(ResultsError, match="beyond the 9 simulations"):
        open_store(path, grid())


def test_a_second_session_is_told_who_writes(path):
    """And changes nothing."""
    clock = Clock()
    open_store(path, grid(), clock=clock)
    clock.advance(59)
    before = snapshot(path)

    with pytest.raises(RunInUseError, match=rf"process {os.getpid()} on .* 59 s ago; .*--take-over"):
        open_store(path, grid(), clock=clock)
    with pytest.raises(RunInUseError):
        open_store(path, grid(), clock=clock, fresh=True)
    assert before == snapshot(path)


@pytest.mark.parametrize("change", [{"take_over": True}, {"take_over": True, "fresh": True}])
def test_taking_over_ends_the_other_session(path, change):
    """Its next step fails, and leaves nothing behind in the directory of the new one."""
    older = open_store(path, grid())
    newer = open_store(path, grid(), **change)
    before = snapshot(path)

    with pytest.raises(RunInUseError, match="this session ends here"):
        older.commit([payload(grid(), [0])], [])
    with pytest.raises(RunInUseError, match="this session ends here"):
        older.heartbeat({})

    folders = {str(path / each) for each in ("simulations", "outputs", "outputs/incidence")}
    assert set(before) | folders == set(snapshot(path)) | folders
    newer.commit([payload(grid(), [0])], [])
    assert Ranges([(0, 1)]) == newer.done()


def test_a_session_heard_of_a_minute_ago_is_over(path):
    """Without --take-over."""
    clock = Clock()
    open_store(path, grid(), clock=clock)
    clock.advance(60)

    assert len(open_store(path, grid(), clock=clock).done()) == 0


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({}, False),
        ({"ending": "complete"}, True),
        ({"started_ticks": 1}, True),
        ({"pid": 2**22 + 1}, True),
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),
        ({"place": "another boot", "pid": 2**22 + 1}, False),
    ],
)
def test_a_dead_process_of_this_machine_does_not_hold_the_directory(path, change, free):
    """A reused process number is told by the start time; other machines cannot be asked."""
    clock = Clock()
    open_store(path, grid(), clock=clock)
    folder = LocalFolder(path)
    found = read_progress(folder)
    assert ProcessIdentity.this().pid == found.pid
    write_progress(folder, Progress.model_validate(found.model_dump() | change))

    if free:
        open_store(path, grid(), clock=clock)
    else:
        with pytest.raises(RunInUseError):
            open_store(path, grid(), clock=clock)


def test_of_two_sessions_that_start_at_once_one_begins(path):
    """Both found the directory free."""
    barrier = threading.Barrier(2)
    outcomes = []

    def start():
        barrier.wait()
        try:
            outcomes.append(open_store(path, grid(), take_over=True))
        except RunInUseError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    usable = [each for each in outcomes if _can_commit(each)]
    assert len(usable) == 1
    assert Ranges([(0, 1)]) == open_store(path, grid(), take_over=True).done()


def test_a_run_that_begins_while_it_is_looked_for_is_not_taken_for_something_else(path, monkeypatch):
    """The other session's file is there between a look for it and one at what else there is."""
    real = run_json.read_marked

    def too_early(folder):
        monkeypatch.undo()
        found = real(folder)
        open_store(path, grid())
        return found

    monkeypatch.setattr(run_json, "read_marked", too_early)
    store = open_store(path, grid(), take_over=True)
    store.commit([payload(grid(), [0])], [])
    assert Ranges([(0, 1)]) == store.done()


def _can_commit(store):
    if isinstance(store, RunInUseError):
        return False
    try:
        store.commit([payload(grid(), [0])], [])
    except RunInUseError:
        return False
    return True


def test_a_refused_write_ends_in_a_state_that_goes_on(path, monkeypatch):
    """What the failed commit had written is removed, and the same commit works later."""
    store = open_store(path, grid())
    store.commit([payload(grid(), [0])], [])
    before = snapshot(path)
    real = os.write
    left = [3]

    def fill_up(fd, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, os.strerror(28))
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        with pytest.raises(StorageError, match="no space left"):
            store.commit([payload(grid(), [1, 2])], [failure(3)])

    files = {name for name, (_, content) in snapshot(path).items() if content is not True}
    assert {name for name, (_, content) in before.items() if content is not True} == files
    store.commit([payload(grid(), [1, 2])], [failure(3)])
    assert Ranges([(0, 4)]) == open_store(path, grid(), take_over=True).done()


def test_a_commit_that_is_in_place_is_never_taken_back(path, monkeypatch):
    """Even if the directory could not be synced after it."""
    store = open_store(path, grid())
    linked = []
    link, fsync = os.link, os.fsync

    def fail_after_link(fd):
        if linked:
            raise OSError(5, os.strerror(5))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *args, **at: (link(*args, **at), linked.append(1)))
        patch.setattr(os, "fsync", fail_after_link)
        with pytest.raises(StorageError, match="Input/output error"):
            store.commit([payload(grid(), [0])], [])

    assert Ranges([(0, 1)]) == open_store(path, grid(), take_over=True).done()
    assert RunReader(path).output("incidence").num_rows == 3


def by_position(**values):
    """A model whose column `x` is looked up by position."""
    lookup = {int(name[1:]): value for name, value in values.items()}
    return lambda simulation: {"o": {"x": lookup[simulation.position]}}


def test_whole_numbers_widen_in_parts_that_are_committed_already(path):
    """A reader of the folder sees one type, and the old parts are gone."""
    study = grid()
    store = open_store(path, study)
    store.commit([payload(study, [0], by_position(p0=[None]))], [])
    store.commit([payload(study, [1], by_position(p1=[1, 2]))], [])
    store.commit([payload(study, [2], by_position(p2=[0.5]))], [])

    assert RunReader(path).output("o")["x"].to_pylist() == [None, 1.0, 2.0, 0.5]
    assert [pa.float64()] * 3 == [
        pa.parquet.read_schema(each).field("x").type for each in sorted((path / "outputs/o").iterdir())
    ]


def of_frames(study, position, x, index=None):
    """What a chunk returns of a frame of pandas, which has labels or numbers its rows."""
    found = payload(study, [position], lambda _: {"o": {"x": x} | ({"index": index} if index else {})})
    (output,) = found.outputs["o"]
    table = output.table if index else numbered(output.table)
    return replace(found, outputs={"o": (replace(output, table=table),)})


@pytest.mark.parametrize("is_another_session", [True, False])
def test_rows_without_labels_are_numbered_also_where_they_were_committed_before(path, is_another_session):
    """Whether a frame lost rows shows in the third commit only, after the columns became wider."""
    study = grid()
    store = open_store(path, study)
    store.commit([of_frames(study, 0, [1, 2])], [])
    store.commit([of_frames(study, 1, [0.5])], [])
    if is_another_session:
        store.close("stopped")
        store = open_store(path, study)
    assert () == store.commit([of_frames(study, 2, [3.5], [1])], [])

    assert [0, 1, 0, 1] == RunReader(path).output("o")["index"].to_pylist()


def test_rows_that_a_model_never_labelled_are_not_numbered(path):
    """Where a commit has both frames and columns, it is as if none of them were a frame."""
    study = grid()
    store = open_store(path, study)
    plain = payload(study, [1], lambda _: {"o": {"x": [5]}})
    store.commit([of_frames(study, 0, [1, 2]), plain], [])

    (rejected,) = store.commit([of_frames(study, 2, [3], [1])], [])

    assert "found columns x, index, expected x" in rejected.message


EXACTLY = {
    "nothing": (pa.array([None, None], pa.float64()), ["a", None]),
    "decimals": ([Decimal("1.25")], [Decimal("1000.5")]),
    "units": (pa.array([1], pa.timestamp("ms")), pa.array([1], pa.timestamp("ns"))),
    "zones": (pa.array([1], pa.timestamp("us", "Asia/Tokyo")), pa.array([2], pa.timestamp("us", "Europe/Berlin"))),
    "unsigned": ([1], pa.array([2**64 - 1], pa.uint64())),
    "unsigned first": (pa.array([3], pa.uint64()), [-1]),
    "lists": ([[1]], [[2**53, None]]),
    "floats": ([2**53], [0.5]),
}
INEXACTLY = {
    "large integers": ([2**53 + 1], [0.5]),
    "large integers in lists": ([[2**60]], [[0.5]]),
    "unsigned": ([-1], pa.array([2**64 - 1], pa.uint64())),
    "years": (pa.array([253370764800000], pa.timestamp("ms")), pa.array([1], pa.timestamp("ns"))),
    "decimals": ([Decimal(10**30)], [Decimal("1e-30")]),
}


@pytest.mark.parametrize("in_one_commit", [True, False])
@pytest.mark.parametrize("kind", EXACTLY)
@pytest.mark.parametrize("turn", [1, -1])
def test_replicates_of_different_types_are_kept_exactly(path, kind, turn, in_one_commit):
    """In one commit or in two, whichever is the first; other readers find one type."""
    values = EXACTLY[kind][::turn]
    study = grid()
    store = open_store(path, study)
    payloads = [payload(study, [at], by_position(**{f"p{at}": each})) for at, each in enumerate(values)]
    commits = [store.commit(payloads, [])] if in_one_commit else [store.commit([each], []) for each in payloads]

    read = RunReader(path).output("o")["x"]
    assert [()] * len(commits) == commits
    expected = [pa.table({"x": each})["x"].cast(read.type) for each in values]
    assert pa.chunked_array([chunk for each in expected for chunk in each.chunks]).equals(read)
    assert read.type == pq.read_table(path / "outputs" / "o")["x"].type


@pytest.mark.parametrize("in_one_commit", [True, False])
@pytest.mark.parametrize("kind", INEXACTLY)
@pytest.mark.parametrize("turn", [1, -1])
def test_values_that_no_type_holds_together_are_never_rounded(path, kind, turn, in_one_commit):
    """The later simulation is left out by name, and the earlier one is read as it was."""
    first, second = INEXACTLY[kind][::turn]
    study = grid()
    store = open_store(path, study)
    payloads = [payload(study, [at], by_position(**{f"p{at}": each})) for at, each in enumerate((first, second))]
    commits = [store.commit(payloads, [])] if in_one_commit else [store.commit([each], []) for each in payloads]

    (rejected,) = commits[-1]
    assert (1, Cause.BAD_OUTPUT) == (rejected.position, rejected.cause)
    assert rejected.message.startswith("output 'o': column 'x': found ")
    assert pa.table({"x": first})["x"].to_pylist() == RunReader(path).output("o")["x"].to_pylist()


def test_a_later_session_keeps_to_the_columns(path):
    """They are read back from the parts."""
    study = grid()
    store = open_store(path, study)
    store.commit([payload(study, [0], by_position(p0=[0.5]))], [])
    store.close("stopped")

    store = open_store(path, study)
    store.commit([payload(study, [1], by_position(p1=[1]))], [])
    rejected = store.commit([payload(study, [2], by_position(p2=["text"]))], [])

    assert RunReader(path).output("o")["x"].to_pylist() == [0.5, 1.0]
    assert [each.message for each in rejected] == ["output 'o': column 'x': found string, expected double"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("s"),
        pa.timestamp("s", "Europe/Berlin"),
        pa.time32("s"),
        pa.date64(),
        pa.list_(pa.timestamp("s")),
        pa.struct([("at", pa.date64())]),
    ],
)
def test_a_later_session_goes_on_with_types_that_parquet_turns_into_others(path, kind):
    """It has no seconds, for one; the same model still fits what it wrote before."""
    study = grid()

    def model(_simulation):
        return {"o": {"x": pa.nulls(1, kind)}}

    for position in range(2):
        store = open_store(path, study)
        assert () == store.commit([payload(study, [position], model)], [])
        store.close("stopped")

    assert [None, None] == RunReader(path).output("o")["x"].to_pylist()


def test_what_does_not_fit_is_left_out_of_all_tables(path):
    """The simulation appears nowhere, the rest of its chunk everywhere, and the failure can be committed."""

    def model(simulation):
        odd = simulation.position == 1
        return incidence(simulation) | {"summary": {"peak": ["high"] if odd else [1]}}

    study = grid()
    store = open_store(path, study)

    (rejected,) = store.commit([payload(study, [2, 0, 1, 3], model)], [])

    assert (
        rejected.position, rejected.cause, rejected.seconds, rejected.peak_bytes, rejected.request_bytes, rejected.node
    ) == (1, Cause.BAD_OUTPUT, 0.5, 10, 20, "n0")  # fmt: skip
    assert rejected.message == "output 'summary': column 'peak': found string, expected int64"
    assert Ranges.of([0, 2, 3]) == store.done()
    reader = RunReader(path)
    tables = reader.simulations(), reader.output("summary"), reader.output("incidence")
    assert [table.num_rows for table in tables] == [3, 3, 9]
    store.commit([], [rejected])
    assert RunReader(path).simulations()["cause"].to_pylist()[1] == "bad_output"


def test_the_first_simulation_in_study_order_fixes_the_columns(path):
    """Whichever chunk happens to come first."""
    study = grid()
    store = open_store(path, study)

    rejected = store.commit(
        [payload(study, [5], by_position(p5=["text"])), payload(study, [4], by_position(p4=[1]))], []
    )

    assert [each.position for each in rejected] == [5]


def test_a_rejected_simulation_fixes_nothing(path):
    """Its other outputs do not bind those that follow."""

    def model(simulation):
        if simulation.position == 1:
            return {"a": {"x": ["text"]}, "b": {"y": ["text"]}}
        return {"a": {"x": [1]}} if simulation.position == 0 else {"a": {"x": [2]}, "b": {"y": [1]}}

    study = grid()
    rejected = open_store(path, study).commit([payload(study, [0, 1, 2], model)], [])

    assert [each.position for each in rejected] == [1]
    assert RunReader(path).output("b")["y"].to_pylist() == [1]


def test_a_commit_of_rejected_simulations_only_writes_nothing(path):
    """There is nothing to make durable."""
    study = grid()
    store = open_store(path, study)
    store.commit([payload(study, [0], by_position(p0=[1]))], [])
    before = snapshot(path)

    assert len(store.commit([payload(study, [1], by_position(p1=["text"]))], [])) == 1
    assert before == snapshot(path)


def test_values_are_kept_to_the_bit(path):
    """NaN payloads, infinities and signed zeros included."""
    bits = np.array([0x7FF8000000000001, 0xFFF8000000000002, 0x7FF0000000000000, 1 << 63], dtype=np.uint64)
    study = grid()
    store = open_store(path, study)
    store.commit([payload(study, [0], by_position(p0=bits.view(np.float64)))], [])

    assert bits.tolist() == RunReader(path).output("o")["x"].to_numpy().view(np.uint64).tolist()


def test_other_readers_find_the_types_of_the_model_and_no_dictionaries(path, monkeypatch):
    """Whichever way columns are encoded, and wherever groups of rows end."""
    monkeypatch.setattr("modelops_ray.store.parts.GROUP_ROWS", 2)
    lasted = pa.array([1, 2, None], pa.duration("s"))
    shares = pa.array([[0.5, 0.25]] * 3, pa.list_(pa.float32(), 2))
    study = grid()
    store = open_store(path, study)
    rows = {"lasted": lasted, "shares": shares, "where": ["x", None, "y"]}
    chunks = [payload(study, positions, lambda _: {"o": rows}) for positions in ([0, 1], [2])]
    store.commit(chunks, [])

    found = pq.read_table(path / "outputs" / "o")
    assert [pa.string(), pa.string(), pa.int32(), pa.uint64(), pa.float64()] == found.schema.types[:5]
    assert [lasted.type, shares.type, pa.string()] == found.schema.types[5:]
    assert lasted.to_pylist() * 3 == found["lasted"].to_pylist()
    assert ["x", None, "y"] * 3 == found["where"].to_pylist()
    ids = RunReader(path).simulations()["task_id"].to_pylist()
    assert [task_id for task_id in ids for _ in range(3)] == found["task_id"].to_pylist()


def test_identity_is_kept_to_the_last_integer(path):
    """Seeds use all of 64 bits, in the tables and in `run.json`."""
    sets = [{"params": {"big": 2**64 - 1, "text": "ä"}, "seed": 2**64 - 1}]
    study = Study.from_dict({"model": "m", "scenario": "baseline", "parameter_sets": sets})
    store = open_store(path, study)
    store.commit([payload(study, [0])], [])
    store.close("stopped")

    row = RunReader(path).simulations().to_pylist()[0]
    assert (row["seed"], row["param_big"], row["param_text"]) == (2**64 - 1, 2**64 - 1, "ä")
    assert study.digest == Study.from_dict(RunReader(path).run.study.document).digest


KINDS = [st.booleans(), st.text(), st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)]


@given(st.one_of([st.lists(st.none() | kind, min_size=2, max_size=6) for kind in KINDS]))
def test_a_parameter_that_only_some_sets_have_is_null_in_the_others(values):
    """Of every kind, and whether a chunk has only such sets, only others, or both."""
    assume(any(value is not None for value in values))
    sets = [{"params": {"i": i} | ({} if value is None else {"p": value})} for i, value in enumerate(values)]
    study = Study.from_dict({"model": "m", "scenario": "baseline", "n_replicates": 1, "parameter_sets": sets})
    chunks = [range(1), range(1, len(sets) - 1), range(len(sets) - 1, len(sets))]
    with TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "run", study)
        store.commit([payload(study, positions) for positions in chunks if positions], [])
        found = RunReader(Path(folder) / "run").output("incidence")

    assert [value for value in values for _ in range(3)] == found["param_p"].to_pylist()


def test_a_larger_study_goes_on_with_what_is_done(path):
    """Sets in between move everything; identity and numbers of replicates follow the larger study."""
    older = Study.grid({"beta": [1, 3]}, replicates=2)
    newer = Study.grid({"beta": [3, 2.5, 1]}, replicates=3)
    store = open_store(path, older)
    store.commit([payload(older, [0, 3])], [failure(1)])
    store.close("stopped")

    store = open_store(path, newer)
    assert (Ranges.of([1, 6, 7]), 2, 1) == (store.done(), store.completed, store.failed)
    store.commit([payload(newer, [0, 2, 3, 4, 5, 8])], [])

    undisturbed = path.with_name("undisturbed")
    open_store(undisturbed, newer).commit([payload(newer, [0, 1, 2, 3, 4, 5, 6, 8])], [failure(7)])
    # The model reports positions, which are those of the study it was run for.
    columns = ["task_id", "param_id", "replicate", "seed", "param_beta", "day"]
    expected, found = (RunReader(each) for each in (undisturbed, path))
    rows = [each.simulations().drop_columns(["error_message"]) for each in (expected, found)]
    assert rows[0].equals(rows[1])
    assert expected.output("incidence").select(columns).equals(found.output("incidence").select(columns))
    assert newer.digest == Study.from_dict(found.run.study.document).digest


def test_a_study_that_keeps_other_outputs_is_another_study(path):
    """What was not kept cannot be shown."""
    run_half(path, grid(outputs=["incidence"]))

    with pytest.raises(ResultsError, match="does not contain"):
        open_store(path, grid())


def test_columns_and_numbers_follow_the_larger_study(path):
    """New parameters are null in old rows, whole numbers become floats, replicates are counted anew."""
    sets = [{"params": {"a": 1}, "seed": 7}, {"params": {"a": 2}, "seed": 7}]
    more = [{"params": {"a": 1}, "seed": 5}, *sets, {"params": {"a": 0.5, "b": "x"}, "seed": 7}]
    older, newer = (
        Study.from_dict({"model": "m", "scenario": "baseline", "parameter_sets": each}) for each in (sets, more)
    )
    store = open_store(path, older)
    store.commit([payload(older, [0, 1])], [])
    store.close("complete")

    open_store(path, newer)

    rows = RunReader(path).simulations().select(["replicate", "seed", "param_a", "param_b"]).to_pylist()
    assert rows == [
        {"replicate": 1, "seed": 7, "param_a": 1.0, "param_b": None},
        {"replicate": 0, "seed": 7, "param_a": 2.0, "param_b": None},
    ]
    output = RunReader(path).output("incidence")
    assert output["replicate"].to_pylist() == [1, 1, 1, 0, 0, 0]
    assert (pa.float64(), pa.string()) == (output.schema.field("param_a").type, output.schema.field("param_b").type)


def test_growing_survives_a_crash_at_any_step(tmp_path):
    """Between any two writes the directory reads, and goes on with the larger study."""
    older, newer = Study.grid({"beta": [2]}, replicates=3), Study.grid({"beta": [1, 2.5, 2]}, replicates=3)
    died, after = True, 0
    while died:
        clock = Clock()
        path = tmp_path / str(after)
        store = open_store(path, older, clock=clock)
        store.commit([payload(older, range(2))], [failure(2)])
        before = RunReader(path).output("incidence")["cases"]
        clock.advance(60)
        try:
            with dying(after):
                open_store(path, newer, clock=clock)
            died = False
        except DiedError:
            after += 1
        assert before.equals(RunReader(path).output("incidence")["cases"])
        clock.advance(60)
        assert Ranges([(6, 9)]) == open_store(path, newer, clock=clock).done()
        assert RunReader(path).simulations()["status"].to_pylist() == ["completed", "completed", "failed"]
    assert after > 20


def test_parts_of_a_crash_are_removed_even_if_nothing_is_left_to_do(path):
    """The folders then hold committed parts only."""
    study = grid(1, 1)
    store = open_store(path, study)
    store.commit([payload(study, [0])], [])
    store.close("complete")
    shutil.copy(next((path / "simulations").iterdir()), path / "simulations" / "part-ffffffff-1.parquet")
    (path / "simulations" / ".part-ffffffff-2.parquet.00000000.tmp").write_text("")
    (path / "simulations" / "notes.txt").write_text("mine")

    open_store(path, study)

    assert {"part", "notes.txt"} == {each.name.split("-")[0] for each in (path / "simulations").iterdir()}


def test_a_session_whose_folder_vanished_under_its_first_commit_ends(path, monkeypatch):
    """It never takes a folder that comes later for its own, also one of the same content."""
    link = os.link

    def vanishing(source, target, **at):
        link(source, target, **at)
        if target == "000001.json":
            path.rename(path.with_name("aside"))
            shutil.copytree(path.with_name("aside"), path)

    monkeypatch.setattr(os, "link", vanishing)
    with pytest.raises(RunInUseError, match="moved or removed while this session wrote it"):
        open_store(path, grid())
