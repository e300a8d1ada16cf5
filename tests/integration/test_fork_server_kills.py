"""Any process is killed, at any time: results are those of an undisturbed run, and nothing is left running."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.studies import assert_equal_datasets, wait_until

KILLS = 40

MODEL = """
import os
import subprocess
import sys
import time

import numpy as np


def simulate(params, seed):
    if params["what"] == "breeds":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "grandchild"])
        time.sleep(300)
    time.sleep(0.02 + 0.1 * (seed % 3))
    return {"r": {"x": float(np.random.default_rng(seed).random())}, "t": {"day": np.arange(seed % 5 + 1)}}
"""


@pytest.mark.long
@pytest.mark.timeout(240)
def test_kills_of_server_children_and_workers_change_nothing(place, tmp_path):
    """More than a kill a second, of any of them, for most of a study."""
    (place.folder / "model.py").write_text(MODEL)
    study = place.study([{"what": "works", "set": i} for i in range(60)], 5)
    assert 0 == place.run(study, tmp_path / "none", "--backend", "local", "--isolation", "none").code
    running = place.start(study, tmp_path / "fork")
    chance, killed = random.Random(7), []
    wait_until(lambda: place.processes("forkserver"), "a fork server", 60)
    while running.process.poll() is None and len(killed) < KILLS:
        # A Ray node ends with its agents: that would be another test.
        rays = place.processes("ray::").items()
        workers = [pid for pid, title in rays if title.startswith("ray::") and "Agent" not in title]
        victims = [*place.processes("forkserver"), *workers]
        if victims:
            killed.append(chance.choice(victims))
            with suppress(ProcessLookupError):
                os.kill(killed[-1], signal.SIGKILL)
        time.sleep(0.7)
    ended = running.wait()
    assert 0 == ended.code, ended.stderr
    assert len(killed) >= KILLS // 2
    assert_equal_datasets(tmp_path / "none", tmp_path / "fork")
    wait_until(lambda: not place.processes(), "everything to be gone", 10)


def test_what_a_server_and_its_supervisors_leave_is_swept_by_the_next_start(place, tmp_path):
    """Both that would have ended what a simulation had started are gone."""
    (place.folder / "model.py").write_text(MODEL)
    breeds = place.start(
        place.study([{"what": "breeds"}]), tmp_path / "breeds", "--backend", "local", "--isolation", "fork"
    )
    wait_until(lambda: place.processes("grandchild"), "a simulation to start a process", 30)
    # Stopped before its server is killed: it would start another one, which sweeps.
    for pid in place.processes("modelops_ray run"):
        os.kill(pid, signal.SIGSTOP)
    for pid in (*place.processes("forkserver"), *place.processes("modelops_ray run")):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    breeds.process.wait()
    assert place.processes("grandchild")
    ended = place.run(place.study([{"what": "works"}]), tmp_path / "works", "--backend", "local", "--isolation", "fork")
    assert 0 == ended.code, ended.stderr
    assert not place.processes("grandchild")
    folders = [path.name for path in Path(place.tmp).glob("modelops-ray-*/*/server")]
    assert len(folders) <= 1
