"""The pods of the Ray cluster a run is on, observed from within: their deaths as events for the core.

Owns the threads that watch and measure. `podwatch` says what happens to pods, `kube` sends requests.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelops_ray.cluster.quantity import as_bytes
from modelops_ray.cluster.watch.kube import ACCOUNT, Changed, Interrupted, Kube, KubeError, Listed, connect, is_in_a_pod
from modelops_ray.cluster.watch.podwatch import Cause, Died, News, PodWatch, Stuck
from modelops_ray.core.events import ClusterSaid, Event, Node, PodDied

CLUSTER_NAME = "RAY_CLUSTER_NAME"
"""KubeRay sets it in every container of a cluster."""
MEASURED_EVERY_S = 15.0
MOST_OF_A_GROUP = 10_000
"""A group without a bound counts as this many nodes."""


@dataclass(slots=True)
class Follower:
    """Passes what an API server reports about the pods of one cluster to a `PodWatch`."""

    kube: Kube
    cluster: str
    watch: PodWatch = field(default_factory=PodWatch)

    def news(self) -> Iterator[News | Interrupted]:
        """Follow until the connection is closed, or the API server refuses with a KubeError."""
        for seen in self.kube.watch(self.kube.pods(self.cluster)):
            match seen:
                case Listed(objects):
                    news, gone = self.watch.listed(objects)
                    yield from news
                    for pod in gone:
                        yield self.watch.gone(pod, self._events_of(pod.metadata.name))
                case Changed(kind, changed):
                    yield from self.watch.changed(kind, changed)
                case Interrupted():
                    yield seen

    def _events_of(self, pod: str) -> list[Mapping[str, Any]]:
        try:
            return self.kube.list(self.kube.events(pod))[0]
        except KubeError:
            return []  # they may be forbidden or expired: the message then says that the cause is unknown

    def measure(self) -> bool:
        """Read what the pods use from a metrics server; False where there is none or it may not be asked."""
        try:
            found, _ = self.kube.list(self.kube.uses(self.cluster))
        except KubeError:
            return False
        for pod in found:
            used = [as_bytes(one.get("usage", {}).get("memory")) or 0 for one in pod.get("containers", [])]
            self.watch.readings[str(pod["metadata"]["name"])] = sum(used)
        return True


class PodObserver:
    """Collects what happens to pods between two polls; an `Observer` of the session."""

    def __init__(self, follower: Follower) -> None:
        """Start to watch, and to measure where that is possible."""
        self._follower = follower
        self._reachable = _reachable(follower)
        self._heard: queue.SimpleQueue[News | str] = queue.SimpleQueue()
        self._was_interrupted = False
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._watch, self._measure)]
        for thread in self._threads:
            thread.start()

    def reachable(self) -> tuple[Node, ...]:
        """List the nodes that KubeRay's autoscaler could add; () where that is not known."""
        return self._reachable

    def poll(self, now_s: float) -> list[Event]:
        """Return what happened as events of now; never waits."""
        return [_event(now_s, self._heard.get_nowait()) for _ in range(self._heard.qsize())]

    def close(self) -> None:
        """Stop watching."""
        self._follower.kube.close(*self._threads)

    def _watch(self) -> None:
        try:
            for news in self._follower.news():
                if not isinstance(news, Interrupted):
                    self._heard.put(news)
                elif not self._was_interrupted:
                    # It is said once: the API server is asked again anyhow.
                    self._was_interrupted = True
                    self._heard.put(f"pods are watched again as soon as possible: {news.reason}")
        except KubeError as error:
            self._heard.put(f"pods are not watched: {error}")

    def _measure(self) -> None:
        while self._follower.measure():
            if self._follower.kube.stopped.wait(MEASURED_EVERY_S):
                return


def _reachable(follower: Follower) -> tuple[Node, ...]:
    try:
        return reachable(follower.kube.raycluster(follower.cluster))
    except KubeError:
        return ()  # then the window grows with the nodes there are; the refusal is reported with that of the pods


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


def _event(now_s: float, heard: News | str) -> Event:
    match heard:
        case Died():
            is_memory = heard.cause is Cause.OUT_OF_MEMORY
            return PodDied(now_s, heard.address, heard.sentence, is_memory=is_memory)
        case Stuck():
            return ClusterSaid(now_s, heard.sentence, hinders=True)
        case _:
            return ClusterSaid(now_s, heard)


@contextmanager
def observed(
    environ: Mapping[str, str], note: Callable[[str], None], *, account: Path = ACCOUNT
) -> Iterator[PodObserver | None]:
    """Observe the pods of the cluster this process is in for as long as the context lasts.

    Yields None where this is no pod of a RayCluster, and, with a note, where Kubernetes cannot be asked.
    """
    cluster = environ.get(CLUSTER_NAME, "")
    if not cluster or not is_in_a_pod(account):
        yield None
        return
    try:
        kube = connect(account=account)
    except KubeError as error:
        note(f"pods are not watched: {error}")
        yield None
        return
    observer = PodObserver(Follower(kube, cluster))
    try:
        yield observer
    finally:
        observer.close()
