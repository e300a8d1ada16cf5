"""Follows a RayJob and the pods of the cluster that it is on at the time, until it has ended.

Owns the order of messages. `podwatch` says what pods do, `kube` sends requests.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelops_ray.cluster.watch.kube import Changed, Interrupted, Kube, KubeError, Listed, NotFoundError, Seen
from modelops_ray.cluster.watch.objects import RayJob
from modelops_ray.cluster.watch.pods import Follower
from modelops_ray.cluster.watch.podwatch import Died, News


@dataclass(frozen=True, slots=True)
class Ended:
    """A RayJob that has ended, and the pods that died meanwhile."""

    job: RayJob
    deaths: tuple[Died, ...]

    def values(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        status = self.job.status
        return {
            "name": self.job.metadata.name,
            "succeeded": self.job.has_succeeded,
            "job_status": status.job_status,
            "job_deployment_status": status.job_deployment_status,
            "reason": status.reason,
            "message": status.message,
            "pods_died": [
                {"pod": one.pod, "group": one.group, "cause": str(one.cause), "message": one.sentence}
                for one in self.deaths
            ],
        }


def follow(kube: Kube, name: str, say: Callable[[str], None]) -> Ended:
    """Say in one line each what becomes of a RayJob and its pods, until it has ended.

    NotFoundError where there is no such RayJob or it was deleted before its end, KubeError where Kubernetes refuses.
    """
    following = _Following(kube, name, say)
    try:
        return following.run()
    finally:
        kube.close(*following.threads)


@dataclass(slots=True)
class _Following:
    """One thread watches the RayJob, and one the pods of each of its clusters; the caller's thread talks."""

    kube: Kube
    name: str
    say: Callable[[str], None]
    threads: list[threading.Thread] = field(default_factory=list)
    _heard: queue.SimpleQueue[Seen | News | KubeError] = field(default_factory=queue.SimpleQueue)
    _deaths: list[Died] = field(default_factory=list)
    _clusters: set[str] = field(default_factory=set)
    _said: str = ""
    _interruption: str = ""

    def run(self) -> Ended:
        self._listen(lambda: map(self._heard.put, self.kube.watch(self.kube.rayjobs(self.name))))
        while True:
            match heard := self._heard.get():
                case KubeError():
                    raise heard
                case Listed(objects):
                    job = self._looked(objects)
                case Changed(kind, changed):
                    job = RayJob.model_validate(changed)
                    if kind == "DELETED" and not job.has_ended:
                        raise NotFoundError(f"RayJob {self.name} was deleted before it ended")
                case Interrupted(reason):
                    self._interrupted(reason)
                    continue
                case _:
                    self._deaths += [heard] if isinstance(heard, Died) else []
                    self.say(heard.sentence)
                    continue
            self._interruption = ""
            self._show(job)
            if job.has_ended:
                return Ended(job, tuple(self._deaths))

    def _interrupted(self, reason: str) -> None:
        """Report each interruption once, since the watch goes on; raise where the server has never answered."""
        if not self._said:
            raise KubeError(f"{reason}; is it the right cluster, and can it be reached from here?")
        if reason != self._interruption:
            self._interruption = reason
            self.say(f"{reason}; it is asked again until it answers")

    def _looked(self, objects: list[Mapping[str, Any]]) -> RayJob:
        if not objects:
            raise NotFoundError(
                f"there is no RayJob {self.name} in namespace {self.kube.namespace}; see kubectl get rayjobs -A, and "
                "give its --namespace"
            )
        return RayJob.model_validate(objects[0])

    def _show(self, job: RayJob) -> None:
        cluster = job.status.ray_cluster_name
        if cluster and cluster not in self._clusters:
            # Every try of a RayJob is on a new cluster.
            self._clusters.add(cluster)
            follower = Follower(self.kube, cluster)
            self._listen(lambda: map(self._heard.put, follower.news()))
        if job.line != self._said:
            self._said = job.line
            self.say(job.line)

    def _listen(self, listening: Callable[[], Any]) -> None:
        def listen() -> None:
            try:
                for _ in listening():
                    pass
            except KubeError as error:
                self._heard.put(error)

        self.threads.append(threading.Thread(target=listen, daemon=True))
        self.threads[-1].start()
