"""A whole run on nodes that join, die and are drained while it is on; every node is a process of this machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.nodes import head, worker
from support.studies import assert_equal_datasets, wait_for_commits, wait_until

MIB = 2**20
N = 60
MODEL = '''
"""Sleeps, and writes down on which node."""

import os
import random
import time


def simulate(params, seed):
    if "RAY_NODE_ID" in os.environ:
        with open(params["diary"], "a") as diary:
            diary.write(os.environ["RAY_NODE_ID"] + "\\n")
    time.sleep(float(os.environ.get("NAP_S", "0")))
    return {"result": {"seed": seed, "x": random.Random(seed).random()}}
'''


class Diary:
    """On which nodes simulations began."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def nodes(self):
        """The ids of nodes, in the order of their first simulation."""
        return list(dict.fromkeys(self.path.read_text().split()))


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
    diary = Diary(place.folder / "diary")
    study, size = place.study([{"diary": str(diary.path)}], replicates=N), {"cpus": 2, "memory_bytes": 1024 * MIB}
    command = [sys.executable, "-m", "modelops_ray", "run", str(study), "--json"]
    assert 0 == place.spawn([*command, "--backend", "local", "--isolation", "none", "--out", "undisturbed"]).wait().code
    monkeypatch.setenv("NAP_S", "2")
    place.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    out = place.folder / "run"
    with head(place.tmp) as address, worker(place.tmp, address, **size) as first:
        running = place.spawn([*command, "--address", address, "--memory", "150Mi", "--out", str(out)])
        wait_for_commits(running, out, 1)
        with worker(place.tmp, address, **size):
            wait_until(lambda: len(diary.nodes()) == 2, "the node that joined to be used")
            first.kill_raylet()
            with worker(place.tmp, address, **size):
                wait_until(lambda: len(diary.nodes()) == 3, "the third node to be used")
                drain(address, diary.nodes()[1])
                ended = running.wait()
    assert 0 == ended.code, ended.stderr
    assert (N, 0) == (ended.summary["completed"], ended.summary["failed"])
    assert ended.summary["infrastructure_retries"] > 0
    assert_equal_datasets(place.folder / "undisturbed", out)
