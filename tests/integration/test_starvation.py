"""Small requests in a refilled window, and one for most of the node: Ray alone would start it last."""

from __future__ import annotations

import pytest

from modelops_ray.store.reader import RunReader

MODEL = '''
"""Holds memory for a while, and tells when it began."""

import time

import numpy as np


def simulate(params, seed):
    began_s = time.time()
    held = np.ones(int(params["touch_mb"] * 1e6 / 8))
    time.sleep(0.3)
    return {"times": {"began_s": began_s, "held": held.nbytes}}
'''
SMALL_MB, LARGE_MB = (20, 80, 160), 800


@pytest.mark.long
def test_a_request_for_most_of_the_node_runs_within_its_turn(place, tmp_path):
    """Three small sizes keep coming; the large simulations begin while there are plenty of them left."""
    (place.folder / "model.py").write_text(MODEL)
    sets = [{"touch_mb": size} for size in SMALL_MB] * 20 + [{"touch_mb": LARGE_MB}]
    study = place.study([params | {"set": i} for i, params in enumerate(sets)], replicates=3)
    ended = place.run(study, tmp_path / "run", "--chunk", "1", limit_cpus="4")
    assert 0 == ended.code, ended.stderr
    times = RunReader(tmp_path / "run").output("times").sort_by("began_s")
    sizes = times["param_touch_mb"].to_pylist()
    n_after = len(sizes) - 1 - max(index for index, size in enumerate(sizes) if size == LARGE_MB)
    assert len(sets) * 3 == len(sizes)
    assert n_after > len(sizes) / 4, f"only {n_after} of {len(sizes)} simulations began after the last large one"
