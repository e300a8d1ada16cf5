"""A whole run on nodes that join, die and are drained while it is on; every node is a process of this machine."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.nodes import head, worker
from support.ray_workers import importable_tests
from support.studies import assert_equal_datasets, wait_for_commits, wait_until
from support.toy_chunks import chunk, run_chunk

from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect
from modelops_ray.backends.ray.task import NAMESPACE
from modelops_ray.core.events import ChunkStarted
from modelops_ray.core.report import Cause

MIB = 2**20
N = 60
MODEL = '''
"""Sleeps, and writes down which fork server it is of: there is one per node."""

import os
import random
import time


def simulate(params, seed):
    with open(params["diary"], "a") as diary:
        diary.write(f"{os.getppid()}\\n")
    time.sleep(float(os.environ.get("NAP_S", "0")))
    return {"result": {"seed": seed, "x": random.Random(seed).random()}}
'''


@pytest.mark.long
def test_what_a_simulation_used_beyond_its_limit_is_known_after_its_node_is_gone(place):
    """And which node that was: its pod may tell more."""
    from ray.experimental.internal_kv import _internal_kv_list

    size = {"cpus": 1, "memory_bytes": 512 * MIB}
    with (
        importable_tests(),
        head(place.tmp) as address,
        worker(place.tmp, address, **size) as node,
        connect(address, environ={}) as cluster,
    ):
        backend = RayBackend(run_chunk, cluster)
        backend.submit(chunk(9, excess_mib=300, sleep_s=600.0, announce=True))
        assert isinstance(backend.wait(60.0)[0], ChunkStarted)
        wait_until(lambda: _internal_kv_list("excess:", namespace=NAMESPACE), "word of the excess")
        node.kill()
        [lost] = backend.wait(60.0)
        assert [] == _internal_kv_list("excess:", namespace=NAMESPACE)
        backend.close()
    assert (Cause.NODE_LOST, ((9, 300 * MIB),)) == (lost.cause, lost.excess)
    assert address.startswith(f"{lost.address}:")


def n_used(diary):
    """On how many nodes simulations began."""
    return len(set(diary.read_text().split()))


def workers(address):
    """The ids of the nodes that are alive, the head apart."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    found = get_cluster_status(address)
    nodes = (*found.active_nodes, *found.idle_nodes)
    return {node.node_id for node in nodes if "node:__internal_head__" not in node.total_resources()}


def drain(address, node_id):
    """Tell a node to leave within three seconds, as for a machine that is taken away."""
    subprocess.run(
        [str(Path(sys.executable).with_name("ray")), "drain-node", f"--address={address}", f"--node-id={node_id}",
         "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=3"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


@pytest.mark.long
def test_nodes_that_join_die_and_are_drained_change_nothing_but_the_time(place, monkeypatch):
    """Two are lost with what ran on them, two that join are used; the dataset is that of an undisturbed run."""
    (place.folder / "model.py").write_text(MODEL)
    diary = place.folder / "diary"
    study, size = place.study([{"diary": str(diary)}], replicates=N), {"cpus": 2, "memory_bytes": 1024 * MIB}
    command = [sys.executable, "-m", "modelops_ray", "run", str(study), "--json"]
    assert 0 == place.spawn([*command, "--backend", "local", "--isolation", "none", "--out", "undisturbed"]).wait().code
    diary.unlink()
    monkeypatch.setenv("NAP_S", "2")
    place.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    out = place.folder / "run"
    with head(place.tmp) as address, worker(place.tmp, address, **size) as first:
        running = place.spawn([*command, "--address", address, "--memory", "150Mi", "--out", str(out)])
        wait_for_commits(running, out, 1)
        with worker(place.tmp, address, **size):
            wait_until(lambda: n_used(diary) >= 2, "the node that joined to be used")
            first.kill_raylet()
            [second] = wait_until(lambda: len(left := workers(address)) == 1 and left, "the loss to be noticed")
            with worker(place.tmp, address, **size):
                wait_until(lambda: n_used(diary) >= 3, "the third node to be used")
                drain(address, second)
                ended = running.wait()
    assert 0 == ended.code, ended.stderr
    assert 3 == n_used(diary), "a worker whose node has gone went on"
    assert (N, 0) == (ended.summary["completed"], ended.summary["failed"])
    assert ended.summary["infrastructure_retries"] > 0
    assert_equal_datasets(place.folder / "undisturbed", out)


def n_leases_asked_for(place):
    """Requests for a worker that the raylets have answered, as they write it down twice a second."""
    states = place.tmp.glob("**/logs/debug_state*.txt")
    found = [re.search(r"grpc_server\.RequestWorkerLease - (\d+) total", state.read_text()) for state in states]
    return sum(int(each[1]) for each in found if each)


@pytest.mark.long
def test_tasks_that_wait_for_room_have_the_driver_ask_for_it_a_few_times_each_at_most(place, monkeypatch):
    """Its own node takes no tasks, as the head of a cluster should not: Ray's default asks dozens of times."""
    monkeypatch.setenv("RAY_debug_dump_period_milliseconds", "500")
    size = {"cpus": 1, "memory_bytes": 512 * MIB}
    with importable_tests(), head(place.tmp) as address, worker(place.tmp, address, **size):
        wait_until(lambda: workers(address), "a node")
        with worker(place.tmp, address, **size), connect(address, environ={}) as cluster:
            wait_until(lambda: len(workers(address)) == 2, "another one")
            backend, n_submitted, n_ended = RayBackend(run_chunk, cluster), 0, 0
            while n_ended < 36:
                while n_submitted < min(36, n_ended + 6):
                    # Each of its own size: a worker that is leased would do several of one.
                    backend.submit(chunk(n_submitted, sleep_s=0.5, request_bytes=(64 + n_submitted) * MIB))
                    n_submitted += 1
                n_ended += len(backend.wait(60.0))
            time.sleep(1.5)
            asked = n_leases_asked_for(place)
            backend.close()
    assert 36 <= asked < 3 * 36
