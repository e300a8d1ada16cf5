"""Real processes, real SIGKILL, a real full disk: the run directory survives them all."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.object_servers import Meddler
from support.stores import failure, grid, open_store, payload

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import RunInUseError, StorageError
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.places import open_folder

SETS, REPLICATES = 40, 10
STUDY = grid(SETS, REPLICATES)

WRITER = """
import sys
from modelops_ray.store.storage.places import place_of
from support.stores import attempts, failure, grid, open_store, payload

study = grid(int(sys.argv[2]), int(sys.argv[3]))
payload(study, [0])  # the first table of a process takes a second: pyarrow looks for pandas
print("ready", flush=True)
store = open_store(place_of(sys.argv[1]), study)
pending = [p for start, stop in store.done().gaps(0, 400) for p in range(start, stop)]
print("begun", flush=True)
for at in range(0, len(pending), 2):
    failed, *done = pending[at : at + 2]
    store.commit([payload(study, done)] if done else [], [failure(failed)], [attempts([failed])])
    store.heartbeat({"at": at})
store.close("complete")
"""


def start(path, wait_for="begun"):
    """Start a process that goes on with the run, and wait until its session has begun, or is about to."""
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(SETS), str(REPLICATES)], stdout=subprocess.PIPE, env=environ
    )
    while (line := process.stdout.readline().decode().strip()) != wait_for:
        assert line == "ready"
    return process


def end(process, number=signal.SIGKILL):
    """End it, and free its pipe."""
    process.send_signal(number)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    "new_place",
    [pytest.param(place, marks=pytest.mark.long) for place in ("local", "s3", "azure")],
    indirect=True,
)
def test_ten_kills_at_random_moments_change_nothing(new_place):
    """What is committed stays, what is not runs again, and the end equals that of one undisturbed session."""
    path = new_place("run")
    longest_s = 0.25 if isinstance(path, Path) else 1.0
    dice = random.Random(7)
    seen = Ranges()
    for _ in range(10):
        process = start(path, wait_for="ready")
        time.sleep(dice.uniform(0, longest_s))
        end(process)
        if open_folder(path).size("run.json") is None:
            continue
        done = RunReader(path).log().done()
        assert set(seen) <= set(done)
        assert RunReader(path).simulations().num_rows == len(done)
        seen = done
    assert 0 < len(seen) < SETS * REPLICATES

    store = open_store(path, STUDY, take_over=not isinstance(path, Path))
    rest = [position for position in range(SETS * REPLICATES) if position not in store.done()]
    store.commit([payload(STUDY, rest)], [])
    store.close("complete")

    reader = RunReader(path)
    undisturbed = new_place("undisturbed")
    failed = [i for i, status in enumerate(reader.simulations()["status"].to_pylist()) if status == "failed"]
    completed = [position for position in range(SETS * REPLICATES) if position not in set(failed)]
    open_store(undisturbed, STUDY).commit([payload(STUDY, completed)], [failure(position) for position in failed])
    assert RunReader(undisturbed).simulations().equals(reader.simulations())
    assert RunReader(undisturbed).output("incidence").equals(reader.output("incidence"))
    ids = reader.simulations()["task_id"].take(failed).to_pylist()
    assert ids == reader.attempts()["task_id"].to_pylist()
    places = ["simulations", "attempts", "outputs/incidence"]
    assert set(reader.log().parts) == {f"{at}/{name}" for at in places for name in open_folder(path).names(at)}


@pytest.mark.long
@pytest.mark.parametrize("new_place", ["s3", "azure"], indirect=True)
def test_a_writer_that_is_killed_in_the_middle_of_an_upload_leaves_a_run_that_goes_on(new_place, request, monkeypatch):
    """The store has half of a part; no commit names it, and the next start is not troubled by it."""
    server = request.getfixturevalue(request.node.callspec.params["new_place"])
    path = new_place("run")
    store = open_store(path, STUDY)
    store.commit([payload(STUDY, range(5))], [])
    store.close("stopped")
    with Meddler(server.port) as meddler, monkeypatch.context() as patch:
        meddler.spoil = lambda method, where, _: "cut" if method == "PUT" and "outputs/" in where else "pass"
        for name, value in server.environ_through(meddler).items():
            patch.setenv(name, value)
        process = start(path)
        assert meddler.has_cut.wait(60)
        end(process)

    assert 5 == RunReader(path).simulations().num_rows
    store = open_store(path, STUDY, take_over=True)
    assert 5 == store.completed
    store.commit([payload(STUDY, range(5, 400))], [])
    store.close("complete")
    assert 1200 == RunReader(path).output("incidence").num_rows
    assert set(RunReader(path).log().parts) == {
        f"{at}/{name}" for at in ("simulations", "outputs/incidence") for name in open_folder(path).names(at)
    }


def test_a_killed_session_is_recognised_at_once(tmp_path):
    """Its heartbeat is young, and the next session does not wait a minute for it."""
    process = start(tmp_path / "run")
    end(process)

    assert RunReader(tmp_path / "run").status().running is False
    open_store(tmp_path / "run", STUDY)


def test_a_living_session_is_respected_and_can_be_ended(tmp_path):
    """The second one is told the process; with take_over the first one ends by itself."""
    path = tmp_path / "run"
    process = start(path)
    process.send_signal(signal.SIGSTOP)

    with pytest.raises(RunInUseError, match=f"process {process.pid} on .*--take-over"):
        open_store(path, STUDY)
    store = open_store(path, STUDY, take_over=True)
    process.send_signal(signal.SIGCONT)

    assert process.wait(20) == 1
    process.stdout.close()
    rest = [position for position in range(SETS * REPLICATES) if position not in store.done()]
    store.commit([payload(STUDY, rest)], [])
    store.close("complete")
    ids = RunReader(path).simulations()["task_id"].to_pylist()
    assert SETS * REPLICATES == len(ids) == max(Counter(ids).values()) * len(set(ids))


@pytest.mark.parametrize("whole", [True, False], ids=["directory", "its content"])
def test_a_stopped_session_whose_directory_was_made_again_adds_nothing(tmp_path, whole):
    """Removed and made anew at once, where file systems like to give the same inode again."""
    path = tmp_path / "run"
    process = start(path)
    while not RunReader(path).log().done():
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    if whole:
        shutil.rmtree(path)
    else:
        for each in path.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    store = open_store(path, STUDY)
    store.commit([payload(STUDY, [SETS * REPLICATES - 1])], [])
    process.send_signal(signal.SIGCONT)

    assert process.wait(20) == 1
    process.stdout.close()
    store.commit([payload(STUDY, [0])], [])
    store.close("stopped")
    assert [0, SETS * REPLICATES - 1] == list(open_store(path, STUDY).done())
    assert 2 == RunReader(path).simulations().num_rows


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"this system mounts no disk: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill_up(folder):
    """Leave not a page free."""
    disk = os.statvfs(folder)
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * disk.f_bavail * disk.f_frsize)
    return ballast


def test_a_full_disk_ends_the_session_in_a_state_that_goes_on(small_disk):
    """Everything committed reads back, nothing else is left, and with room the rest is committed."""
    path = small_disk / "run"
    store = open_store(path, STUDY)
    store.commit([payload(STUDY, range(10))], [])
    ballast = fill_up(small_disk)

    with pytest.raises(StorageError, match="no space left on the device; free some and start again"):
        store.commit([payload(STUDY, range(10, 400))], [])

    assert RunReader(path).simulations().num_rows == 10
    assert not list(path.rglob("*.tmp"))
    assert {str(path / part) for part in RunReader(path).log().parts} == {str(e) for e in path.rglob("*part-*")}
    ballast.unlink()
    store.commit([payload(STUDY, range(10, 200))], [])
    store.close("complete")
    assert RunReader(path).output("incidence").num_rows == 600
    assert json.loads((path / "progress.json").read_text())["ending"] == "complete"


def test_a_full_disk_at_the_start_is_named(small_disk):
    """Nothing is begun."""
    fill_up(small_disk)

    with pytest.raises(StorageError, match=r"run\.json: no space left on the device"):
        open_store(small_disk / "run", STUDY)
