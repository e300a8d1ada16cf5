"""A study in which models do the worst that models do, beside good ones, on a real Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.studies import rows, wait_until

pytestmark = pytest.mark.long

MODEL = '''
"""Misbehaves as its parameters say."""

import ctypes
import os
import sys
import time
from pathlib import Path

import numba
import numpy as np

# As a static of a library in C: nothing of Python's resets it.
_SETS_SEEN = (ctypes.c_long * 9)()
TABLE = Path("table.txt")


@numba.njit
def total(values):
    held = 0.0
    for value in values:
        held += value
    return held


def leaks(params, seed):
    held = []
    while True:
        held.append(np.ones(4 * 2**20))
        time.sleep(0.05)


def allocates(params, seed):
    return {"r": {"x": float(np.ones(10 * 2**27).sum())}}


def loops(params, seed):
    while True:
        pass


def segfaults(params, seed):
    ctypes.string_at(0)


def exits(params, seed):
    os._exit(0)


def ignores_sigterm(params, seed):
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def prints(params, seed):
    for _ in range(100):
        os.write(1, b"x" * 10**6)
    return good(params, seed)


def breeds(params, seed):
    for _ in range(50):
        if os.fork() == 0:
            held = np.ones(5 * 2**20)
            time.sleep(600)
    time.sleep(600)


def escapes(params, seed):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
    time.sleep(0.6)
    return good(params, seed)


def closes(params, seed):
    os.closerange(3, 4096)
    return good(params, seed)


def wanders(params, seed):
    os.chdir("/")
    return good(params, seed)


def reads(params, seed):
    assert TABLE.read_text() == "1\\n"
    return good(params, seed)


def compiles(params, seed):
    return {"r": {"x": total(np.arange(1000.0)) + seed % 7}}


def counts_sets(params, seed):
    at = params["set"] % 4 + 1
    _SETS_SEEN[at] = 1
    wrong = sum(_SETS_SEEN) >= 4
    return {"r": {"x": -1.0 if wrong else float(seed % 97)}}


def good(params, seed):
    return {"r": {"x": float(np.random.default_rng(seed).random()) + len(params.get("text", ""))}}


def simulate(params, seed):
    return globals()[params["what"]](params, seed)
'''
BAD = {
    "leaks": ("out_of_memory", "OutOfMemory"),
    "allocates": ("out_of_memory", "MemoryError"),
    "loops": ("timeout", "Timeout"),
    "ignores_sigterm": ("timeout", "Timeout"),
    "segfaults": ("crashed", "SIGSEGV"),
    "exits": ("crashed", "Exit"),
    "breeds": ("out_of_memory", "OutOfMemory"),
    "closes": ("crashed", "Exit"),
}
GOOD = ["prints", "escapes", "wanders", "reads", "compiles", "counts_sets", "good"]


@pytest.mark.timeout(300)
def test_the_worst_of_models_hurt_no_other_simulation(place, tmp_path):
    """Every good simulation completes with the right result, every bad one fails with the right cause."""
    (place.folder / "model.py").write_text(MODEL)
    (place.folder / "table.txt").write_text("1\n")
    sets = [{"what": what, "set": i, "text": ""} for i, what in enumerate([*BAD, *GOOD * 8])]
    sets += [{"what": "good", "set": 1000 + i, "text": "x" * 5_000_000} for i in range(2)]
    study = place.study(sets, 2)
    options = ("--timeout", "8", "--max-memory", "700M", "--attempts", "2", "--max-failures", "100%")
    ended = place.run(study, tmp_path / "run", *options, limit_memory="4Gi")
    assert 3 == ended.code, ended.stderr
    found = rows(tmp_path / "run")
    told = {(row["param_what"], row["cause"], row["error_type"]) for row in found}
    assert {(what, *why) for what, why in BAD.items()} | {(what, None, None) for what in GOOD} == told
    assert len(study_positions(study)) == len(found)
    assert 0 == ended.summary["infrastructure_retries"] - crashes_repeated(found)
    assert results(tmp_path / "run") == expected(found)
    wait_until(lambda: not place.processes(), "everything to be gone", 10)


def study_positions(study: Path) -> list[tuple[int, int]]:
    """One entry for each simulation of a study file."""
    document = json.loads(study.read_text())
    replicates = document["n_replicates"]
    return [(i, r) for i in range(len(document["parameter_sets"])) for r in range(replicates)]


def crashes_repeated(found) -> int:
    """Attempts that crashed before the last one did."""
    return sum(row["attempts"] - 1 for row in found if row["cause"] == "crashed")


def results(run: Path) -> dict[str, float]:
    """The one value of each simulation that completed."""
    import pyarrow.dataset as ds

    table = ds.dataset(run / "outputs" / "r").to_table(columns=["task_id", "x"])
    return dict(zip(table["task_id"].to_pylist(), table["x"].to_pylist(), strict=True))


def expected(found) -> dict[str, float]:
    """The same, from what the model says it computes."""
    import numpy as np

    values = {
        "compiles": lambda row: sum(range(1000)) + row["seed"] % 7,
        "counts_sets": lambda row: float(row["seed"] % 97),
    }

    def usual(row):
        return float(np.random.default_rng(row["seed"]).random()) + len(row["param_text"])

    done = [row for row in found if row["status"] == "completed"]
    return {row["task_id"]: values.get(row["param_what"], usual)(row) for row in done}
