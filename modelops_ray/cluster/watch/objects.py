"""The objects of Kubernetes and KubeRay, with the fields that are read here.

Owns reading them from what the API server sends; `podwatch` says what they mean over time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from modelops_ray.cluster.quantity import as_bytes

GROUP_LABEL = "ray.io/group"
LONGEST_MESSAGE = 300


class Object(BaseModel):
    """A part of an object of the API; fields that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True, frozen=True)


class Terminated(Object):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    finished_at: str = ""


class Waiting(Object):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class State(Object):
    """What a container does now, or did before it was started again."""

    terminated: Terminated | None = None
    waiting: Waiting | None = None


class ContainerStatus(Object):
    """A container and its states."""

    name: str
    state: State = State()
    last_state: State = State()


class Condition(Object):
    """One thing that is, or is not, true of a pod."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class PodStatus(Object):
    """What became of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = Field(default="", alias="podIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Resources(Object):
    """What a container may use."""

    limits: Mapping[str, str | int] = {}


class Container(Object):
    """A container as it was asked for."""

    name: str
    resources: Resources = Resources()


class PodSpec(Object):
    """A pod as it was asked for."""

    containers: tuple[Container, ...] = ()


class Metadata(Object):
    """The fields that every object has."""

    name: str
    uid: str = ""
    labels: Mapping[str, str] = {}
    deletion_timestamp: str | None = None


class Pod(Object):
    """A pod, as far as it is read here."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def group(self) -> str:
        """The worker group, which is a memory tier; "" for a pod that is in none."""
        return self.metadata.labels.get(GROUP_LABEL, "")

    @property
    def name(self) -> str:
        """The pod's name as messages show it, with its tier."""
        tier = f" of tier {self.group}" if self.group else ""
        return f"pod {self.metadata.name}{tier}"

    @property
    def limit_bytes(self) -> int:
        """The memory limit of the Ray container, which is the first one; 0 where there is none."""
        limit = self.spec.containers[0].resources.limits.get("memory") if self.spec.containers else None
        return as_bytes(limit) or 0


class JobStatus(Object):
    """What became of a RayJob, in two statuses that KubeRay keeps."""

    job_status: str = ""
    job_deployment_status: str = ""
    reason: str = ""
    message: str = ""
    ray_cluster_name: str = ""


class RayJob(Object):
    """A RayJob, as far as it is read here."""

    metadata: Metadata
    status: JobStatus = JobStatus()

    @property
    def line(self) -> str:
        """Its status, in one line."""
        status = self.status
        # KubeRay's two statuses may contradict each other (kuberay#2314): both are shown.
        stages = status.job_deployment_status or "not looked at by KubeRay yet"
        if status.job_status:
            stages = f"{stages}, job {status.job_status}"
        why = joined(status.reason, status.message) if status.reason or status.message else ""
        return f"RayJob {self.metadata.name}: {stages}" + (f" ({why})" if why else "")

    @property
    def has_ended(self) -> bool:
        """Whether its status is final; `Retrying`, `Suspended` and the like are not."""
        return self.status.job_deployment_status in {"Complete", "Failed", "ValidationFailed"}

    @property
    def has_succeeded(self) -> bool:
        """Whether it has ended, and its driver succeeded."""
        return self.status.job_deployment_status == "Complete" and self.status.job_status == "SUCCEEDED"


def read_pod(found: Mapping[str, Any]) -> Pod | None:
    """Read a pod; None where the object is none, such as an error."""
    try:
        return Pod.model_validate(found)
    except ValidationError:
        return None


def joined(reason: str, message: str) -> str:
    """Join a reason and a message of Kubernetes into a part of one line."""
    text = " ".join(message.split()).rstrip(".")[:LONGEST_MESSAGE]
    return ": ".join(part for part in (reason, text) if part) or "no reason given"
