"""A run has an identity, and so has its session: clocks, words and names of directories decide neither."""

import hashlib
import json
import sys
from datetime import timedelta

import pytest
from support.stores import Clock, grid, open_store, payload

from modelops_ray.errors import ResultsError, RunInUseError
from modelops_ray.store.heartbeat import Progress, read_progress, write_progress
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.local import LocalFolder
from modelops_ray.store.writer import Surroundings


@pytest.fixture
def path(tmp_path):
    """A run directory that is not there yet."""
    return tmp_path / "run"


ELSEWHERE = {"host": "elsewhere", "pid": 7}


def say_again(path, **change):
    """Change the latest word of a session."""
    found = read_progress(LocalFolder(path))
    write_progress(LocalFolder(path), Progress.model_validate(found.model_dump() | change))


@pytest.mark.parametrize("ahead_s", [1, 65, 3600, 86400])
def test_a_heartbeat_of_the_future_is_one_of_a_clock_that_is_ahead(path, ahead_s):
    """It counts as younger than a minute; the message says which clock."""
    clock = Clock()
    open_store(path, grid(), clock=clock)
    say_again(path, **ELSEWHERE, heartbeat=clock.now + timedelta(seconds=ahead_s))
    before = (path / "progress.json").read_bytes()

    for how in ({}, {"fresh": True}):
        with pytest.raises(
            RunInUseError, match=f"last heard of by a clock that is {ahead_s} s ahead of .* --take-over"
        ):
            open_store(path, grid(), clock=clock, **how)
    assert before == (path / "progress.json").read_bytes()
    assert RunReader(path, clock).status().running
    open_store(path, grid(), clock=clock, take_over=True)


@pytest.mark.parametrize(
    ("behind_s", "listens", "says", "free"),
    [
        (59, False, False, False),
        (65, True, True, False),
        (65, True, False, True),
        (600, True, True, False),
        (901, False, True, True),
    ],
)
def test_a_session_elsewhere_whose_clock_may_be_behind_is_listened_to(path, behind_s, listens, says, free):
    """One that says something is alive, at any time that it says; one that is silent is over."""
    clock = Clock()
    open_store(path, grid(), clock=clock)
    heartbeat = clock.now - timedelta(seconds=behind_s)
    say_again(path, **ELSEWHERE, heartbeat=heartbeat)
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if says and len(pauses) == 3:
            say_again(path, heartbeat=heartbeat + timedelta(seconds=3))

    around = Surroundings(clock, sleep=pause)
    if free:
        open_store(path, grid(), around=around)
    else:
        with pytest.raises(RunInUseError, match="process 7 on elsewhere writes this run directory"):
            open_store(path, grid(), around=around)
    assert listens == bool(pauses)
    assert sum(pauses) < 10


def test_the_word_of_a_session_of_another_run_does_not_hold_this_one(path):
    """It was slow, and is not the one that writes here."""
    clock = Clock()
    open_store(path, grid(), clock=clock)
    say_again(path, **ELSEWHERE, run="ab" * 16)

    open_store(path, grid(), clock=clock)


@pytest.mark.parametrize(
    "change", [{"pid": 10**30}, {"pid": -1}, {"started_ticks": 10**400}, {"counters": [[[]]]}, {"heartbeat": "soon"}]
)
def test_a_word_that_makes_no_sense_is_named(path, change):
    """In one line."""
    open_store(path, grid()).close("stopped")
    document = json.loads((path / "progress.json").read_text())
    sys.set_int_max_str_digits(0)
    (path / "progress.json").write_text(json.dumps(document | change))
    sys.set_int_max_str_digits(4300)

    with pytest.raises(ResultsError, match=r"progress\.json: not a progress file .*delete it"):
        RunReader(path).status()


def test_starting_over_twice_within_a_second_keeps_both(path):
    """The second name has a number."""
    clock = Clock()
    for position in range(3):
        store = open_store(path, grid(), clock=clock, fresh=True)
        store.commit([payload(grid(), [position])], [])
        store.close("stopped")

    found = sorted(each.name for each in path.parent.iterdir())
    assert ["run", "run.old-20250301T120000Z", "run.old-20250301T120000Z-2"] == found
    assert [[2], [0], [1]] == [list(open_store(path.parent / name, grid()).done()) for name in found]


def test_starting_over_behind_a_link_stays_on_its_disk(path):
    """The old run lies beside the new one, and the link leads to the new one."""
    disk = path.parent / "disk"
    disk.mkdir()
    path.symlink_to(disk / "sir")
    for position in range(2):
        store = open_store(path, grid(), clock=Clock(), fresh=True)
        store.commit([payload(grid(), [position])], [])
        store.close("stopped")

    assert path.is_symlink()
    assert ["sir", "sir.old-20250301T120000Z"] == sorted(each.name for each in disk.iterdir())
    assert [1] == list(open_store(path, grid()).done())


def test_a_run_has_an_id_that_every_commit_carries(path):
    """Two runs of one question have two; a run keeps its own."""
    ids = []
    for fresh in (True, True, False):
        store = open_store(path, grid(), fresh=fresh)
        store.commit([payload(grid(), [len(ids)])], [])
        store.close("stopped")
        ids.append(json.loads((path / "run.json").read_text())["id"])
        commits = [json.loads(each.read_text()) for each in sorted((path / "_commits").iterdir())]
        assert {ids[-1]} == {commit["run"] for commit in commits}
        assert len(commits) == len({commit["previous"] for commit in commits})

    assert ids[0] != ids[1] == ids[2]


def test_a_run_of_format_1_goes_on_and_keeps_what_it_has(path):
    """Its file stays as it is; what is added is a chain."""
    store = open_store(path, grid())
    store.commit([payload(grid(), [0, 1])], [])
    store.close("stopped")
    make_format_1(path)
    before = (path / "run.json").read_bytes()
    assert 2 == RunReader(path).simulations().num_rows

    store = open_store(path, grid())
    assert [0, 1] == list(store.done())
    store.commit([payload(grid(), [2])], [])
    store.close("stopped")
    open_store(path, grid(5), take_over=True).commit([payload(grid(5), [24])], [])

    assert (before, 4, 25) == (
        (path / "run.json").read_bytes(),
        RunReader(path).simulations().num_rows,
        RunReader(path).status().total,
    )


def make_format_1(path):
    """Write a run as earlier versions did."""
    document = json.loads((path / "run.json").read_text()) | {"format": 1}
    (path / "run.json").write_text(json.dumps({key: document[key] for key in document.keys() - {"id", "log_from"}}))
    for each in (path / "_commits").iterdir():
        commit = json.loads(each.read_text()) | {"format": 1}
        new = {"run", "previous", "grown", "closed", "sha256"}
        body = json.dumps({key: commit[key] for key in commit if key not in new}, separators=(",", ":")).encode()[:-1]
        each.write_bytes(body + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n')
