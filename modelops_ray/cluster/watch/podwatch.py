"""What happens to pods: which died of what, and which never start and why.

Owns the messages about pods, and that each is said once. Pure: `objects` reads, `kube` watches, the core decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from modelops_ray.cluster.quantity import GIB
from modelops_ray.cluster.watch.objects import Pod, Terminated, joined, read_pod

KILLED = 137
_IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_START_TROUBLE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_TROUBLES = {
    **dict.fromkeys(_IMAGE_TROUBLE, ("image", "cannot get its image")),
    **dict.fromkeys(_START_TROUBLE, ("start", "cannot start its container")),
}
"""The kind of trouble, and what is said of it, by the reason for which a container waits."""


class Cause(StrEnum):
    """Why a pod died."""

    OUT_OF_MEMORY = "out_of_memory"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    KILLED = "killed"
    CRASHED = "crashed"
    UNSEEN = "unseen"


_CAUSES = {
    "OOMKilling": Cause.OUT_OF_MEMORY,
    "Evicted": Cause.EVICTED,
    "Preempted": Cause.PREEMPTED,
    "Preempting": Cause.PREEMPTED,
    "TaintManagerEviction": Cause.EVICTED,
    "NodeNotReady": Cause.EVICTED,
}
"""Reasons of events that tell of the end of a pod, for one that was gone before this program looked."""


@dataclass(frozen=True, slots=True)
class Died:
    """A pod, or its Ray container, died; `address` is the IP by which Ray knows its node."""

    pod: str
    group: str
    address: str
    cause: Cause
    sentence: str


@dataclass(frozen=True, slots=True)
class Stuck:
    """A pod does not start."""

    pod: str
    group: str
    reason: str
    sentence: str


News = Died | Stuck


@dataclass(slots=True)
class PodWatch:
    """Follows the pods of one cluster, and reports each death and each trouble once.

    `readings` are the last known uses of memory, bytes by pod name, where the cluster measures them.
    """

    readings: dict[str, int] = field(default_factory=dict)
    _alive: dict[str, Pod] = field(default_factory=dict)
    _told: set[tuple[str, ...]] = field(default_factory=set)

    def listed(self, objects: Iterable[Mapping[str, Any]]) -> tuple[list[News], list[Pod]]:
        """Take in all pods there are now; return what is new, and the pods that disappeared since the last listing."""
        before, pods = self._alive, [pod for each in objects if (pod := read_pod(each)) is not None]
        self._alive = {}
        news = [one for pod in pods for one in self._look(pod)]
        gone = [pod for uid, pod in before.items() if uid not in self._alive]
        known = {uid for uid, *_ in self._told}
        for pod in gone:
            self._forget(pod)
        return news, [pod for pod in gone if not pod.metadata.deletion_timestamp and pod.metadata.uid not in known]

    def changed(self, kind: str, changed: Mapping[str, Any]) -> list[News]:
        """Take in one event of a watch: `ADDED`, `MODIFIED`, or `DELETED`, which comes with the last state."""
        pod = read_pod(changed)
        if pod is None:
            return []
        news = list(self._look(pod))
        if kind == "DELETED":
            self._forget(pod)
        return news

    def gone(self, pod: Pod, events: Iterable[Mapping[str, Any]]) -> Died:
        """Say how a pod ended that disappeared between two listings, as far as events still tell."""
        for one in events:
            reason = str(one.get("reason", ""))
            if reason in _CAUSES:
                told = joined(reason, str(one.get("message", "")))
                return _died(pod, _CAUSES[reason], f"is gone ({told})")
        return _died(pod, Cause.UNSEEN, "is gone, and how it ended was not seen")

    def _forget(self, pod: Pod) -> None:
        """Forget a pod that is gone: its name and its id are never used again."""
        self._alive.pop(pod.metadata.uid, None)
        self.readings.pop(pod.metadata.name, None)
        self._told = {key for key in self._told if key[0] != pod.metadata.uid}

    def _look(self, pod: Pod) -> Iterator[News]:
        uid = pod.metadata.uid
        self._alive[uid] = pod
        for key, died in self._deaths(pod):
            if (uid, *key) not in self._told:
                self._told.add((uid, *key))
                yield died
        if (stuck := _stuck(pod)) is not None and ("", stuck.group, stuck.reason) not in self._told:
            # One message for all pods of a tier is enough.
            self._told.add(("", stuck.group, stuck.reason))
            yield stuck

    def _deaths(self, pod: Pod) -> Iterator[tuple[tuple[str, ...], Died]]:
        """Yield how a pod as a whole ended, or else each end of one of its containers, each with a key of its own."""
        if (whole := _whole(pod)) is not None:
            yield ("pod",), _died(pod, *whole)
            return
        for status in pod.status.container_statuses:
            for state in (status.last_state, status.state):
                ended = state.terminated
                if ended is not None and (found := self._container(pod, ended)) is not None:
                    yield (status.name, ended.finished_at), found

    def _container(self, pod: Pod, ended: Terminated) -> Died | None:
        if ended.reason == "OOMKilled":
            return _died(pod, Cause.OUT_OF_MEMORY, f"was OOMKilled{self._of_limit(pod)}")
        if ended.exit_code == 0 or pod.metadata.deletion_timestamp:
            return None
        if ended.exit_code == KILLED:
            return _died(pod, Cause.KILLED, "was killed (exit code 137, and not for its memory)")
        return _died(pod, Cause.CRASHED, f"ended with exit code {ended.exit_code}")

    def _of_limit(self, pod: Pod) -> str:
        limit_bytes, used_bytes = pod.limit_bytes, self.readings.get(pod.metadata.name, 0)
        if not limit_bytes:
            return ""
        if not used_bytes:
            return f" at its limit of {gi(limit_bytes)} Gi"
        return f" at {gi(used_bytes)} of {gi(limit_bytes)} Gi"


def _died(pod: Pod, cause: Cause, how: str) -> Died:
    return Died(pod.metadata.name, pod.group, pod.status.pod_ip, cause, f"{pod.name} {how}")


def gi(size: int) -> str:
    """Write bytes in Gi, as a manifest would."""
    return f"{size / GIB:.3g}"


def _whole(pod: Pod) -> tuple[Cause, str] | None:
    """How a pod as a whole was ended by Kubernetes, None if it was not."""
    status = pod.status
    ends = (one.state.terminated for one in status.container_statuses)
    if any(ended is not None and ended.reason == "OOMKilled" for ended in ends):
        return None
    if status.reason == "Evicted":
        # Here the node ran out of memory, not the container.
        cause = Cause.OUT_OF_MEMORY if "memory" in status.message.lower() else Cause.EVICTED
        return cause, f"was evicted ({joined('', status.message)})"
    for condition in status.conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            if condition.reason == "PreemptionByScheduler":
                return Cause.PREEMPTED, f"was preempted ({joined('', condition.message)})"
            return Cause.EVICTED, f"was evicted ({joined(condition.reason, condition.message)})"
    if status.phase == "Failed" and status.reason:
        return Cause.KILLED, f"failed ({joined(status.reason, status.message)})"
    return None


def _stuck(pod: Pod) -> Stuck | None:
    """Why a pod does not start, None if it does or may soon."""
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            sentence = f"{pod.name} cannot be placed: {joined('', condition.message)}"
            return Stuck(pod.metadata.name, pod.group, "Unschedulable", sentence)
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _TROUBLES:
            kind, what = _TROUBLES[waiting.reason]
            sentence = f"{pod.name} {what}: {joined(waiting.reason, waiting.message)}"
            return Stuck(pod.metadata.name, pod.group, kind, sentence)
    return None
