"""Memory that runs out on purpose, in a real memory cgroup: who has to go, who stays, and that it never crawls."""

from __future__ import annotations

import pytest
from support.studies import rows

from benchmarks.cgroups import memory_cgroup, why_not

MIB = 2**20
MODEL = """
import time

import numpy as np


def simulate(params, seed):
    held = []
    for _ in range(params["mib"] // 10):
        held.append(np.ones(10 * 2**17))
        time.sleep(0.005)
    time.sleep(params["hold_s"])
    return {"r": {"x": float(np.random.default_rng(seed).random())}}
"""

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "cgroups can be made"),
    pytest.mark.cgroup,
    pytest.mark.long,
    pytest.mark.timeout(180),
]


def test_of_eight_children_the_one_over_its_request_is_killed_and_no_other(place, tmp_path):
    """It completes with more, no worker of Ray dies, and every other simulation needs one attempt."""
    (place.folder / "model.py").write_text(MODEL)
    sets = [{"mib": 1500 if i == 30 else 60, "hold_s": 1.0, "set": i} for i in range(60)]
    with memory_cgroup(3072 * MIB) as group:
        ended = place.run(
            place.study(sets), tmp_path / "run", "--chunk", "1", within=group.entering, limit_cpus="8",
            limit_memory="3Gi",
        )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    attempts = {row["param_mib"]: row["attempts"] for row in rows(tmp_path / "run") if row["attempts"] > 1}
    assert [1500] == list(attempts)
    assert (0, attempts[1500] - 1) == (ended.summary["infrastructure_retries"], ended.summary["oom_retries"])


@pytest.mark.parametrize(("mib", "code"), [(450, 0), (700, 3)])
def test_four_that_need_more_than_there_is_end_soon_and_do_not_crawl(place, tmp_path, mib, code):
    """They begin together in 1.5 GiB, of which Ray takes half; what fits alone completes, what does not says so."""
    (place.folder / "model.py").write_text(MODEL)
    sets = [{"mib": mib, "hold_s": 1.0, "set": i} for i in range(4)]
    with memory_cgroup(1536 * MIB) as group:
        ended = place.run(
            place.study(sets), tmp_path / "run", within=group.entering, limit_cpus="4", limit_memory="1536Mi"
        )
    assert code == ended.code, ended.stderr
    assert 0 == ended.summary["infrastructure_retries"]
    assert ended.summary["wall_seconds"] < 30
