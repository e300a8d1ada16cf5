"""Pods and RayJobs as an API server sends them, at the moments of their lives that matter here.

Shapes and texts are those of Kubernetes 1.30 and KubeRay 1.7; what the code does not look at is mostly left out.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
CLUSTER = "study-7xk2p"


def pod(name: str = "study-7xk2p-mem4-worker-abcde", *, ip: str = "10.244.1.7", uid: str = "", **status: Any) -> Object:
    """A worker pod of tier mem4 with a limit of 4 Gi that runs; `status` replaces parts of its status."""
    running: Object = {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [container(running={"startedAt": "2026-08-20T09:00:00Z"})],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "studies",
            "uid": uid or f"uid-{name}",
            "labels": {"ray.io/cluster": CLUSTER, "ray.io/group": "mem4", "ray.io/node-type": "worker"},
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "ray-worker", "resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}],
        },
        "status": running | status,
    }


def container(**state: Object) -> Object:
    """The status of the Ray container, in this state."""
    return {"name": "ray-worker", "ready": "running" in state, "restartCount": 0, "state": state, "lastState": {}}


def terminated(code: int = 137, reason: str = "Error", at: str = "2026-08-20T09:41:12Z") -> Object:
    """How a container ended."""
    return {"exitCode": code, "reason": reason, "startedAt": "2026-08-20T09:00:00Z", "finishedAt": at}


def ended(code: int = 137, reason: str = "Error", **more: Any) -> Object:
    """A pod whose container ended, as with `restartPolicy: Never`."""
    return pod(phase="Failed", containerStatuses=[container(terminated=terminated(code, reason))], **more)


def oom_killed(**more: Any) -> Object:
    """Killed by the kernel for its memory."""
    return ended(137, "OOMKilled", **more)


def restarted(at: str = "2026-08-20T09:41:12Z", **more: Any) -> Object:
    """Killed for its memory and started again, as with `restartPolicy: Always`."""
    status = container(running={"startedAt": "2026-08-20T09:41:20Z"})
    status |= {"restartCount": 1, "lastState": {"terminated": terminated(137, "OOMKilled", at)}}
    return pod(containerStatuses=[status], **more)


def evicted(message: str = "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi.") -> Object:
    """Evicted by the kubelet, which also sets a condition."""
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message}
    return ended(137, "Error") | {
        "status": {"phase": "Failed", "reason": "Evicted", "message": message, "podIP": "10.244.1.7"}
        | {"conditions": [condition], "containerStatuses": [container(terminated=terminated())]}
    }


def preempted() -> Object:
    """Pushed aside by the scheduler for a pod of higher priority."""
    message = "default-scheduler: preempting to accommodate a higher priority pod"
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message}
    return deleted(conditions=[condition])


def deleted(**status: Any) -> Object:
    """About to go, because a user deleted it: this is also how the autoscaler scales down."""
    found = pod(**status)
    found["metadata"]["deletionTimestamp"] = "2026-08-20T10:00:00Z"
    return found


def pending(**status: Any) -> Object:
    """Not started; `status` says why."""
    return pod(**({"phase": "Pending", "podIP": "", "containerStatuses": []} | status))


def unschedulable(**more: Any) -> Object:
    """No node has room for it."""
    message = "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pending(conditions=[condition], **more)


def waiting(reason: str, message: str) -> Object:
    """Placed, but its container does not start."""
    return pending(containerStatuses=[container(waiting={"reason": reason, "message": message})])


def raycluster(*, scales: bool = True) -> Object:
    """A RayCluster of two tiers, with the defaults that the API server has filled in."""

    def group(name: str, memory: str, most: int) -> Object:
        return {
            "groupName": name, "minReplicas": 0, "maxReplicas": most, "replicas": 0, "numOfHosts": 1,
            "resources": {"CPU": "8", "memory": memory}, "rayStartParams": {}, "template": template("ray-worker"),
        }  # fmt: skip

    def template(name: str) -> Object:
        return {"spec": {"containers": [{"name": name, "resources": {"limits": {"cpu": "8", "memory": "32Gi"}}}]}}

    return {
        "metadata": {"name": CLUSTER, "namespace": "studies", "uid": "c"},
        "spec": {
            "rayVersion": "2.60.0",
            "enableInTreeAutoscaling": scales,
            "autoscalerOptions": {"version": "v2"},
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template("ray-head")},
            "workerGroupSpecs": [group("mem4", "25Gi", 2), group("mem16", "110Gi", 1)],
        },
    }


def rayjob(deployment: str, job: str = "", *, cluster: str = CLUSTER, **more: Any) -> Object:
    """A RayJob at some moment."""
    status = {"jobDeploymentStatus": deployment, "jobStatus": job, "rayClusterName": cluster, **more}
    return {"kind": "RayJob", "metadata": {"name": "study", "namespace": "studies", "uid": "j"}, "status": status}


def event(reason: str, message: str, of: str) -> Object:
    """What Kubernetes remembers of a pod."""
    return {"metadata": {"name": f"{of}.17"}, "involvedObject": {"name": of}, "reason": reason, "message": message}
