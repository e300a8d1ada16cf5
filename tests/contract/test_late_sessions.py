"""Sessions that wake when their run directory is no longer theirs: what they do then is seen by no reader."""

import shutil
from pathlib import Path

import pytest
from support.stores import Clock, grid, open_store, opened, payload

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ModelopsRayError, ResultsError, RunInUseError, StorageError
from modelops_ray.store import opening
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.local import LocalFolder
from modelops_ray.store.storage.objects import ObjectFolder
from modelops_ray.store.storage.places import open_folder

STUDY = grid(4, 5)

pytestmark = pytest.mark.parametrize("new_place", ["local", "s3", "azure"], indirect=True)


def by(name):
    """A model whose rows say which session kept them."""
    return lambda _: {"o": {"by": [name]}}


def start_over(place):
    """Another session moves the run aside and begins anew."""
    return open_store(place, STUDY, take_over=True, fresh=True)


def make_again(place):
    """A user removes the directory, and begins anew where it was."""
    _remove(place)
    return open_store(place, STUDY)


def empty_and_make_again(place):
    """A user removes what is in the directory, and begins anew in it."""
    if isinstance(place, Path):
        for each in place.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    else:
        _remove(place)
    return open_store(place, STUDY)


def _remove(place):
    if isinstance(place, Path):
        shutil.rmtree(place)
        return
    folder = open_folder(place)
    for at in ("", "_commits", "simulations", "outputs/o"):
        for name in folder.sizes(at):
            folder.remove(f"{at}/{name}".lstrip("/"))


def at_the_moment_of(monkeypatch, method, name, happens):
    """Let something happen just before a session does this to a file, once."""
    for kind in (LocalFolder, ObjectFolder):
        real = getattr(kind, method)

        def late(self, file, *args, real=real):
            if file.endswith(name) and not happened:
                happened.append(name)
                happens()
            return real(self, file, *args)

        monkeypatch.setattr(kind, method, late)
    happened = []


def before(monkeypatch, module, step, happens):
    """Let something happen just before a session makes this step of its start, once."""
    real, happened = getattr(module, step), []

    def overtaken(*args):
        if not happened:
            happened.append(step)
            happens()
        return real(*args)

    monkeypatch.setattr(module, step, overtaken)


@pytest.mark.parametrize(
    ("happens", "method", "name"),
    [
        (start_over, "create", "000003.json"),
        (make_again, "create", "000003.json"),
        (empty_and_make_again, "create", "000003.json"),
        (start_over, "write", "-4.parquet"),
        (make_again, "write", "-3.parquet"),
        (empty_and_make_again, "replace", "progress.json"),
    ],
)
def test_what_was_on_its_way_is_not_part_of_a_run_that_began_meanwhile(new_place, monkeypatch, happens, method, name):
    """The new session goes on, past the number that was taken too, and shows its own rows only."""
    place = new_place("run")
    first = open_store(place, STUDY)
    first.commit([payload(STUDY, [0], by("first"))], [])
    second = []
    at_the_moment_of(monkeypatch, method, name, lambda: second.append(happens(place)))

    def go_on():
        first.commit([payload(STUDY, [1], by("first"))], [])
        first.heartbeat({})
        first.commit([payload(STUDY, [2], by("first"))], [])

    with pytest.raises(ModelopsRayError):
        go_on()
    for position in range(4):
        second[0].commit([payload(STUDY, [position], by("second"))], [])
    second[0].close("stopped")

    assert ["second"] * 4 == RunReader(place).output("o")["by"].to_pylist()
    assert Ranges([(0, 4)]) == open_store(place, STUDY).done()


def test_a_first_commit_that_was_on_its_way_opens_nothing(new_place, monkeypatch):
    """Its session had begun a run that is no longer there."""
    place = new_place("run")
    second = []
    at_the_moment_of(monkeypatch, "create", "000001.json", lambda: second.append(start_over(place)))

    with pytest.raises(ModelopsRayError):
        open_store(place, STUDY)
    second[0].commit([payload(STUDY, [3], by("second"))], [])

    assert ["second"] == RunReader(place).output("o")["by"].to_pylist()


def test_a_session_that_begins_late_removes_nothing_of_the_one_that_took_over(new_place, monkeypatch):
    """What it takes for leftovers was there before its own first commit."""
    place = new_place("run")
    open_store(place, STUDY)

    def take_over():
        open_store(place, STUDY, take_over=True).commit([payload(STUDY, [0], by("second"))], [])

    before(monkeypatch, opening, "_forget", take_over)
    with pytest.raises(RunInUseError, match="has taken over"):
        open_store(place, STUDY, take_over=True)

    assert ["second"] == RunReader(place).output("o")["by"].to_pylist()


def test_of_two_sessions_that_go_on_with_larger_studies_one_does(new_place, monkeypatch):
    """The slower one changes nothing that says which study the rows are of."""
    place = new_place("run")
    store = open_store(place, STUDY)
    store.commit([payload(STUDY, [7], by("first"))], [])
    store.close("stopped")

    def take_over():
        open_store(place, grid(6, 5), take_over=True).commit([payload(grid(6, 5), [29], by("second"))], [])

    before(monkeypatch, opening, "_extend", take_over)
    with pytest.raises(RunInUseError, match="has taken over"):
        open_store(place, grid(5, 5), take_over=True)

    reader = RunReader(place)
    assert (30, ["first", "second"]) == (reader.status().total, reader.output("o")["by"].to_pylist())


def test_of_two_that_start_over_at_the_same_moment_one_is_told(new_place, monkeypatch):
    """What the faster one has committed since stays where it is."""
    place = new_place("run")
    store = open_store(place, STUDY)
    store.commit([payload(STUDY, [0], by("first"))], [])

    def overtake():
        start_over(place).commit([payload(STUDY, [1], by("second"))], [])

    step = "part_names" if isinstance(place, str) else "require_replaceable"
    found = opened(place, STUDY, take_over=True, fresh=True)
    before(monkeypatch, opening, step, overtake)
    with pytest.raises(StorageError, match="another session started over at the same moment; start again"):
        found.begin()

    assert ["second"] == RunReader(place).output("o")["by"].to_pylist()


def test_a_reader_shows_one_run_or_says_that_another_one_began(new_place):
    """Not the rows of one beside the outputs of the other."""
    place = new_place("run")
    store = open_store(place, STUDY)
    store.commit([payload(STUDY, [0, 1], by("first"))], [])
    store.close("stopped")
    reader = RunReader(place)
    assert 2 == reader.simulations().num_rows
    open_store(place, STUDY, fresh=True).commit([payload(STUDY, [3], by("second"))], [])

    with pytest.raises(ResultsError, match="another run has begun here since it was opened; open it again"):
        reader.output("o")
    assert ["second"] == RunReader(place).output("o")["by"].to_pylist()


@pytest.mark.parametrize("moment", [2, 5, 8, 11])
def test_a_reader_that_is_overtaken_reads_again_or_refuses(new_place, monkeypatch, moment):
    """At any file that it was writing when another run began."""
    place = new_place("run")
    store = open_store(place, STUDY)
    for position in range(3):
        store.commit([payload(STUDY, [position], by("first"))], [])
    store.close("stopped")
    reads = []

    for kind in (LocalFolder, ObjectFolder):
        real = kind.read_marked

        def counted(self, name, real=real):
            reads.append(name)
            if len(reads) == moment:
                start_over(place).commit([payload(STUDY, [9], by("second"))], [])
            return real(self, name)

        monkeypatch.setattr(kind, "read_marked", counted)
    try:
        found = RunReader(place).output("o")["by"].to_pylist()
    except ResultsError as error:
        found = str(error)

    assert moment <= len(reads)
    assert found in (["first"] * 3, ["second"]) or "another run has begun here since it was opened" in found


def test_what_another_session_did_after_the_directory_was_read_is_not_done_again(new_place):
    """It came and went while this one started what runs the simulations."""
    place = new_place("run")
    open_store(place, STUDY).close("stopped")
    late = opened(place, STUDY)
    other = open_store(place, STUDY)
    other.commit([payload(STUDY, [0, 1], by("other"))], [])
    other.close("stopped")

    store = late.begin()
    assert Ranges([(0, 2)]) == store.done()
    store.commit([payload(STUDY, [2], by("late"))], [])

    assert ["other", "other", "late"] == RunReader(place).output("o")["by"].to_pylist()


@pytest.mark.parametrize("was_there", [True, False])
def test_another_session_that_began_after_the_directory_was_read_is_not_disturbed(new_place, was_there):
    """Whether the run is one of before, or began in between."""
    place = new_place("run")
    if was_there:
        open_store(place, STUDY).close("stopped")
    late = opened(place, STUDY)
    other = open_store(place, STUDY)

    with pytest.raises(RunInUseError, match="writes this run directory"):
        late.begin()
    other.commit([payload(STUDY, [0], by("other"))], [])

    assert ["other"] == RunReader(place).output("o")["by"].to_pylist()


def test_a_session_that_wakes_after_the_directory_was_read_is_noticed(new_place):
    """It had not been heard of for an hour, and then says a word."""
    place = new_place("run")
    clock = Clock()
    slow = open_store(place, STUDY, clock=clock)
    clock.advance(3600)
    late = opened(place, STUDY, clock=clock)
    slow.heartbeat({})

    with pytest.raises(RunInUseError, match="writes this run directory"):
        late.begin()


@pytest.mark.parametrize("happens", [start_over, make_again, empty_and_make_again])
def test_a_run_that_began_anew_after_the_directory_was_read_is_gone_on_with(new_place, happens):
    """What was read of the one before does not count."""
    place = new_place("run")
    first = open_store(place, STUDY)
    first.commit([payload(STUDY, [0, 1], by("first"))], [])
    first.close("stopped")
    late = opened(place, STUDY)
    second = happens(place)
    second.commit([payload(STUDY, [5], by("second"))], [])
    second.close("stopped")

    store = late.begin()
    assert Ranges([(5, 6)]) == store.done()
    store.commit([payload(STUDY, [6], by("late"))], [])

    assert ["second", "late"] == RunReader(place).output("o")["by"].to_pylist()


def test_a_directory_that_was_removed_after_it_was_read_is_made_anew(new_place):
    """Nothing of what was read is there any more."""
    place = new_place("run")
    first = open_store(place, STUDY)
    first.commit([payload(STUDY, [0], by("first"))], [])
    first.close("stopped")
    late = opened(place, STUDY)
    _remove(place)

    store = late.begin()
    assert Ranges() == store.done()
    store.commit([payload(STUDY, [1], by("late"))], [])

    assert ["late"] == RunReader(place).output("o")["by"].to_pylist()


def test_a_study_that_another_session_finished_after_the_directory_was_read_leaves_nothing_to_do(new_place):
    """There is no session then, and nothing is written."""
    place = new_place("run")
    open_store(place, STUDY).close("stopped")
    late = opened(place, STUDY)
    other = open_store(place, STUDY)
    other.commit([payload(STUDY, range(20), by("other"))], [])
    other.close("complete")
    before = open_folder(place).names("_commits")

    store = late.begin()
    assert (20, 0) == (store.completed, store.failed)
    store.close("complete")
    assert before == open_folder(place).names("_commits")
