"""Simulations in forked children: what they return, and every way in which one may end badly, beside good ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.studies import assert_equal_datasets, rows, wait_until

MODEL = '''
"""Does what its parameters say, or behaves as badly as its name says."""

import ctypes
import os
import sys
import time

import numpy as np


def simulate(params, seed):
    what = params["what"]
    if what == "raises":
        raise LookupError("no such district")
    if what == "segfaults":
        ctypes.string_at(0)
    if what == "exits":
        os._exit(0)
    if what == "asks to exit":
        sys.exit("enough")
    if what == "hangs":
        while True:
            time.sleep(0.1)
    if what == "grows":
        held = [np.ones(8 * 2**20) for _ in range(100)]
        return {"r": {"n": len(held)}}
    if what == "takes a while":
        held = np.ones(40 * 2**20)
        time.sleep(0.5)
        return {"r": {"x": float(held[-1]), "y": seed % 97}}
    if what == "starts a grower":
        if os.fork() == 0:
            held = [np.ones(8 * 2**20) for _ in range(10)]
            time.sleep(60)
        time.sleep(60)
    if what == "prints":
        os.write(1, b"x" * 10**7)
        print("and more", flush=True)
    if what == "returns nonsense":
        return 3, 4
    if what == "naps":
        time.sleep(0.05)
    if what == "forgets its seed":
        return {"r": {"x": np.random.random(), "y": seed}}
    return {"r": {"x": float(np.random.default_rng(seed).random()), "y": seed % 97}, "t": {"day": np.arange(5)}}
'''
BAD = {
    "raises": ("model_error", "LookupError"),
    "segfaults": ("crashed", "SIGSEGV"),
    "exits": ("crashed", "Exit"),
    "asks to exit": ("model_error", "SystemExit"),
    "hangs": ("timeout", "Timeout"),
    "grows": ("out_of_memory", "OutOfMemory"),
    "starts a grower": ("out_of_memory", "OutOfMemory"),
    "returns nonsense": ("bad_output", "BadOutput"),
}


@pytest.fixture
def here(place):
    """A place with that model in it."""
    (place.folder / "model.py").write_text(MODEL)
    return place


def study_of(place, whats, replicates=1):
    """A study of these behaviours."""
    return place.study([{"what": what, "set": i} for i, what in enumerate(whats)], replicates)


def test_a_cap_does_not_make_hard_what_was_learned(here, tmp_path):
    """One that needs more than those before it completes at once: it stays within the cap, and there is memory."""
    study = study_of(here, [*["works"] * 30, "takes a while"])
    ended = here.run(study, tmp_path / "run", "--backend", "local", "--max-memory", "1G", "--chunk", "1")
    assert 0 == ended.code, ended.stderr
    assert (31, 0) == (ended.summary["attempts"], ended.summary["oom_retries"])


def test_every_bad_end_is_told_apart_and_the_good_ones_complete(here, tmp_path):
    """The end of one simulation ends no other, and nothing is left running."""
    study = study_of(here, [what for bad in BAD for what in (bad, "works")])
    options = ("--backend", "local", "--isolation", "fork", "--timeout", "3", "--max-memory", "300M", "--attempts", "2")
    ended = here.run(study, tmp_path / "run", *options, "--max-failures", "100%")
    assert 3 == ended.code, ended.stderr
    found = {row["param_what"]: (row["cause"], row["error_type"]) for row in rows(tmp_path / "run")}
    assert BAD | {"works": (None, None)} == found
    wait_until(lambda: not here.processes(), "the fork server to end", 10)


def test_children_return_what_the_process_itself_would(here, tmp_path):
    """Bit for bit, also where a model prints and where it forgot its seed."""
    study = study_of(here, ["works", "prints", "forgets its seed"], 2)
    for isolation in ("none", "fork", "reuse", "fresh"):
        ended = here.run(study, tmp_path / isolation, "--backend", "local", "--isolation", isolation)
        assert 0 == ended.code, ended.stderr
        assert_equal_datasets(tmp_path / "none", tmp_path / isolation)


def start_only_in_a_server(here, line):
    """Have the model do something at import, in the processes that simulate and not in the driver."""
    (here.folder / "model.py").write_text(f"import os\nif os.getenv('PYTHONHASHSEED') == '0':\n    {line}\n{MODEL}")
    here.environ["PYTHONHASHSEED"] = "random"


def test_a_model_that_cannot_be_imported_ends_the_run_once(here, tmp_path):
    """With one line that says why, instead of one failure for each simulation."""
    start_only_in_a_server(here, "raise OSError('no licence')")
    ended = here.run(study_of(here, ["works"] * 3), tmp_path / "run", "--backend", "local", "--isolation", "fork")
    assert 1 == ended.code
    assert "does not import: OSError: no licence" in ended.stderr.splitlines()[-1]


def test_a_model_that_starts_a_thread_is_not_forked_and_the_run_says_so(here, tmp_path):
    """Once, and by name; the results are those of any other level."""
    sleeps = "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    start_only_in_a_server(here, f"import threading, time; {sleeps}")
    study = study_of(here, ["works"] * 3)
    ended = here.run(study, tmp_path / "fork", "--backend", "local", "--isolation", "fork")
    assert 0 == ended.code, ended.stderr
    told = [line for line in ended.stderr.splitlines() if "starts threads" in line]
    assert 1 == len(told)
    assert "--isolation reuse" in told[0]
    assert 0 == here.run(study, tmp_path / "none", "--backend", "local", "--isolation", "none").code
    assert_equal_datasets(tmp_path / "none", tmp_path / "fork")


def maps_of(pid):
    """The files a process has mapped; none once it has ended."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_several_workers_of_a_ray_share_one_server_and_no_process_loads_pandas(here, tmp_path):
    """The server is started by one of them and ends with its Ray; pandas is 50 MB, and installed with many models."""
    study = study_of(here, [*["works"] * 10, *["naps"] * 20], 3)
    running = here.start(study, tmp_path / "ray", "--isolation", "fork", "--chunk", "2")
    wait_until(lambda: list((tmp_path / "ray").rglob("*.parquet")), "a commit", 60)
    loaded = [title for pid, title in here.processes().items() if "/pandas/" in maps_of(pid)]
    servers = {title.split("forkserver start ")[1].split()[0] for title in here.processes("forkserver start").values()}
    ended = running.wait()
    assert (0, 90) == (ended.code, ended.summary["completed"]), ended.stderr
    assert (1, []) == (len(servers), loaded)
    assert 0 == here.run(study, tmp_path / "none", "--backend", "local", "--isolation", "none").code
    assert_equal_datasets(tmp_path / "none", tmp_path / "ray")
    wait_until(lambda: not here.processes("_modelops_ray"), "the fork server to end", 10)
