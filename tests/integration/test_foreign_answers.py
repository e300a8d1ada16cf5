"""One of twelve simulations sends what no answer is, or returns what cannot be kept: the other eleven complete."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from support.models import chunk_of, context_of, write
from support.short_folder import short_folder
from support.studies import rows

from modelops_ray.runner import overdue
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.store.batch import TableSchemas, assemble
from modelops_ray.study.schema import identity_fields, simulations_schema

MODEL = '''
"""Simulation 2 of 12 does what its parameters say."""

import os
import socket
import stat
import time

import pyarrow as pa


HELD = []


def sockets():
    """The sockets of this process, as a loop over all descriptors finds them."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if fd > 2 and stat.S_ISSOCK(os.fstat(fd).st_mode):
                yield fd
        except OSError:
            pass


def wait():
    while True:
        time.sleep(0.05)


def to_the_server():
    """What a model finds that looks for sockets by their names."""
    for line in open("/proc/net/unix"):
        path = line.split()[-1]
        if path.endswith("/socket") and path.startswith(os.environ["TMPDIR"].rpartition("/")[0]):
            for data in (b"abc", b"\\xff" * 100, b"\\0" * 100):
                HELD.append(one := socket.socket(socket.AF_UNIX))
                try:
                    one.connect(path)
                    one.sendall(data)
                except OSError:
                    pass
    time.sleep(0.2)


def simulate(params, seed):
    how = params["how"] if params["i"] == 2 else ""
    if how == "junk":
        for fd in sockets():
            os.write(fd, b"12 rows written to out.csv, as a line meant for another descriptor would say" * 9)
    elif how == "zeros":
        for fd in sockets():
            os.write(fd, bytes(100))
    elif how == "three bytes":
        for fd in sockets():
            os.write(fd, b"\\0\\0\\0")
        wait()
    elif how == "three bytes and returns":
        for fd in sockets():
            os.write(fd, b"\\0\\0\\0")
    elif how == "promises much":
        for fd in sockets():
            os.write(fd, b"\\0\\0\\0\\x02\\0\\0\\0\\1\\0\\0\\0\\0\\x70\\0\\0\\0{}")
        wait()
    elif how == "closes":
        os.closerange(3, os.sysconf('SC_OPEN_MAX'))
    elif how == "shuts down":
        for fd in sockets():
            socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_RDWR)
    elif how == "server":
        to_the_server()
    elif how == "surrogate":
        return {"r": {"caf\\udce9.csv": 1.0}}
    elif how == "surrogate in a table":
        return {"r": {"caf\\udce9.csv": [1.0]}}
    elif how == "long name":
        return {"r" * 300: {"x": 1.0}}
    elif how == "path":
        return {"../../r": {"x": 1.0}, "r": {"x": 1.0}}
    elif how == "view":
        return {"r": pa.table({"x": pa.array([[1.0]], pa.list_view(pa.float64()))})}
    elif how == "long type":
        raise type("T" * 3_000_000, (Exception,), {})("x")
    elif how == "sits":
        os.kill(os.getpid(), 19)
    elif how in ("ends the server", "stops the server"):
        os.kill(os.getppid(), 9 if how == "ends the server" else 19)
        wait()
    if params["how"] == "view":
        return {"r": {"x": [None]}}
    return {"r": {"x": 1.0, "i": params["i"]}}
'''
GARBLED = ("crashed", "Garbled")
BAD = ("bad_output", "BadOutput")


@pytest.fixture(scope="module")
def context():
    """The model, with one server for all tests of this file and each level; it ends with them."""
    with short_folder(idle_s=2.0) as folder:
        ready = context_of(write(folder / "model" / "model.py", MODEL), timeout_s=2.0)
        types = {"i": pa.int64(), "how": pa.string()}
        yield replace(ready, run=replace(ready.run, parameter_types=types))


@pytest.fixture
def run(context):
    """Run twelve simulations, of which number 2 does this; return what was kept of the others, and the failures."""

    def run(how, n=12, **options):
        ready = replace(context, **({"isolation": "fork"} | options))
        report, payload = run_chunk(ready, chunk_of([{"i": i, "how": how} for i in range(n)]))
        columns = ready.run.parameter_types
        batch = assemble([payload], {}, TableSchemas(simulations_schema(columns), identity_fields(columns)))
        failures = [*report.failures, *batch.rejected]
        return batch, {failure.position - 10: (str(failure.cause), failure.error_type) for failure in failures}

    return run


NO_ANSWERS = {
    "junk": GARBLED,
    "zeros": GARBLED,
    "three bytes": ("timeout", "Timeout"),
    "three bytes and returns": GARBLED,
    "promises much": ("timeout", "Timeout"),
    "closes": ("crashed", "Exit"),
    "shuts down": ("crashed", "Exit"),
    "sits": ("timeout", "Timeout"),
}
# Of several in one child it has to be found out who it was; one that is alone is the same for all forms.
ALONE_IN_TIME = {"junk": (), "three bytes": ()}


@pytest.mark.parametrize(
    ("how", "per_child"),
    [
        *((how, 12) for how in NO_ANSWERS),
        *(pytest.param(how, 1, marks=ALONE_IN_TIME.get(how, pytest.mark.long)) for how in NO_ANSWERS),
    ],
)
def test_what_is_no_answer_is_the_failure_of_the_simulation_that_sent_it(run, how, per_child):
    """Also where several share a child: the chunk goes on, and nothing waits for the rest of such an answer."""
    batch, failed = run(how, per_child=per_child)
    assert {2: NO_ANSWERS[how]} == failed
    assert [10 + i for i in range(12) if i != 2] == batch.positions.tolist()
    assert 11 == batch.outputs["r"].num_rows


@pytest.mark.parametrize(("isolation", "how"), [("reuse", "junk"), ("fresh", "three bytes and returns")])
def test_the_same_holds_for_children_that_load_the_model_themselves(run, isolation, how):
    """What one of them sent does not reach the supervisor that has the child next."""
    for _ in range(2):
        _, failed = run(how, 4, isolation=isolation, timeout_s=30.0)
        assert {2: GARBLED} == failed


@pytest.mark.parametrize("how", ["ends the server", "stops the server"])
@pytest.mark.parametrize("isolation", ["fork", pytest.param("reuse", marks=pytest.mark.long)])
def test_who_ends_the_server_fails_for_it_and_those_beside_it_run_again(run, isolation, how):
    """Twice: the first time it is not known which one it was."""
    batch, failed = run(how, isolation=isolation, timeout_s=60.0)
    assert ({2: ("crashed", "ServerEnded")}, 11) == (failed, len(batch.positions))


def test_silence_in_the_middle_of_a_message_ends_without_a_time_limit_too(run, monkeypatch):
    """A child that has begun to answer goes on with it."""
    monkeypatch.setattr(overdue, "SILENT_S", 0.5)
    _, failed = run("three bytes", timeout_s=0.0)
    assert {2: GARBLED} == failed


def test_who_writes_to_the_server_is_not_heard(run):
    """It is for supervisors; three bytes that a model sends there do not stop it."""
    batch, failed = run("server", timeout_s=20.0)
    assert (12, {}) == (len(batch.positions), failed)


@pytest.mark.parametrize("isolation", ["fork", "none"])
@pytest.mark.parametrize("how", ["surrogate", "surrogate in a table", "long name", "path"])
def test_what_cannot_be_kept_is_the_failure_of_the_simulation_that_returned_it(run, isolation, how):
    """At every level."""
    batch, failed = run(how, isolation=isolation, timeout_s=30.0)
    assert ({2: BAD}, 11) == (failed, len(batch.positions))


@pytest.mark.parametrize("isolation", ["fork", "none"])
def test_a_list_view_beside_null_is_kept_as_a_list(run, isolation):
    """It is a list to all who read it."""
    batch, failed = run("view", isolation=isolation, timeout_s=30.0)
    assert ({}, pa.list_(pa.float64())) == (failed, batch.outputs["r"].schema.field("x").type)


@pytest.mark.parametrize("isolation", ["fork", "none"])
def test_the_name_of_an_exception_is_bounded(run, isolation):
    """Three million characters are no name."""
    _, failed = run("long type", isolation=isolation, timeout_s=30.0)
    [(cause, error_type)] = failed.values()
    assert ("model_error", True) == (cause, 100 < len(error_type) <= 200)


def test_a_run_completes_all_but_the_one_that_cannot_be_kept(place, tmp_path):
    """And says so by its exit code."""
    (place.folder / "model.py").write_text(MODEL)
    study = place.study([{"i": i, "how": "surrogate"} for i in range(12)])
    ended = place.run(study, tmp_path / "run", "--backend", "local", "--isolation", "fork")
    assert (3, 11, 1) == (ended.code, ended.summary["completed"], ended.summary["failed"]), ended.stderr
    assert {2: "bad_output"} == {row["param_i"]: row["cause"] for row in rows(tmp_path / "run") if row["cause"]}
