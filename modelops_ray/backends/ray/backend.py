"""Runs chunks as Ray tasks: submits, waits, classifies what went wrong, hands out payloads.

Owns every reference to Ray's objects; decides nothing about retries or sizes. A task is tried once (`max_retries=0`):
Ray would repeat a task killed for its memory for ever, with the same request.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from modelops_ray.backends.ray.autoscaler import autoscaler_says
from modelops_ray.backends.ray.connect import Cluster
from modelops_ray.backends.ray.errors import classify, killer, lost_address, node_says, used_bytes
from modelops_ray.backends.ray.gcs import GcsWatch
from modelops_ray.backends.ray.task import NAMESPACE, excess_of, supervisor
from modelops_ray.core.events import Capacity, ChunkFailed, ChunkFinished, ChunkStarted, ClusterSaid, Event, Node
from modelops_ray.core.report import Cause, ChunkReport
from modelops_ray.errors import PayloadLostError, first_line
from modelops_ray.sandbox.machine import KernelKills
from modelops_ray.study.chunk import Chunk, Payload, RunChunk

CAPACITY_EVERY_S = 5.0
ANNOUNCED_EVERY_S = 1.0
TAKE_TIMEOUT_S = 600.0
CRASHED_MESSAGE = {
    True: "the worker process was killed by the kernel, because memory ran out",
    False: "the worker process died: killed from outside, or a crash in native code",
    None: "the worker process died: killed, perhaps because memory ran out, or a crash in native code",
}


class RayBackend:
    """Honours the contract of `session.ports.Backend` on the Ray that this process is connected to."""

    def __init__(self, run_chunk: RunChunk, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        import ray

        self._ray, self._clock = ray, clock
        self._cluster = cluster
        self._run = f"{uuid.uuid4().hex}:"
        # Ray exports a function once, and every worker process fetches and unpickles it once: that carries run_chunk.
        remote = ray.remote(num_returns=2, max_retries=0, enable_task_events=False)
        self._task = remote(supervisor(run_chunk, self._run))
        self._reports: dict[int, Any] = {}
        self._chunk_ids: dict[Any, int] = {}
        self._payloads: dict[int, Any] = {}
        self._unstarted: set[int] = set()
        self._announcements_s = -ANNOUNCED_EVERY_S
        self._capacity: tuple[float, Capacity] | None = None
        self._gcs = GcsWatch(cluster.address, clock, comes_back=not cluster.owned)
        self._kills = KernelKills(clock) if cluster.owned else None
        self._spilled_before_bytes = _spilled_bytes()
        self._spilled_bytes = 0

    def capacity(self) -> Capacity:
        """Look at the nodes that are alive and take CPUs and memory, and at those the autoscaler could add."""
        now_s = self._clock()
        is_due = self._capacity is None or now_s - self._capacity[0] >= CAPACITY_EVERY_S
        if self._capacity is None or (is_due and not self._gcs.is_away):
            # An own Ray has no autoscaler.
            said = "" if self._cluster.owned else autoscaler_says(self._cluster.address)
            self._capacity = now_s, Capacity(nodes_now(), _reachable(), said)
        return self._capacity[1]

    def submit(self, chunk: Chunk) -> None:
        """Hand a chunk to Ray's scheduler."""
        # While tasks wait, Ray's default has driver and raylets ask each other for workers hundreds of times a second
        # wherever the driver's own node takes no tasks, as the head of a cluster should not.
        task = self._task.options(
            name=_task_name(chunk.chunk_id), num_cpus=chunk.cpus, memory=max(1, chunk.request_bytes),
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        report, payload = task.remote(chunk)
        self._reports[chunk.chunk_id] = report
        self._chunk_ids[report] = chunk.chunk_id
        self._payloads[chunk.chunk_id] = payload
        if chunk.announce:
            self._unstarted.add(chunk.chunk_id)

    def cancel(self, chunk_id: int) -> None:
        """Forget a chunk; the worker that runs it is killed."""
        report = self._forget(chunk_id)
        self._payloads.pop(chunk_id, None)
        if report is not None:
            self._ray.cancel(report, force=True)

    def wait(self, timeout_s: float) -> list[Event]:
        """Collect what finished, failed or started, in chunk order.

        What no chunk is to blame for is raised: ModelError, StorageError and BackendError, as by `errors.classify`.
        """
        self._gcs.require()
        if self._kills is not None:
            self._kills.update()
        deadline_s = self._clock() + timeout_s
        while True:
            started = self._started()
            ready = self._ready(self._clock() if started else deadline_s)
            events: list[Event] = [*started, *chain.from_iterable(map(self._ended, ready))]
            if events or self._clock() >= deadline_s:
                return events

    def take(self, chunk_id: int) -> Payload:
        """Hand out a payload once; its tables stay in Ray's object store until they are let go.

        PayloadLostError if it was handed out before, the chunk never finished, or its node is gone.
        """
        ref = self._payloads.pop(chunk_id, None)
        lost = f"the outputs of chunk {chunk_id} are gone; it has to run again"
        if ref is None:
            raise PayloadLostError(lost)
        try:
            payload: Payload = self._ray.get(ref, timeout=TAKE_TIMEOUT_S)
        except self._ray.exceptions.RayError as error:
            classify(error)
            raise PayloadLostError(f"{lost} ({type(error).__name__})") from error
        return payload

    def spilled_bytes(self) -> int:
        """Ask the nodes how many bytes they spilled since this backend was made; never less than before."""
        if self._ray.is_initialized() and not self._gcs.is_away:
            self._spilled_bytes = max(self._spilled_bytes, _spilled_bytes() - self._spilled_before_bytes)
        return self._spilled_bytes

    def close(self) -> None:
        """Cancel what is outstanding and let go of everything; this process stays connected to the cluster."""
        from ray.experimental.internal_kv import _internal_kv_del

        outstanding = list(self._reports)
        if not self._ray.is_initialized() or self._gcs.is_away:
            return
        for chunk_id in outstanding:
            self.cancel(chunk_id)
        self._payloads.clear()
        _internal_kv_del(self._run, del_by_prefix=True, namespace=NAMESPACE)

    def _ready(self, deadline_s: float) -> list[int]:
        """Return the ids of chunks that ended, waiting for the first until the deadline or the next announcements."""
        refs = list(self._chunk_ids)
        timeout_s = max(0.0, deadline_s - self._clock())
        if self._unstarted:
            timeout_s = min(timeout_s, ANNOUNCED_EVERY_S)
        if not refs:
            time.sleep(timeout_s)
            return []
        first, _ = self._ray.wait(refs, num_returns=1, timeout=timeout_s)
        if not first:
            return []
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return sorted(self._chunk_ids[ref] for ref in ready)

    def _ended(self, chunk_id: int) -> Iterator[Event]:
        ref = self._forget(chunk_id)
        try:
            report: ChunkReport = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._payloads.pop(chunk_id, None)
            if said := node_says(error):
                yield ClusterSaid(self._clock(), said, hinders=True)
            yield self._failed(chunk_id, error)
        else:
            yield ChunkFinished(self._clock(), chunk_id, report)

    def _failed(self, chunk_id: int, error: Exception) -> ChunkFailed:
        cause = classify(error)
        used, killed, message = None, None, node_says(error) or first_line(error)
        if cause is Cause.OUT_OF_MEMORY:
            used = used_bytes(str(error), _task_name(chunk_id))
        if cause is Cause.CRASHED:
            killed = self._kills.recent() if self._kills is not None else None
            message = CRASHED_MESSAGE[killed]
        kind, by = type(error).__name__, killer(error)
        event = ChunkFailed(self._clock(), chunk_id, cause, kind, message, used, killed, killed_by=by)
        if cause is not Cause.NODE_LOST:
            return event
        return replace(event, address=lost_address(str(error)), excess=excess_of(chunk_id))

    def _started(self) -> list[ChunkStarted]:
        """Look for the marks that announced tasks leave when they start, at most once a second."""
        now_s = self._clock()
        if not self._unstarted or now_s - self._announcements_s < ANNOUNCED_EVERY_S or self._gcs.is_away:
            return []
        self._announcements_s = now_s
        from ray.experimental.internal_kv import _internal_kv_list

        marked = {int(key.rpartition(b":")[2]) for key in _internal_kv_list(self._run, namespace=NAMESPACE)}
        started = sorted(marked & self._unstarted)
        for chunk_id in marked:
            self._unmark(chunk_id)
        return [ChunkStarted(now_s, chunk_id) for chunk_id in started]

    def _unmark(self, chunk_id: int) -> None:
        from ray.experimental.internal_kv import _internal_kv_del

        self._unstarted.discard(chunk_id)
        if not self._gcs.is_away:
            _internal_kv_del(f"{self._run}{chunk_id}", namespace=NAMESPACE)

    def _forget(self, chunk_id: int) -> Any:
        """Let go of a chunk's report; Ray frees it once no reference to it is held."""
        report = self._reports.pop(chunk_id, None)
        if report is not None:
            del self._chunk_ids[report]
        if chunk_id in self._unstarted:
            self._unmark(chunk_id)
        return report


def _task_name(chunk_id: int) -> str:
    return f"modelops-chunk-{chunk_id}"


def nodes_now() -> tuple[Node, ...]:
    """List the nodes of the Ray this process is connected to that take simulations."""
    import ray
    from ray._private.state import state

    # A node that is drained ends what runs there and takes nothing new.
    leaving = state.get_draining_nodes()
    alive = (node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving)
    resources = (node["Resources"] for node in alive)
    nodes = (Node(float(each.get("CPU", 0)), int(each.get("memory", 0))) for each in resources)
    return tuple(sorted(node for node in nodes if node.cpus > 0 and node.memory_bytes > 0))


def _reachable() -> tuple[Node, ...]:
    """List the nodes that the autoscaler could bring about, where it has reported its groups with their largest counts.

    At most 10,000 of each: a group without a bound is as good as that.
    """
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else ()
    nodes = [
        Node(float(group.resources["CPU"]), int(group.resources["memory"]))
        for group in groups
        if group.resources.get("CPU", 0) and group.resources.get("memory", 0)
        for _ in range(min(group.max_count, 10_000) if group.max_count >= 0 else 10_000)
    ]
    return tuple(sorted(nodes))


def _spilled_bytes() -> int:
    import grpc  # type: ignore[import-untyped]
    from ray._private.internal_api import get_memory_info_reply
    from ray._private.state import state

    try:
        return int(get_memory_info_reply(state).store_stats.spilled_bytes_total)
    except (AssertionError, grpc.RpcError):
        return 0  # every raylet is dead, which chunks that fail will tell


def pickle_by_value(thing: object) -> bytes:
    """Pickle a function that no file defines; a process that loads it needs Ray, and all that it refers to."""
    import ray.cloudpickle

    return bytes(ray.cloudpickle.dumps(thing))
