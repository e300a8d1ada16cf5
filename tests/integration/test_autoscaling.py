"""A whole run on Ray's own autoscaler, with raylets of this machine for nodes: from zero to the maximum and back."""

import itertools
import statistics
import sys
import time

import pytest
from support.autoscaling import autoscaling
from support.ray_workers import importable_tests
from support.studies import wait_until
from support.toy_chunks import chunk, run_chunk

from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect

GIB = 2**30
MIB = 2**20
N_NODES = 3
CPUS = 4
SLEEP_S = 4.0
MODEL = '''
"""Sleeps, and writes down when."""

import os
import time


def simulate(params, seed):
    began_s = time.monotonic()
    time.sleep(params["sleep_s"])
    with open(params["diary"], "a") as diary:
        diary.write(f"{began_s} {time.monotonic()}\\n")
    return {"result": {"seed": seed}}
'''


@pytest.fixture
def cluster(place):
    """A head that takes no simulations, and up to three nodes of four CPUs and 2 GiB."""
    place.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    group = {"resources": {"CPU": CPUS, "memory": 2 * GIB, "object_store_memory": 80 * MIB}, "max_workers": N_NODES}
    with importable_tests(), autoscaling(place.tmp, {"mem2": group}) as found:
        wait_until((place.tmp / "ray_current_cluster").exists, "a head")
        yield found


def run(place, cluster, n, *options):
    """Start a run of `n` simulations that sleep; return the command, its directory and the diary."""
    (place.folder / "model.py").write_text(MODEL)
    diary, out = place.folder / "diary", place.folder / "run"
    study = place.study([{"sleep_s": SLEEP_S, "diary": str(diary)}], replicates=n)
    command = [sys.executable, "-m", "modelops_ray", "run", str(study), "--out", str(out), "--json"]
    return place.spawn([*command, "--address", cluster.address, *options]), out, diary


def n_workers(cluster):
    """How many nodes are alive, the head apart."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    found = get_cluster_status(cluster.address)
    return len(found.active_nodes) + len(found.idle_nodes) - 1


def intervals(diary):
    """When each simulation began and ended."""
    return sorted(tuple(map(float, line.split())) for line in diary.read_text().splitlines())


def occupancy(times, n_slots):
    """How busy the slots were, from the first moment all of them were until nothing was left to start."""
    steps = sorted([(began_s, 1) for began_s, _ in times] + [(ended_s, -1) for _, ended_s in times])
    running = busy_s = 0.0
    full_s = None
    last_start_s = times[-1][0]
    for (at_s, step), (next_s, _) in itertools.pairwise(steps):
        running += step
        full_s = at_s if full_s is None and running == n_slots else full_s
        if full_s is not None and next_s <= last_start_s:
            busy_s += running * (next_s - at_s)
    return busy_s / (n_slots * (last_start_s - full_s))


def gaps(times):
    """How long a slot was idle before each simulation that took over from another, in seconds."""
    free, found = [], []
    for at_s, is_start in sorted(
        [(began_s, True) for began_s, _ in times] + [(ended_s, False) for _, ended_s in times]
    ):
        if not is_start:
            free.append(at_s)
        elif free:
            found.append(at_s - free.pop(0))
    return found


@pytest.mark.long
def test_a_run_scales_from_zero_to_the_maximum_keeps_every_slot_busy_and_lets_go(place, cluster):
    """By what its simulations ask for in memory: two of them fit on a node of four CPUs. The end ends the nodes."""
    assert 0 == n_workers(cluster)
    command, _, diary = run(place, cluster, 120, "--memory", "800Mi", "--isolation", "reuse")
    most = 0
    while command.is_running:
        most = max(most, n_workers(cluster))
        time.sleep(0.5)
    ended = command.wait()
    assert 0 == ended.code, ended.stderr
    assert N_NODES == most
    assert (120, 0, 0) == tuple(ended.summary[name] for name in ("completed", "failed", "oom_retries"))
    # The nodes are processes of one machine, which starts those of simulations late while it is busy otherwise.
    assert occupancy(intervals(diary), 2 * N_NODES) > 0.85
    assert statistics.median(gaps(intervals(diary))) < SLEEP_S / 10
    wait_until(lambda: n_workers(cluster) == 0, "the autoscaler to end idle nodes")


@pytest.mark.long
def test_capacity_that_never_comes_is_explained_by_the_autoscaler_itself(cluster):
    """A request beyond every node it could start."""
    with connect(cluster.address, environ={}) as joined:
        backend = RayBackend(run_chunk, joined)
        backend.submit(chunk(1, request_bytes=9 * GIB))
        says = wait_until(lambda: backend.capacity().says, "the autoscaler to say something")
        backend.close()
    assert says.startswith("the autoscaler says: no available node types can fulfill resource requests ")
    assert "{CPU: 1, memory: 9,216 MiB}*1" in says
