"""Real attempts that give no result, and the rows that say so, whatever becomes of the session that commits them."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from support.commands import enter, invoke, write_model, write_study

import modelops_ray as mr

MIB = 2**20
ENDS = ["is done", "needs more", "raises", "is killed", "never ends"]
MODEL = '''\
"""A model that ends as it is told."""

import os
import signal
import time


def simulate(params, seed):
    print(f"as told: {params['end']}")
    if params["end"] == "needs more":
        held = bytearray(200 * 2**20)
        time.sleep(0.5)
        del held
    elif params["end"] == "raises":
        raise LookupError("no such district")
    elif params["end"] == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    while params["end"] == "never ends":
        time.sleep(1.0)
    return {"echo": {"x": seed}}
'''
OPTIONS = {
    "backend": "local",
    "isolation": "fork",
    "memory": "60Mi",
    "timeout": 2.0,
    "attempts": 2,
    "max_failures": "100%",
    "progress": False,
}
DRIVER = """
import os, signal, sys
import modelops_ray as mr
from modelops_ray.store.storage.local import LocalFolder

create = LocalFolder.create

def deadly(folder, name, data):
    if b"attempts/part-" in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return create(folder, name, data)

LocalFolder.create = deadly
mr.run("study.json", out="run", backend="local", isolation="fork", memory="60Mi", max_failures="100%", progress=False)
"""


def entered(monkeypatch, folder):
    """Work in a folder with the model, and a study with one simulation for each of its ends."""
    enter(monkeypatch, folder)
    write_model(folder, MODEL)
    write_study(folder, [{"end": end} for end in ENDS])
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder of the test's own."""
    return entered(monkeypatch, tmp_path / "work")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the whole study, for tests that read it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = entered(patch, tmp_path_factory.mktemp("finished") / "work")
        return mr.run("study.json", out=folder / "run", **OPTIONS)


def ends_of(run):
    """The parameter of every simulation by its task id."""
    table = run.simulations()
    return dict(zip(table["task_id"].to_pylist(), table["param_end"].to_pylist(), strict=True))


def test_every_end_of_a_simulation_but_a_result_has_a_row_with_all_that_is_known(finished):
    """A limit overrun and raised, an exception, a signal, a time limit; the sums are those of the summary."""
    run = finished
    rows, ends = run.attempts().to_pylist(), ends_of(run)

    columns = ("attempt", "cause", "error_type", "killed_by", "follows")
    assert [
        ("needs more", 1, "out_of_memory", "OutOfMemory", "us", "raised"),
        ("raises", 1, "model_error", "LookupError", None, "failed"),
        ("is killed", 1, "crashed", "SIGKILL", None, "retried"),
        ("is killed", 2, "crashed", "SIGKILL", None, "failed"),
        ("never ends", 1, "timeout", "Timeout", "us", "failed"),
    ] == [(ends[row["task_id"]], *(row[name] for name in columns)) for row in rows]
    for row in rows:
        assert (platform.node(), 60 * MIB) == (row["node"], row["limit_bytes"])
        assert row["limit_bytes"] < row["request_bytes"]
        assert f"as told: {ends[row['task_id']]}" in row["printed"]
        assert timedelta(0) < row["ended_at"] - row["started_at"] < timedelta(seconds=30)
    overrun, raised, killed, again, late = rows
    assert 60 * MIB < overrun["peak_bytes"] < 400 * MIB
    assert all(row["peak_bytes"] < 60 * MIB for row in (raised, killed, again, late))
    assert "killed: it used" in overrun["error_message"]
    assert ("no such district", "it took longer than 2 s") == (raised["error_message"], late["error_message"][:23])
    assert late["ended_at"] - late["started_at"] >= timedelta(seconds=2)
    assert killed["ended_at"] <= again["started_at"]
    assert run.summary["attempts"] == run.summary["completed"] + len(rows)


def test_the_last_attempt_of_a_failure_says_what_its_simulation_says(finished):
    """And there are as many as the simulation says, less the one that gave its result."""
    run, rows = finished, finished.attempts().to_pylist()
    same = ("started_at", "ended_at", "node", "request_bytes", "peak_bytes", "cause", "error_type", "error_message")

    for simulation in run.simulations().to_pylist():
        own = [row for row in rows if row["task_id"] == simulation["task_id"]]
        is_failed = simulation["status"] == "failed"
        assert list(range(1, simulation["attempts"] + is_failed)) == [row["attempt"] for row in own]
        if is_failed:
            assert [simulation[name] for name in same] == [own[-1][name] for name in same]


def test_the_table_is_shown_and_exported_by_its_name(work, finished):
    """`results --output attempts`, as an output is."""
    shown = invoke("results", finished.path, "--output", "attempts").stdout
    exported = invoke("results", finished.path, "--output", "attempts", "--to", "attempts.arrow").stdout

    assert "5 rows, 14 columns" in shown
    assert all(word in shown for word in ("task_id", "attempt", "out_of_memory", "us", "raised"))
    assert "5 rows written to attempts.arrow" in exported
    assert finished.attempts().num_rows == mr.open_run(finished.path).attempts().num_rows


def test_a_models_own_output_of_that_name_is_meant_where_it_has_one(work):
    """It was there first."""
    write_model(work, 'def simulate(params, seed):\n    return {"attempts": {"mine": seed}}\n')
    run = mr.run("study.json", out="run", **OPTIONS)

    assert "mine" in invoke("results", "run", "--output", "attempts").stdout
    assert 0 == run.attempts().num_rows


def test_a_driver_that_is_killed_before_it_commits_attempts_leaves_none_and_the_next_one_all(work):
    """Readers see what is committed; the next start removes what is not, and every attempt has one row in the end."""
    write_study(work, [{"end": end} for end in ENDS[:4]])
    environ = os.environ | {"XDG_CACHE_HOME": str(work / "cache")}
    ended = subprocess.run([sys.executable, "-c", DRIVER], cwd=work, env=environ, check=False)
    left = {path.name for path in Path("run/attempts").iterdir()}
    assert (-signal.SIGKILL, 1, 0) == (ended.returncode, len(left), mr.open_run("run").attempts().num_rows)

    run = mr.run("study.json", out="run", **OPTIONS)

    assert not left & {path.name for path in Path("run/attempts").iterdir()}
    rows, ends = run.attempts().to_pylist(), ends_of(run)
    assert [("needs more", 1), ("raises", 1), ("is killed", 1), ("is killed", 2)] == [
        (ends[row["task_id"]], row["attempt"]) for row in rows
    ]


def test_what_is_repeated_counts_on(work):
    """A failure that is repeated has the attempts of both sessions."""
    write_study(work, [{"end": "is done"}, {"end": "is killed"}])
    mr.run("study.json", out="run", **OPTIONS)
    run = mr.run("study.json", out="run", retry_failed=True, **OPTIONS)

    rows = run.attempts().to_pylist()
    assert [(1, "retried"), (2, "failed"), (3, "retried"), (4, "failed")] == [
        (row["attempt"], row["follows"]) for row in rows
    ]
    assert [1, 4] == run.simulations()["attempts"].to_pylist()


def test_the_shards_of_a_run_are_shown_as_one_table(work):
    """In study order, each with its own rows."""
    for number in (1, 2):
        mr.run("study.json", out="run", shard=f"{number}/2", **OPTIONS)
    run = mr.open_run("run")

    ends = ends_of(run)
    assert ["needs more", "raises", "is killed", "is killed", "never ends"] == [
        ends[row["task_id"]] for row in run.attempts().to_pylist()
    ]
