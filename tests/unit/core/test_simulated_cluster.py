"""The real decisions on a simulated cluster, in virtual time: how long a study takes, and who waits how long."""

from __future__ import annotations

import random

import pytest
from support.simulated_cluster import Cluster, Result, Workload

from modelops_ray.core.events import ChunkFinished, Ending
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.state import RunState

MIB = 2**20
GIB = 2**30
NODE = (8.0, 16 * GIB)


def workload(n: int, sigma: float, *, large_share: float = 0.1, replicates: int = 30) -> Workload:
    """Run times differ by parameter set (lognormal) and a little by replicate; a tenth of the sets needs 5 x memory."""
    rng = random.Random(1)
    seconds: list[float] = []
    peaks: list[int] = []
    for _ in range(-(-n // replicates)):
        factor = 10 * rng.lognormvariate(0, sigma)
        peak = 200 * MIB * (5 if rng.random() < large_share else 1)
        for _ in range(replicates):
            seconds.append(factor * rng.uniform(0.8, 1.2))
            peaks.append(int(peak * rng.uniform(0.9, 1.05)))
    return Workload(seconds[:n], peaks[:n], replicates)


def bound_s(work: Workload, n_slots: int) -> float:
    """No schedule is shorter than this."""
    return max(sum(work.seconds) / n_slots, *work.seconds)


def run(work: Workload, n_nodes: int, *, validate: bool = False, **options: object) -> tuple[RunState, Result]:
    """Simulate a study."""
    state = (CheckedRun if validate else RunState)(Policy())
    return state, Cluster(state, work, [NODE] * n_nodes, **options).run()


@pytest.mark.parametrize(("sigma", "most"), [(0.3, 1.05), (1.5, 1.15)])
def test_fifty_thousand_simulations_keep_fifty_nodes_busy(sigma, most):
    """Light tails end within 5 % of the shortest possible time, heavy ones within 15 %, with nothing declared."""
    work = workload(50_000, sigma)
    state, result = run(work, 50)
    assert Ending.COMPLETE == result.finish.ending
    assert 50_000 == state.counters.committed
    assert result.makespan_s <= most * bound_s(work, 400)
    assert state.counters.oom_retries < 500


def test_invariants_hold_along_a_whole_study():
    """Every event of a study of 1,900 simulations leaves the state consistent."""
    state, _ = run(workload(1_900, 0.3), 5)
    assert 1_900 == state.counters.committed


def test_nodes_that_come_and_go_lose_nothing():
    """Two of five nodes die and three join: everything completes, and nobody is blamed for a loss."""
    state = CheckedRun(Policy())
    cluster = Cluster(state, workload(1_500, 0.3), [NODE] * 5)
    for index, at_s in enumerate((50.0, 90.0)):
        cluster.at(at_s, lambda index=index: cluster.lose(index))
    for at_s in (120.0, 130.0, 140.0):
        cluster.at(at_s, lambda: cluster.gain(*NODE))
    result = cluster.run()
    assert Ending.COMPLETE == result.finish.ending
    assert (1_500, 0) == (state.counters.committed, state.counters.failed)
    assert state.counters.infrastructure_retries > 0


@pytest.mark.parametrize("announce", [True, False])
def test_one_request_for_most_of_a_node_runs_within_its_turn(announce):
    """Three small sizes in a refilled window and one that fits nowhere beside them: it is not left for the end."""
    rng = random.Random(2)
    peaks = [int(rng.choice([200, 420, 800]) * MIB) for _ in range(600)]
    peaks[0] = 12 * GIB
    work = Workload([10.0] * 600, peaks, 1)
    state = CheckedRun(Policy())
    cluster = Cluster(state, work, [NODE], announce=announce)
    ended_s: dict[int, float] = {}
    handle = state.handle

    def note(event):
        if isinstance(event, ChunkFinished):
            ended_s.update(dict.fromkeys((m.position for m in event.report.completed), event.now_s))
        return handle(event)

    state.handle = note
    result = cluster.run()
    assert Ending.COMPLETE == result.finish.ending
    assert ended_s[0] < 0.7 * result.makespan_s
    assert result.longest_wait_s < 0.3 * result.makespan_s


def test_what_no_node_can_hold_fails_with_sizes_and_the_rest_completes():
    """A simulation above the largest node ends as a failure that says how much it wanted."""
    peaks = [200 * MIB] * 300
    peaks[7] = 40 * GIB
    state = CheckedRun(Policy())
    result = Cluster(state, Workload([5.0] * 300, peaks, 10), [NODE] * 2).run()
    assert Ending.COMPLETE == result.finish.ending
    assert (299, 1) == (state.counters.completed, state.counters.failed)
