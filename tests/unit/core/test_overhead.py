"""What a task needs besides its simulations."""

from __future__ import annotations

from modelops_ray.core.overhead import Overhead
from modelops_ray.core.report import ChunkReport

MIB = 2**20


def test_what_earlier_runs_knew_of_a_worker_gives_way_to_what_is_measured():
    """They may have started an interpreter for every simulation."""
    overhead = Overhead(100 * MIB, 174 * MIB, 0)
    overhead.observe(ChunkReport((), base_bytes=90 * MIB, child_bytes=10 * MIB, shared_bytes=200 * MIB))
    assert (80 * MIB, 10 * MIB, 200 * MIB) == (overhead.worker_bytes, overhead.child_bytes, overhead.shared_bytes)
