"""Ray's own code, asked offline: what its autoscaler makes of a cluster's groups, and which flags `ray start` knows.

The only file here that knows Ray, and its private parts: `_derive_autoscaling_config_from_ray_cr` is what the
autoscaler reads a RayCluster by, `ResourceDemandScheduler` what it decides by. Tests hold them to the installed Ray.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from modelops_ray.cluster.manifests.files import Json
from modelops_ray.cluster.manifests.views import Cluster
from modelops_ray.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Demand:
    """What one task asks for."""

    cpus: float
    memory_bytes: int


@functools.cache
def start_flags() -> frozenset[str]:
    """Every option of `ray start`, without its dashes."""
    from ray.scripts.scripts import start

    return frozenset(opt.lstrip("-") for param in start.params for opt in param.opts if opt.startswith("--"))


def node_types(cluster: Cluster) -> dict[str, Json]:
    """The node types that the autoscaler reads from a cluster; ManifestError where it would fail in its every loop."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as derive

    workers = [{"minReplicas": 0, **group.spec, "maxReplicas": group.max_replicas} for group in cluster.workers]
    spec = {**cluster.spec, "workerGroupSpecs": workers}
    try:
        config = derive({"metadata": {"name": "cluster", "namespace": "default"}, "spec": spec})
    except jsonschema.ValidationError as error:
        raise ManifestError(f"{'/'.join(map(str, error.path))}: {error.message}", "autoscaler-reads-not") from error
    except (KeyError, ValueError, AssertionError) as error:
        raise ManifestError(" ".join(str(error).split()), "autoscaler-reads-not") from error
    found: dict[str, Json] = config["available_node_types"]
    return found


def grow(cluster: Cluster, demands: Mapping[Demand, int]) -> dict[str, int]:
    """Ask the autoscaler how many pods of each group it launches for these tasks, with only the head there.

    ManifestError where it cannot read the cluster.
    """
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler

    logging.getLogger("ray.autoscaler.v2.scheduler").setLevel(logging.WARNING)  # it writes every launch to stderr
    reply = ResourceDemandScheduler().schedule(_request(node_types(cluster), demands))
    pods: dict[str, int] = {group.name: 0 for group in cluster.workers}
    for launch in reply.to_launch:
        if launch.instance_type in pods:
            pods[launch.instance_type] += launch.count
    return pods


def _request(types: dict[str, Json], demands: Mapping[Demand, int]) -> Any:
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    configs = {
        name: NodeTypeConfig(
            name=name,
            min_worker_nodes=each["min_workers"],
            max_worker_nodes=each["max_workers"],
            resources=each["resources"],
            labels=each["labels"],
        )
        for name, each in types.items()
    }
    wanted = [
        ResourceRequestByCount(
            request=ResourceRequestUtil.make({"CPU": demand.cpus, "memory": demand.memory_bytes}), count=count
        )
        for demand, count in demands.items()
    ]
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=configs,
        max_num_nodes=sum(config.max_worker_nodes for config in configs.values()),
        resource_requests=wanted,
    )
