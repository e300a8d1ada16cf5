"""Tasks of several simulations where fewer are left than would share one."""

import random

import pytest

from modelops_ray.core.events import (
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    Node,
    PartCommitted,
    Segment,
    SubmitChunk,
    TasksAdded,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.memory import bin_of
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Measured

MIB = 2**20
GIB = 2**30


def whole_run(rng):
    """Run a study of small simulations on large nodes, of which some are lost; the invariants hold at every step."""
    node = Node(rng.choice([8.0, 16.0, 32.0, 64.0]), rng.randint(1, 4) * GIB)
    peak_bytes, n, each = rng.randint(5, 60) * MIB, rng.randint(20, 300), rng.choice([1, 2, 3, 5])
    known = {"known_worker_bytes": rng.choice([65, 100, 130]) * MIB, "known_child_bytes": 10 * MIB}
    chunk = rng.choice([None, None, 1, 3])
    state = CheckedRun(
        Policy(supervised=True, chunk=chunk, **known), known_peaks={bin_of(peak_bytes): 20}, known_seconds=2.0,
    )  # fmt: skip
    chunks, submitted = [], []

    def tell(event):
        for action in state.handle(event):
            if isinstance(action, SubmitChunk):
                chunks.append(action)
                submitted.append(action)
            elif isinstance(action, WritePart):
                tell(PartCommitted(event.now_s, action.chunk_ids))

    tell(CapacityChanged(0.0, Capacity((node,) * rng.randint(1, 4))))
    tell(TasksAdded(0.0, tuple(Segment(i, i * each, (i + 1) * each) for i in range(n // each)), last=True))
    while chunks:
        one = chunks.pop(rng.randrange(len(chunks)))
        if rng.random() < 0.1:
            tell(ChunkFailed(1.0, one.chunk_id, Cause.NODE_LOST, "Died", "it died"))
            continue
        done = tuple(Measured(p, 2.0, int(peak_bytes * rng.uniform(0.8, 1.0))) for p in one.positions)
        tell(ChunkFinished(1.0, one.chunk_id, ChunkReport(done, base_bytes=110 * MIB, child_bytes=10 * MIB)))
    assert n // each * each == state.counters.completed
    return submitted


@pytest.mark.parametrize("seed", [*range(12), 158, 267, 294, 377])
def test_a_task_runs_no_more_at_a_time_than_it_holds(seed):
    """What it asks for is decided for those, so that no more are outstanding than the window at that size allows."""
    assert all(len(chunk.positions) >= chunk.width for chunk in whole_run(random.Random(seed)))
