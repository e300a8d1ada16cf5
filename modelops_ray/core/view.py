"""Values for those outside of the core: `View` of a run at one moment, `Learned` of its model for later runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelops_ray.core.bounds import Bound, bound_of
from modelops_ray.core.events import Capacity
from modelops_ray.core.guards import Counters
from modelops_ray.core.scheduler import Dispatch


@dataclass(frozen=True, slots=True)
class View:
    """A run at one moment; sizes in bytes, times in seconds.

    `completed` and `failed` are of this session, and include what is not committed yet. `outstanding` counts chunks,
    `running` simulations. `requested_bytes` is what outstanding chunks ask for, running or waiting. `peak_bytes_max`
    and `request_bytes_max` are the largest of this session.
    """

    completed: int
    failed: int
    committed: int
    attempts: int
    oom_retries: int
    infrastructure_retries: int
    outstanding: int
    running: int
    is_probing: bool
    requested_bytes: int
    capacity: Capacity
    peak_bytes_max: int
    request_bytes_max: int
    bound: Bound = Bound.START_UP

    @classmethod
    def of(cls, counters: Counters, dispatch: Dispatch, unwritten_bytes: int) -> View:
        """Look at a run of which `unwritten_bytes` have finished and are not committed."""
        admission = dispatch.admission
        return cls(
            completed=counters.completed,
            failed=counters.failed,
            committed=counters.committed,
            attempts=counters.attempts,
            oom_retries=counters.oom_retries,
            infrastructure_retries=counters.infrastructure_retries,
            outstanding=len(dispatch.outstanding),
            running=min(dispatch.allocator.concurrency, admission.n_slots_asked_for),
            is_probing=admission.is_probing,
            requested_bytes=admission.requested_bytes,
            capacity=dispatch.window.capacity,
            peak_bytes_max=dispatch.memory.peak_bytes_max,
            request_bytes_max=admission.request_bytes_max,
            bound=bound_of(dispatch, unwritten_bytes, has_results=counters.completed + counters.failed > 0),
        )


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run has measured of its model, with what it knew at its start.

    `peaks` counts peaks by bin of `memory.bin_of`; `mean_seconds` is None before the first simulation ended. A worker
    took `worker_bytes` before its first simulation, each process for simulations `child_bytes` more, and the tasks of a
    node shared `shared_bytes`.
    """

    peaks: Mapping[int, int]
    mean_seconds: float | None
    worker_bytes: int
    child_bytes: int
    shared_bytes: int

    @classmethod
    def of(cls, dispatch: Dispatch) -> Learned:
        """Take down what is known by now."""
        memory, overhead = dispatch.memory, dispatch.memory.overhead
        return cls(
            peaks=dict(memory.counts),
            mean_seconds=dispatch.mean_seconds,
            worker_bytes=overhead.worker_bytes,
            child_bytes=overhead.child_bytes,
            shared_bytes=overhead.shared_bytes,
        )
