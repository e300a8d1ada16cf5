"""RayClusters and RayJobs as rules look at them: groups, their Ray containers, quantities in bytes.

Reads objects that passed the schema. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from modelops_ray.cluster.manifests.files import Json, Resource
from modelops_ray.cluster.manifests.findings import pointer
from modelops_ray.cluster.quantity import as_bytes

TO_CLUSTER = {"RayCluster": ("spec",), "RayJob": ("spec", "rayClusterSpec")}
_UNLIMITED = 2147483647
"""What KubeRay makes of a group without maxReplicas."""


@dataclass(frozen=True, slots=True)
class Group:
    """The head or one group of workers; `path` leads to it from the object's root."""

    path: tuple[object, ...]
    spec: Json
    is_head: bool

    def at(self, *path: object) -> str:
        """A JSON pointer to something below the group."""
        return pointer((*self.path, *path))

    @property
    def name(self) -> str:
        """The group's name; the head's is Ray's own."""
        return "headgroup" if self.is_head else str(self.spec["groupName"])

    @property
    def params(self) -> dict[str, str]:
        """What `ray start` gets."""
        return self.spec.get("rayStartParams") or {}

    @property
    def resources(self) -> dict[str, str]:
        """Logical resources that the group itself names."""
        return {key: str(value) for key, value in (self.spec.get("resources") or {}).items()}

    @property
    def pod(self) -> Json:
        """The specification of its pods."""
        return (self.spec.get("template") or {}).get("spec") or {}

    def in_pod(self, *path: object) -> str:
        """A JSON pointer to something in the pod."""
        return self.at("template", "spec", *path)

    @property
    def containers(self) -> list[Json]:
        """All containers; Ray's is the first."""
        return self.pod.get("containers") or []

    @property
    def ray(self) -> Json:
        """The Ray container, empty if there is none."""
        return self.containers[0] if self.containers else {}

    def in_ray(self, *path: object) -> str:
        """A JSON pointer to something in the Ray container."""
        return self.in_pod("containers", 0, *path)

    @property
    def env(self) -> dict[str, str]:
        """Environment variables of the Ray container with a value of their own."""
        return {entry["name"]: str(entry.get("value", "")) for entry in self.ray.get("env") or []}

    def quantities(self, which: str) -> dict[str, Any]:
        """`requests` or `limits` of the Ray container."""
        return (self.ray.get("resources") or {}).get(which) or {}

    @property
    def limit_bytes(self) -> int | None:
        """The memory limit of the Ray container."""
        return as_bytes(self.quantities("limits").get("memory"))

    @property
    def plasma_bytes(self) -> int | None:
        """The size of the object store, None where it is not given."""
        text = self.params.get("object-store-memory", "")
        return int(text) if text.isdecimal() else None

    @property
    def memory_bytes(self) -> int | None:
        """The memory that Ray may promise, None where the group does not say."""
        return as_bytes(self.resources.get("memory"))

    @property
    def threshold(self) -> float | None:
        """The share of the limit at which Ray kills; None where it is not given, or not a number."""
        try:
            return float(self.env.get("RAY_memory_usage_threshold", ""))
        except ValueError:
            return None

    @property
    def max_replicas(self) -> int:
        """The most pods there may be."""
        return int(self.spec.get("maxReplicas", _UNLIMITED))

    def volume_at(self, folder: str) -> Json | None:
        """The volume that holds a folder of the Ray container, None if that is the container's own disk."""
        path, mounts = folder.rstrip("/") + "/", self.ray.get("volumeMounts") or []
        mounts = [mount for mount in mounts if path.startswith(mount["mountPath"].rstrip("/") + "/")]
        if not mounts:
            return None
        name = max(mounts, key=lambda mount: len(mount["mountPath"]))["name"]
        return next((volume for volume in self.pod.get("volumes") or [] if volume["name"] == name), None)


def is_scratch(volume: Json) -> bool:
    """Whether a volume is deleted with its pod; one that names no kind is an emptyDir."""
    return set(volume) - {"name"} <= {"emptyDir", "ephemeral"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A RayCluster, or the cluster that a RayJob asks for."""

    path: tuple[object, ...]
    spec: Json
    annotations: Json

    def at(self, *path: object) -> str:
        """A JSON pointer to something below its specification."""
        return pointer((*self.path, *path))

    @property
    def head(self) -> Group:
        """The head."""
        return Group((*self.path, "headGroupSpec"), self.spec.get("headGroupSpec") or {}, is_head=True)

    @property
    def workers(self) -> list[Group]:
        """The groups of workers."""
        groups = self.spec.get("workerGroupSpecs") or []
        return [Group((*self.path, "workerGroupSpecs", i), group, is_head=False) for i, group in enumerate(groups)]

    @property
    def groups(self) -> Iterator[Group]:
        """The head and the workers."""
        yield self.head
        yield from self.workers

    @property
    def n_pods(self) -> int:
        """The most workers there may be."""
        return sum(group.max_replicas for group in self.workers)

    @property
    def autoscaler(self) -> Json:
        """The options of the autoscaler."""
        return self.spec.get("autoscalerOptions") or {}

    @property
    def is_scaled(self) -> bool:
        """Whether an autoscaler decides how many workers there are."""
        return bool(self.spec.get("enableInTreeAutoscaling"))

    @property
    def is_v2(self) -> bool:
        """Whether KubeRay runs version 2 of the autoscaler, which it decides by this field only."""
        return self.is_scaled and self.autoscaler.get("version") == "v2"

    @property
    def version(self) -> tuple[int, ...] | None:
        """The version of Ray; None where it is missing or malformed."""
        parts = str(self.spec.get("rayVersion", "")).split(".")
        return tuple(int(part) for part in parts) if len(parts) == 3 and all(map(str.isdecimal, parts)) else None


def cluster_of(content: Json) -> Cluster | None:
    """The cluster that an object describes, None if it describes none."""
    path = TO_CLUSTER.get(content["kind"])
    node: Any = content
    for key in path or ():
        node = (node or {}).get(key)
    if path is None or not node:
        return None
    return Cluster(path, node, content["metadata"].get("annotations") or {})


def of_kind(resources: Iterable[Resource], kind: str) -> list[Resource]:
    """The objects of one kind."""
    return [resource for resource in resources if resource.kind == kind]
