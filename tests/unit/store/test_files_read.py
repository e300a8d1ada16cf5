"""The commit log says which files results depend on, and how many do; a start compares them with what they are now."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from support.stores import attempts, failure, grid, open_store, opened, payload

from modelops_ray.errors import ResultsError
from modelops_ray.sandbox.loading import ModelRef
from modelops_ray.sandbox.reading import FileState, digest_of_file
from modelops_ray.store.commits import FileUse, read_log
from modelops_ray.store.files_read import MAX_FILES, read_by
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import ShardEntry
from modelops_ray.store.storage.places import open_folder
from modelops_ray.study.chunk import ReadTogether

OTHER = "00" * 32


@pytest.fixture
def model(tmp_path):
    """A model that reads `a.csv` at its import, and `b.csv` beside it."""
    for name in ("sir.py", "a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    imported = (state_of(tmp_path / "a.csv"),)
    return ModelRef(
        "file", "sir.py:simulate", "sir.simulate", "cd" * 32, "simulate", str(tmp_path / "sir.py"), imported=imported
    )


@pytest.fixture
def path(tmp_path):
    """A run directory that is not there yet."""
    return tmp_path / "run"


def state_of(file) -> FileState:
    """A file as it is now."""
    return FileState(file.name, digest_of_file(str(file)))


def reading(study, positions, *files, first=0):
    """Results of which those from the index `first` read these files."""
    together = ReadTogether(tuple(positions), tuple((file, first) for file in files))
    return replace(payload(study, positions), read=(together,))


def used(path):
    """How many results depend on each file."""
    return {name: use.results for name, use in read_log(open_folder(path)).files.items()}


def test_every_result_depends_on_what_the_import_reads_and_some_on_what_they_read(path, model):
    """Counted over commits and sessions; failures and attempts depend on nothing."""
    b = state_of(path.parent / "b.csv")
    store = open_store(path, grid(), model=model)
    store.commit([reading(grid(), [0, 1, 2], b, first=1)], [failure(3)])
    store.commit([payload(grid(), [4])], [], [attempts([5])])
    store.close("stopped")
    store = open_store(path, grid(), model=model)
    store.commit([reading(grid(), [5, 6], b)], [])
    assert {"a.csv": 6, "b.csv": 4} == used(path)


def test_results_that_are_left_out_are_not_counted():
    """A simulation whose outputs do not fit is a failure."""
    b = FileState("b.csv", OTHER)
    assert {b: 1} == read_by([reading(grid(), [0, 1, 2, 3], b, first=2)], frozenset({1, 3}))
    assert {} == read_by([reading(grid(), [0], b)], frozenset({0}))


def test_a_larger_study_keeps_the_numbers(path, model):
    """Results that are only given other positions are no new ones."""
    store = open_store(path, grid(), model=model)
    store.commit([reading(grid(), [0, 1], state_of(path.parent / "b.csv"))], [])
    store.close("stopped")
    larger = grid(sets=6)
    store = open_store(path, larger, model=model)
    assert {"a.csv": 2, "b.csv": 2} == used(path)
    store.commit([payload(larger, [7])], [])
    assert {"a.csv": 3, "b.csv": 2} == used(path)


@pytest.mark.parametrize("sha256", [OTHER, None], ids=["another", "not known"])
def test_a_file_that_changes_while_the_run_is_on_ends_it(path, model, sha256):
    """What was read of it by then stays; nothing of the commit that saw the change is there."""
    store = open_store(path, grid(), model=model)
    store.commit([reading(grid(), [0, 1], state_of(path.parent / "b.csv"))], [])
    with pytest.raises(ResultsError, match=r"^b\.csv changed while the run was on, and 2 results used it as it was; "):
        store.commit([reading(grid(), [2], FileState("b.csv", sha256))], [])
    assert {"a.csv": 2, "b.csv": 2} == used(path)


def test_a_changed_file_is_named_with_its_results_unless_that_is_accepted(path, model):
    """The one that most results used first; accepted, it is the state of the results that are kept."""
    store = open_store(path, grid(), model=model)
    store.commit([payload(grid(), [0]), reading(grid(), [1], state_of(path.parent / "b.csv"))], [])
    store.close("stopped")
    for name in ("a.csv", "b.csv"):
        (path.parent / name).write_text("new")
    with pytest.raises(ResultsError, match=r"a\.csv \(and 1 more\) has changed since 2 results used it; --accept-"):
        opened(path, grid(), model=model)
    (path.parent / "b.csv").unlink()
    open_store(path, grid(), model=model, accepts_changes=True).close("stopped")
    new = hashlib.sha256(b"new").hexdigest()
    assert {"a.csv": FileUse(new, 2), "b.csv": FileUse(None, 1)} == read_log(open_folder(path)).files
    opened(path, grid(), model=model)


def test_a_run_keeps_no_more_files_than_it_can_compare(path, model):
    """Where every simulation reads files of its own, the log is not filled with them."""
    files = [FileState(f"{n}.csv", OTHER) for n in range(MAX_FILES + 10)]
    store = open_store(path, grid(), model=model)
    store.commit([reading(grid(), [0], *files)], [])
    store.commit([reading(grid(), [1], *files)], [])
    assert MAX_FILES <= len(used(path)) <= MAX_FILES + 1
    assert 2 == used(path)["0.csv"]


def test_simulations_keep_the_identities_that_the_run_began_with(path, model):
    """A comment in the model, once accepted, gives the same simulation no second task_id."""
    began = opened(path, grid(), model=model)
    began.begin().close("stopped")
    other = "sha256:" + "ef" * 32
    again = opened(path, grid(), model=model, bundle_ref=other)
    assert began.identity.bundle_ref == again.identity.bundle_ref != other


def test_the_files_of_shards_are_those_of_one_run(path, model):
    """Their results add up."""
    for number, positions in ((1, [0, 1]), (2, [10])):
        part = ShardEntry(number=number, of=2, simulations=10)
        store = open_store(path / "shards" / f"{number}-of-2", grid(), model=model, shard=part)
        store.commit([payload(grid(), positions)], [])

    assert {"a.csv": FileUse(state_of(path.parent / "a.csv").sha256, 3)} == RunReader(path).files()
