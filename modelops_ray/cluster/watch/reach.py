"""Which nodes the autoscaler of a RayCluster could add: its groups, each with its largest count.

Owns reading that from the resource, by Ray's own code. The GCS does not have it (Ray 2.60), so a tier without a pod is
known from here only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelops_ray.core.events import Node

MOST_OF_A_GROUP = 10_000
"""A group without a bound counts as this many nodes."""


def reachable(raycluster: Mapping[str, Any]) -> tuple[Node, ...]:
    """List every node that could be there; () where nothing scales, or where Ray itself could not read the groups."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    if not raycluster.get("spec", {}).get("enableInTreeAutoscaling"):
        return ()
    try:
        derived = _derive_autoscaling_config_from_ray_cr(dict(raycluster))
    except (AssertionError, KeyError, ValueError):
        return ()
    head = derived["head_node_type"]
    groups = derived["available_node_types"].items()
    counted = ((1 if name == head else int(group["max_workers"]), group["resources"]) for name, group in groups)
    nodes = [
        Node(float(resources["CPU"]), int(resources["memory"]))
        for count, resources in counted
        if resources.get("CPU", 0) and resources.get("memory", 0)
        for _ in range(min(count, MOST_OF_A_GROUP))
    ]
    return tuple(sorted(nodes))
