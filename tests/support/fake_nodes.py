"""Ray's fake nodes, which are real raylets on this machine, with the memory their group declares.

The provider of Ray passes `memory` on as a resource of a user's own making, which Ray then refuses.
"""

# ruff: noqa: TID253 (imported only by processes that start Ray)

from __future__ import annotations

import copy
import json

from ray._private import ray_constants
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)


class MemoryNodeProvider(FakeMultiNodeProvider):
    """Starts and ends raylets as the autoscaler says."""

    def _create_node_with_resources_and_labels(self, node_config, tags, count, resources, labels):
        resources = copy.deepcopy(resources)
        with self.lock:
            node_id, node_type = self._next_hex_node_id(), tags[TAG_RAY_USER_NODE_TYPE]
            params = RayParams(
                min_worker_port=0,
                max_worker_port=0,
                dashboard_agent_listen_port=0,
                num_cpus=resources.pop("CPU", 0),
                memory=resources.pop("memory"),
                object_store_memory=resources.pop("object_store_memory", None),
                resources=resources,
                redis_address=self._gcs_address,
                gcs_address=self._gcs_address,
                env_vars={
                    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
                    "RAY_CLOUD_INSTANCE_ID": node_id,
                    "RAY_NODE_TYPE_NAME": node_type,
                    ray_constants.RESOURCES_ENVIRONMENT_VARIABLE: json.dumps(resources),
                },
            )
            node = Node(params, head=False, shutdown_at_exit=False, spawn_reaper=False)
            own = {
                TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                TAG_RAY_USER_NODE_TYPE: node_type,
                TAG_RAY_NODE_NAME: node_id,
                TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            }
            self._nodes[node_id] = {"tags": own | tags, "node": node}
