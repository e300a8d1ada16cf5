"""Children of the fork server, chunk by chunk: who gets them, how they may end, and what they leave."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.models import context_of_file, write
from support.short_folder import short_folder

from modelops_ray.backends.ray.embedded import _private_folder
from modelops_ray.core.report import Cause
from modelops_ray.errors import ModelError, NodeError
from modelops_ray.runner import children
from modelops_ray.runner import chunk as chunk_side
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.runner.forkserver_client import NoChildError
from modelops_ray.runner.server_folders import base_folder
from modelops_ray.runner.server_start import Wanted, connect
from modelops_ray.runner.supervisor import in_children
from modelops_ray.sandbox.limits import Limit
from modelops_ray.study.chunk import Chunk, Simulation

MIB = 2**20
PLAIN = "import os, time\ndef simulate(params, seed): return {'r': {'seed': seed, 'pid': os.getpid()}}"


@pytest.fixture(scope="module", autouse=True)
def short_temporary_folder(tmp_path_factory):
    """Servers have one for all tests; pytest looks at the folder for temporary files as well, and has to be first."""
    tmp_path_factory.getbasetemp()
    with short_folder():
        yield


@pytest.fixture
def folder_of_its_own():
    """A folder for temporary files in which no other test has had a server."""
    with short_folder() as folder:
        yield folder


@pytest.fixture
def one_server(folder_of_its_own):
    """Give the folder of the only server there is."""
    return lambda: next(iter({path.parent for path in base_folder().glob("*/server.json")}))


@pytest.fixture
def context(tmp_path):
    """Make a context of a model given as source, which this process has not looked at."""

    def context(source, isolation, **options):
        return context_of_file(write(tmp_path / "model.py", source), isolation=isolation, **options)

    return context


def several(n, width=1, **params):
    """A chunk of replicates of one parameter set."""
    simulations = tuple(Simulation(i, 0, {"beta": 0.5, "n": 1, **params}, "0" * 64, i, 1000 + i) for i in range(n))
    return Chunk(1, simulations, (1,) * n, 500 * MIB, 400 * MIB, width=width)


def rows(payload):
    """The rows of output `r`, by seed."""
    found = [row for output in payload.outputs["r"] for row in output.table.to_pylist()]
    return {row["seed"]: row for row in found}


@pytest.mark.parametrize("isolation", ["fork", "reuse", "fresh"])
@pytest.mark.parametrize("width", [1, 3])
def test_chunks_of_any_width_return_every_simulation_once(context, isolation, width):
    """One after the other, with children that were kept or not."""
    ready = context(PLAIN, isolation, target_s=600.0)
    for n in (4, 1, 2):
        report, payload = run_chunk(ready, several(n, width))
        assert list(range(n)) == sorted(done.position for done in report.completed)
        assert set(range(1000, 1000 + n)) == set(rows(payload))


def test_a_child_that_came_too_late_for_one_chunk_serves_the_next(context, tmp_path):
    """It said that it was ready to a supervisor that has gone."""
    first = tmp_path / "first"
    slow = f"import os, time\nif os.getenv('PYTHONHASHSEED') == '0':\n try: os.mkdir({str(first)!r})\n"
    slow += f" except FileExistsError: time.sleep(1.5)\n{PLAIN}"
    ready = context(slow, "reuse")
    for _ in range(2):
        report, _ = run_chunk(ready, several(6, width=2))
        assert 6 == len(report.completed)


@pytest.mark.parametrize("isolation", ["reuse", "fresh"])
def test_children_that_end_while_they_load_end_the_run_and_say_why(context, isolation):
    """After a few, not never."""
    dying = "import os, sys\nif os.getenv('PYTHONHASHSEED') == '0':\n"
    dying += f"    print('no licence here', file=sys.stderr, flush=True)\n    os._exit(3)\n{PLAIN}"
    with pytest.raises(ModelError, match=r"ended with code 3 \(no licence here\), 5 times in a row"):
        run_chunk(context(dying, isolation), several(2))


def test_parameters_of_any_size_travel(context):
    """Once per parameter set, however many replicates it has."""
    source = "def simulate(params, seed): return {'r': {'seed': seed, 'size': len(params['text'])}}"
    ready = context(source, "fork")
    ready = replace(ready, run=replace(ready.run, parameter_types={}))
    report, payload = run_chunk(ready, several(100, text="x" * 5_000_000))
    assert 100 == len(report.completed)
    assert {5_000_000} == {row["size"] for row in rows(payload).values()}


def test_what_a_model_does_to_its_parameters_does_not_reach_the_next(context):
    """Although replicates are sent the same."""
    source = "def simulate(params, seed): return {'r': {'seed': seed, 'n': params.pop('n')}}"
    report, _ = run_chunk(context(source, "fork", per_child=10), several(10))
    assert 10 == len(report.completed)


def test_pandas_is_not_imported_for_a_model_that_does_without_and_is_there_for_one_that_comes_to_it(context):
    """Importing it in the server, as pyarrow would, doubles what a fork copies."""
    source = """
import sys
def simulate(params, seed):
    early = "pandas" in sys.modules
    import pandas as pd
    days = pd.Index(pd.to_datetime(["2026-01-01", "2026-01-02"]), name="day")
    table = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "where": pd.Categorical(["a", "b"])}, index=days)
    return {"early": {"early": early}, "table": table, "columns": {"n": table["n"], "where": table["where"]}}
"""
    forked_payload = run_chunk(context(source, "fork"), several(1))[1]
    assert forked_payload.outputs["early"][0].table.column("early").to_pylist() == [False]
    plain_payload = run_chunk(context(source, "none"), several(1))[1]
    for name in ("table", "columns"):
        assert forked_payload.outputs[name][0].table.equals(plain_payload.outputs[name][0].table)


def test_a_model_that_forks_and_goes_on_in_both_is_one_model(context):
    """What the copy returns is no result."""
    source = "import os\ndef simulate(params, seed):\n    os.fork()\n    return {'r': {'seed': seed}}"
    report, payload = run_chunk(context(source, "fork", per_child=5), several(20))
    assert (20, 0) == (len(report.completed), len(report.failures))
    assert {1000 + i for i in range(20)} == set(rows(payload))


def test_a_peak_is_that_of_the_simulation_that_died_not_of_one_before_it_in_the_child(context):
    """Or the memory model would learn it for the wrong parameters."""
    source = """
        import os, signal, time
        import numpy as np
        def simulate(params, seed):
            held = np.ones((200 if seed == 1000 else 1) * 2**20 // 8)
            time.sleep(0.3)
            if seed == 1001:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"r": {"seed": seed, "held": held.nbytes}}
    """
    ready = context(source, "fork", per_child=2)
    report, _ = run_chunk(ready, several(1))
    assert report.completed[0].peak_bytes >= 190 * MIB
    report, _ = run_chunk(ready, several(2))
    (failure,) = report.failures
    assert (1, "SIGKILL") == (failure.position, failure.error_type)
    assert failure.peak_bytes < 100 * MIB


def test_processes_that_the_import_started_live_as_long_as_the_model(context):
    """They are no strays of a simulation."""
    source = """
        import os, subprocess, time
        HELPER = subprocess.Popen(["sleep", "100"]) if os.getenv("PYTHONHASHSEED") == "0" else None
        def simulate(params, seed):
            time.sleep(0.7)
            state = open(f"/proc/{HELPER.pid}/stat").read().split()[2]
            return {"r": {"seed": seed, "state": state}}
    """
    _, payload = run_chunk(context(source, "fork"), several(2))
    assert {"S"} == {row["state"] for row in rows(payload).values()}


def test_a_child_has_no_descriptor_of_the_servers_under_any_limit(context):
    """What the import opened it has, also above a limit that was lowered since; of the server's nothing."""
    source = """
        import os, resource
        if os.getenv("PYTHONHASHSEED") == "0":
            os.dup2(os.open(__file__, os.O_RDONLY), 900)
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        def simulate(params, seed):
            named = []
            for fd in os.listdir("/proc/self/fd"):
                try:
                    named.append(os.readlink(f"/proc/self/fd/{fd}"))
                except FileNotFoundError:
                    pass
            queues = sum("eventpoll" in name or name.endswith("children") for name in named)
            sockets = sum(name.startswith("socket:") for name in named)
            return {"r": {"seed": seed, "is_open": __file__ in named, "queues": queues, "sockets": sockets}}
    """
    _, payload = run_chunk(context(source, "fork"), several(1))
    (row,) = rows(payload).values()
    assert (True, 0, 1) == (row["is_open"], row["queues"], row["sockets"])


@pytest.mark.parametrize("how", ["sleep 987", "sleep 987 & sleep 987 & wait"])
def test_nothing_that_a_simulation_started_outlives_it(context, how):
    """Also in a session of its own, and what that had started."""
    source = f"""
        import subprocess
        def simulate(params, seed):
            subprocess.Popen(["sh", "-c", {how!r}], start_new_session=True)
            return {{"r": {{"seed": seed}}}}
    """
    report, _ = run_chunk(context(source, "fork"), several(2))
    assert 2 == len(report.completed)
    deadline_s = time.monotonic() + 10
    while left := [pid for pid in Path("/proc").iterdir() if _sleeps(pid)]:
        assert time.monotonic() < deadline_s, f"left: {left}"
        time.sleep(0.1)


def _sleeps(pid):
    try:
        return (pid / "cmdline").read_bytes().startswith(b"sleep\x00987")
    except OSError:
        return False


@pytest.mark.parametrize(
    "returned",
    [
        "defaultdict(lambda: 0, seed=seed)", "MappingProxyType({'seed': seed})", "Row(seed=seed)", "{Key.SEED: seed}",
        "{Name('seed'): seed}",
    ],
)  # fmt: skip
def test_mappings_and_names_may_be_of_the_models_own_types(context, returned):
    """Of which the supervisor has none, and some of which cannot be pickled."""
    source = f"""
        from collections import defaultdict
        from enum import StrEnum
        from types import MappingProxyType
        class Row(dict): pass
        class Name(str):
            def __str__(self): raise TypeError("nobody asks for it")
        class Key(StrEnum):
            SEED = "seed"
            OUTPUT = "r"
        def simulate(params, seed):
            return {{Key.OUTPUT: {returned}, Name("t"): {{Key.SEED: [seed]}}}}
    """
    report, payload = run_chunk(context(source, "fork"), several(2))
    assert (2, {1000, 1001}) == (len(report.completed), set(rows(payload)))
    assert {str} == {type(name) for name in payload.outputs}


def test_what_an_exception_says_may_be_of_a_type_of_the_models(context):
    """Only its text counts."""
    source = """
        class Name(str): pass
        class Odd(Exception):
            def __str__(self): return Name("no such district")
        def simulate(params, seed):
            raise Odd
    """
    report, _ = run_chunk(context(source, "fork"), several(1))
    assert [("Odd", "no such district")] == [(one.error_type, one.message) for one in report.failures]


@pytest.mark.parametrize(
    "statement", ["sys.stdout = None", "del sys.stderr", "sys.stdout.close()", "sys.stdout = open('/dev/full', 'w')"]
)
def test_what_a_model_does_to_the_standard_streams_costs_it_nothing(context, statement):
    """Also where nothing can be printed to them any more."""
    source = f"""
        import sys
        def simulate(params, seed):
            print("x" * 10_000)
            {statement}
            return {{"r": {{"seed": seed}}}}
    """
    report, _ = run_chunk(context(source, "fork", per_child=1), several(3))
    assert (3, 0) == (len(report.completed), len(report.failures))


def test_a_model_that_closes_the_way_back_is_to_blame_and_the_run_goes_on(context):
    """Its answer is ready and cannot be sent; the others' can."""
    source = """
        import os, stat
        def simulate(params, seed):
            for fd in range(3, 1000) if seed == 1001 else ():
                try:
                    if stat.S_ISSOCK(os.fstat(fd).st_mode):
                        os.close(fd)
                except OSError:
                    continue
            return {"r": {"seed": seed}}
    """
    report, payload = run_chunk(context(source, "fork", per_child=1), several(8))
    assert {1000, *range(1002, 1008)} == set(rows(payload))
    assert [(1, Cause.CRASHED)] == [(failure.position, failure.cause) for failure in report.failures]


def test_what_was_printed_before_an_exception_is_kept_with_it(context):
    """On either stream, also by C."""
    source = """
        import os, sys
        def simulate(params, seed):
            print("to be seen"); os.write(1, b"from C"); print("and heard", file=sys.stderr)
            raise LookupError("no such district")
    """
    report, _ = run_chunk(context(source, "fork"), several(1))
    (failure,) = report.failures
    assert (Cause.MODEL_ERROR, "LookupError") == (failure.cause, failure.error_type)
    assert all(text in failure.printed for text in ("to be seen", "from C", "and heard"))
    assert "LookupError" in failure.traceback


def test_a_server_that_cannot_start_a_process_says_so_and_keeps_those_it_has(context, one_server):
    """The reason is that of the system."""
    wanted = Wanted(context(PLAIN, "fork").model, 1.0, "fork")
    with closing(connect(wanted)) as connection:
        one = connection.child(Limit(10 * MIB, is_hard=False), worker_bytes=0)
        folder = one_server()
        folder.rename(folder.with_suffix(".away"))
        try:
            with pytest.raises(NoChildError, match="no process can be started"):
                connection.child(Limit(10 * MIB, is_hard=False), worker_bytes=0)
            assert Path(f"/proc/{one.pid}").exists()
        finally:
            folder.with_suffix(".away").rename(folder)
        other = connection.child(Limit(10 * MIB, is_hard=False), worker_bytes=0)
        assert other.is_ready
        for lent in (one, other):
            lent.channel.close()
            lent.board.close()
            os.close(lent.capture)


def test_a_python_that_lacks_the_newer_system_calls_forks_and_kills_all_the_same(context):
    """Those built against an older C library do; the model takes them from the server that imports it."""
    source = """
        import os, signal, time
        if os.getenv("PYTHONHASHSEED") == "0":
            for owner, name in ((os, "pidfd_open"), (os, "memfd_create"), (signal, "pidfd_send_signal")):
                vars(owner).pop(name, None)
        def simulate(params, seed):
            time.sleep(600 if seed == 1000 else 0)
            return {"r": {"seed": seed}}
    """
    report, payload = run_chunk(context(source, "fork", timeout_s=1.0), several(3))
    assert {1001, 1002} == set(rows(payload))
    assert [Cause.TIMEOUT] == [failure.cause for failure in report.failures]


def test_a_chunk_on_a_node_without_room_for_a_server_is_the_nodes_doing(context, folder_of_its_own, monkeypatch):
    """Here the system refuses one more byte on its disk."""
    monkeypatch.setattr(chunk_side, "NODE_PAUSE_S", 0.5)
    wanted, began_s = context(PLAIN, "fork"), time.monotonic()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(NodeError, match=r"cannot run simulations: .*no folder for temporary files: .*; make room"):
            run_chunk(wanted, several(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert time.monotonic() - began_s > 0.5


def test_a_node_without_room_for_a_child_is_given_some_time(context, one_server, monkeypatch):
    """Before it is given up."""
    monkeypatch.setattr(children, "NO_CHILD_PAUSE_S", 0.1)
    with in_children(context(PLAIN, "fork"), several(1)) as executor:
        folder = one_server()
        folder.rename(folder.with_suffix(".away"))
        try:
            with pytest.raises(NoChildError, match="no process can be started"):
                next(executor.run(several(1).simulations))
        finally:
            folder.with_suffix(".away").rename(folder)


def test_an_embedded_ray_that_starts_leaves_the_fork_servers_of_other_runs_alone(context):
    """They share the folder for temporary files, and what a killed Ray left there is removed."""
    wanted = Wanted(context(PLAIN, "fork").model, 1.0, "fork")
    with closing(connect(wanted)) as connection, _private_folder():
        lent = connection.child(Limit(10 * MIB, is_hard=False), worker_bytes=0)
        assert lent.is_ready
        lent.channel.close()
        lent.board.close()
        os.close(lent.capture)


def test_a_long_folder_for_temporary_files_is_no_obstacle(context, tmp_path, monkeypatch):
    """Sockets are put where their paths are short enough."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    report, _ = run_chunk(context(PLAIN, "fork"), several(2))
    assert 2 == len(report.completed)


def test_another_environment_has_a_server_of_its_own(context, monkeypatch):
    """A model may have read it at import."""
    source = "import os\nSEEN = os.getenv('DISTRICT')\n"
    source += "def simulate(params, seed): return {'r': {'seed': seed, 'seen': SEEN}}"
    ready = context(source, "fork")
    for district in ("north", "south"):
        monkeypatch.setenv("DISTRICT", district)
        _, payload = run_chunk(ready, several(1))
        assert [district] == [row["seen"] for row in rows(payload).values()]


@pytest.mark.parametrize(
    ("options", "survives"),
    [({}, True), ({"cap_bytes": 300 * MIB}, True), ({"cap_bytes": 100 * MIB}, False), ({"is_hard": True}, False)],
)
def test_more_than_was_learned_is_allowed_up_to_the_cap_and_more_than_was_given_is_not(context, options, survives):
    """While the node has memory left."""
    source = """
        import time
        def simulate(params, seed):
            held = b"x" * (150 * 2**20)
            time.sleep(0.5)
            return {"r": {"seed": seed, "held": len(held)}}
    """
    report, _ = run_chunk(context(source, "fork", **options), replace(several(1), limit_bytes=50 * MIB))
    told = [(one.cause, one.is_victim, "over its limit of" in one.message) for one in report.failures]
    assert told == ([] if survives else [(Cause.OUT_OF_MEMORY, False, True)])


@pytest.mark.parametrize(
    ("bound", "n_short"), [({"target_s": 0.9}, 2), ({"target_payload_bytes": 100_000}, 1)], ids=["time", "outputs"]
)
def test_a_chunk_that_ends_early_begins_nothing_more_and_lets_those_that_run_end(context, bound, n_short):
    """They would have to begin again otherwise, for nothing."""
    source = """
        import time
        import numpy as np
        def simulate(params, seed):
            time.sleep(2.5 if seed == 1000 else 0.5)
            return {"r": {"seed": seed}, "t": {"x": np.zeros(20_000)}}
    """
    report, payload = run_chunk(context(source, "fork", per_child=1, **bound), several(10, width=2))
    assert set(range(1000, 1001 + n_short)) == set(rows(payload))
    assert () == report.failures


def test_a_child_gives_back_what_takes_longer_than_was_thought_when_it_was_given(context):
    """Hours may go by otherwise, in which no other worker can have it."""
    source = """
        import time
        def simulate(params, seed):
            time.sleep(0.6 * params["beta"])
            return {"r": {"seed": seed}}
    """
    ready = context(source, "fork", per_child=50, target_s=0.5)
    assert 50 == len(run_chunk(ready, several(50, beta=0))[0].completed)
    report, payload = run_chunk(ready, several(50, beta=1))
    assert 1 <= len(report.completed) <= 3
    assert {1000 + done.position for done in report.completed} == set(rows(payload))
    assert 50 == len(run_chunk(replace(ready, target_s=60.0), several(50, beta=0.1))[0].completed)


@pytest.mark.parametrize("are_given_together", [False, True])
def test_who_is_killed_for_what_the_one_before_it_took_is_not_to_blame(context, are_given_together):
    """It ended when it was too late to take the kill back; here the server sleeps meanwhile."""
    source = """
        import os, signal, subprocess, time
        def simulate(params, seed):
            if params["beta"] and seed == 1000:
                subprocess.Popen(["sh", "-c", f"sleep 2.3; kill -CONT {os.getppid()}"])
                os.kill(os.getppid(), signal.SIGSTOP)
                time.sleep(1.8)
            elif params["beta"]:
                time.sleep(1.2)
            return {"r": {"seed": seed}}
    """
    ready = context(source, "fork", per_child=2, timeout_s=1.5)
    if are_given_together:
        run_chunk(ready, several(2, beta=0))
    report, payload = run_chunk(ready, several(2, beta=1))
    assert ({1000, 1001}, ()) == (set(rows(payload)), report.failures)


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
def test_no_simulation_is_killed_for_what_those_before_it_left_in_a_child(context, isolation):
    """Each uses and leaves 60 of 100 MiB that are allowed."""
    source = """
        import os, time
        LEFT = []
        def simulate(params, seed):
            LEFT.append(b"x" * (60 * 2**20))
            time.sleep(0.2)
            return {"r": {"seed": seed, "pid": os.getpid()}}
    """
    ready = context(source, isolation, per_child=100, is_hard=True)
    report, payload = run_chunk(ready, replace(several(3), limit_bytes=100 * MIB))
    assert (3, ()) == (len(report.completed), report.failures)
    assert 3 == len({row["pid"] for row in rows(payload).values()})


def test_what_a_simulation_uses_beyond_its_soft_limit_is_told_until_it_ends(context):
    """To a place that outlives the node, for then nothing else knows which simulation it was."""
    source = """
import time
def simulate(params, seed):
    held = b"x" * (params["mib"] * 2**20)
    time.sleep(params["sleep_s"])
    return {"r": {"seed": seed, "held": len(held)}}
"""
    told = []
    greedy = replace(several(1, mib=150, sleep_s=2.5), limit_bytes=50 * MIB)
    report, _ = run_chunk(context(source, "fork", tell_excess=lambda *what: told.append(what)), greedy)
    assert 1 == len(report.completed)
    assert [1] == list({chunk_id for chunk_id, _ in told})
    # It may be looked at first while it makes them.
    assert 140 * MIB < max(excess.get(0, 0) for _, excess in told) < 200 * MIB
    assert {} == told[-1][1]
    told.clear()
    run_chunk(context(source, "fork", tell_excess=lambda *what: told.append(what)), several(2, mib=1, sleep_s=1.2))
    assert [] == told
