"""What Ray's autoscaler says of the requests it does not fulfil, for a run that waits for them.

Owns the reading of its state in the GCS. Decides nothing: at its maximum, an autoscaler calls all else infeasible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from modelops_ray.core.policy import count
from modelops_ray.errors import first_line, one_line

ASKED_FOR_S = 5.0
MOST_SHAPES = 3


def autoscaler_says(gcs_address: str) -> str:
    """Ask the GCS what the autoscaler cannot bring about, and what it is doing; "" if it has said nothing."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    try:
        data = GcsClient(gcs_address).get_cluster_status(timeout_s=ASKED_FOR_S)
    except ray.exceptions.RpcError as error:
        return f"the autoscaler's state cannot be read ({first_line(error)})"
    return words_of(GetClusterStatusReply.FromString(data).autoscaling_state)


def words_of(state: Any) -> str:
    """Put an autoscaling state into words, those of the autoscaler where it has some."""
    parts = []
    if infeasible := _shapes(dict(one.resources_bundle) for one in state.infeasible_resource_requests):
        parts.append(f"no available node types can fulfill resource requests {infeasible}")
    pending = [f"{one.count} of {one.ray_node_type_name}" for one in state.pending_instance_requests]
    waiting = Counter(one.ray_node_type_name for one in state.pending_instances)
    pending += [f"{n} of {group}" for group, n in waiting.items()]
    if pending:
        parts.append(f"nodes on their way: {', '.join(pending)}")
    failed = {f"{one.ray_node_type_name}: {one_line(one.reason, 300)}" for one in state.failed_instance_requests}
    parts += [f"failed to launch {each}" for each in sorted(failed)[:MOST_SHAPES]]
    return f"the autoscaler says: {'; '.join(parts)}" if parts else ""


def _shapes(requests: Iterable[Mapping[str, float]]) -> str:
    """Name the most frequent shapes of requests, as Ray does, with memory in MiB."""
    counts = Counter(tuple(sorted(one.items())) for one in requests)
    named = [f"{{{', '.join(map(_named, shape))}}}*{n}" for shape, n in counts.most_common(MOST_SHAPES)]
    more = [f"and {count(len(counts) - MOST_SHAPES, 'other shape')}"] if len(counts) > MOST_SHAPES else []
    return ", ".join(named + more)


def _named(resource: tuple[str, float]) -> str:
    name, amount = resource
    return f"{name}: {amount / 2**20:,.0f} MiB" if name == "memory" else f"{name}: {amount:g}"
