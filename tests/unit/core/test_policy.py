"""The settings of decisions."""

from __future__ import annotations

import pytest

from modelops_ray.core.policy import Policy, mib


@pytest.mark.parametrize(("timeout_s", "patience_s"), [(0.0, 600.0), (100.0, 600.0), (1800.0, 2700.0)])
def test_a_run_waits_longer_than_a_simulation_may_take(timeout_s, patience_s):
    """One that runs into its time limit is not taken for a run that does not move."""
    assert patience_s == Policy(timeout_s=timeout_s).patience_s


def test_bytes_are_written_in_mib():
    """Whole ones, with commas."""
    assert ("0 MiB", "1 MiB", "2,048 MiB") == (mib(1), mib(2**20), mib(2**31))
