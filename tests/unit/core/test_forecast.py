"""What a run is expected to take."""

from __future__ import annotations

from modelops_ray.core.events import Capacity, Node
from modelops_ray.core.forecast import forecast
from modelops_ray.core.memory import bin_of, edge_of, with_margin
from modelops_ray.core.policy import Policy
from modelops_ray.core.scheduler import Dispatch

MIB = 2**20
GIB = 2**30


def test_a_forecast_says_how_many_the_memory_holds_and_how_many_without_a_server():
    """What a model's import takes is there once per node, and not once per simulation; it is shared by all requests."""
    known = {"known_worker_bytes": 100 * MIB, "known_child_bytes": 10 * MIB, "known_shared_bytes": 1000 * MIB}
    dispatch = Dispatch(Policy(**known), known_peaks={bin_of(50 * MIB): 100}, known_seconds=1.0)
    dispatch.update(Capacity((Node(64.0, 8 * GIB),)))
    expected = forecast(dispatch, n_simulations=100, n_sets=10, n_left=100)
    limit = with_margin(edge_of(bin_of(50 * MIB)))
    assert (8 * GIB) // (1100 * MIB + limit) == expected.fit_unshared
    assert 5 * expected.fit_unshared < expected.fit_in_memory <= (8 * GIB - 1000 * MIB) // (10 * MIB + limit)
    assert expected.concurrency <= expected.fit_in_memory
    assert not any(key.startswith("fit_") for key in expected.values())
