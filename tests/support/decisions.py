"""Given events, expect actions: a run of the core that is handed what happened by a test."""

from __future__ import annotations

from modelops_ray.core.events import Capacity, CapacityChanged, ChunkFailed, ChunkFinished, Node, Segment, TasksAdded
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Measured

MIB = 2**20
GIB = 2**30
ONE_NODE = Capacity((Node(4.0, 8 * GIB),))


def begun(n=8, replicates=1, capacity=ONE_NODE, known_seconds=None, **policy):
    """A validated state that was fed a study, and the chunks it submitted."""
    state = CheckedRun(Policy(**policy), known_seconds=known_seconds)
    actions = state.handle(CapacityChanged(0.0, capacity))
    segments = tuple(Segment(i, i * replicates, (i + 1) * replicates) for i in range(n // replicates))
    actions += state.handle(TasksAdded(0.0, segments, last=True))
    return state, actions


def of(kind, actions):
    """The actions of a kind."""
    return [action for action in actions if isinstance(action, kind)]


def finished(chunk, now_s=1.0, peak_bytes=10 * MIB, seconds=1.0, **report):
    """A chunk in which everything completed."""
    done = tuple(Measured(position, seconds, peak_bytes) for position in chunk.positions)
    return ChunkFinished(now_s, chunk.chunk_id, ChunkReport(done, base_bytes=64 * MIB, payload_bytes=1000, **report))


def killed(chunk, cause=Cause.OUT_OF_MEMORY, **how):
    """A chunk whose process was killed."""
    return ChunkFailed(1.0, chunk.chunk_id, cause, "OutOfMemoryError", "killed", **how)
