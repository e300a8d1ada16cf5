"""The API server of Kubernetes: finding it, listing, watching without a gap, and what its refusals mean.

Owns the `kubernetes` client and every request. `podwatch` says what objects mean.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from modelops_ray.errors import BackendError, first_line

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RAY_GROUP, RAY_VERSION = "ray.io", "v1"
WATCHED_S = 240
"""The API server ends a watch after this time; then the next one begins."""
CONNECT_S = 5.0
ANSWER_S = 30.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
GONE, FORBIDDEN, NOT_FOUND, UNAUTHORIZED = 410, 403, 404, 401

Object = Mapping[str, Any]
List = Callable[..., Any]
"""A list function of the client with its place bound; it also watches."""


class KubeError(BackendError):
    """Kubernetes cannot be reached, or refuses; the message says why and the remedy."""


class NotFoundError(KubeError):
    """There is no such object."""


class KubeUnreachableError(KubeError):
    """The API server does not answer, for now."""


class _TooOldError(Exception):
    """The API server has forgotten the version to go on from (410 Gone): everything has to be listed again."""


class Listed(NamedTuple):
    """All objects there are now."""

    objects: list[Object]


class Changed(NamedTuple):
    """One object was added, modified or deleted; `kind` in the words of the API."""

    kind: str
    object: Object


class Interrupted(NamedTuple):
    """The API server did not answer, for this reason; it is asked again."""

    reason: str


Seen = Listed | Changed | Interrupted


def is_in_a_pod(account: Path = ACCOUNT) -> bool:
    """Whether this process runs in a pod whose service account it may use."""
    return (account / "token").exists()


@dataclass
class Kube:
    """The API server, as far as one namespace is concerned."""

    client: Any
    namespace: str
    pause_s: float = FIRST_PAUSE_S
    stopped: threading.Event = field(default_factory=threading.Event)
    _streams: list[Any] = field(default_factory=list)

    def pods(self, cluster: str) -> List:
        """The pods of a RayCluster."""
        selector = f"ray.io/cluster={cluster}"
        return self._bound("CoreV1Api", "list_namespaced_pod", self.namespace, label_selector=selector)

    def events(self, pod: str) -> List:
        """What Kubernetes remembers of a pod, for an hour or so."""
        selector = f"involvedObject.name={pod}"
        return self._bound("CoreV1Api", "list_namespaced_event", self.namespace, field_selector=selector)

    def rayjobs(self, name: str) -> List:
        """One RayJob."""
        return self._custom(RAY_GROUP, RAY_VERSION, "rayjobs", field_selector=f"metadata.name={name}")

    def raycluster(self, name: str) -> Object:
        """Read one RayCluster, as KubeRay allows its own head, which may not list them; KubeError as `list`."""
        place = (RAY_GROUP, RAY_VERSION, self.namespace, "rayclusters", name)
        return self._asked(self._bound("CustomObjectsApi", "get_namespaced_custom_object", *place))

    def uses(self, cluster: str) -> List:
        """What the pods of a RayCluster use now, where a metrics server is installed."""
        return self._custom("metrics.k8s.io", "v1beta1", "pods", label_selector=f"ray.io/cluster={cluster}")

    def list(self, listing: List) -> tuple[list[Object], str]:
        """Return all objects of a kind, and the version of the whole; KubeError if refused or not answered."""
        found = self._asked(listing)
        return list(found.get("items", [])), str(found.get("metadata", {}).get("resourceVersion", ""))

    def _asked(self, request: Callable[..., Any]) -> Object:
        import kubernetes
        import urllib3

        try:
            answer = request(_preload_content=False, _request_timeout=(CONNECT_S, ANSWER_S))
        except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _refusal(error, self.namespace) from error
        found: Object = json.loads(answer.data)
        return found

    def watch(self, listing: List) -> Iterator[Seen]:
        """List, then watch from there, for ever: dropped connections and versions that are too old leave no gap.

        KubeError where it is refused.
        """
        version, pause_s, n_troubles = "", self.pause_s, 1
        while not self.stopped.is_set():
            n_seen = 0
            try:
                if not version:
                    objects, version = self.list(listing)
                    yield Listed(objects)
                for change, reached in self._stream(listing, version):
                    n_seen, version = n_seen + 1, reached
                    if change is not None:
                        yield change
                trouble = None
            except _TooOldError:
                version, trouble = "", None
            except KubeUnreachableError as error:
                trouble = str(error)
            pause_s = self.pause_s if n_seen else min(LONGEST_PAUSE_S, 2 * pause_s)
            n_troubles = 0 if trouble is None else 1 + (0 if n_seen else n_troubles)
            # One broken connection is not reported: a proxy was restarted, and the next goes on where it was.
            if trouble is not None and n_troubles > 1:
                yield Interrupted(trouble)
            if not n_seen:
                self.stopped.wait(pause_s)

    def close(self, *threads: threading.Thread) -> None:
        """End every watch, and wait for the threads that watch: one that outlives the interpreter may abort it."""
        self.stopped.set()
        deadline_s = time.monotonic() + CONNECT_S
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline_s:
            # More than once: a watch that begins forgets that it was told to stop.
            for stream in list(self._streams):
                stream.stop()
            for thread in threads:
                thread.join(0.05)

    def _stream(self, listing: List, version: str) -> Iterator[tuple[Changed | None, str]]:
        """Watch until the server ends it; the second of each pair is the version to go on from."""
        import kubernetes
        import urllib3

        # With a return type the client would build and check classes of its own, and refuse what it does not know.
        stream = kubernetes.watch.Watch(return_type="object")
        self._streams.append(stream)
        try:
            for event in stream.stream(
                listing,
                resource_version=version,
                allow_watch_bookmarks=True,
                timeout_seconds=WATCHED_S,
                _request_timeout=(CONNECT_S, WATCHED_S + ANSWER_S),
            ):
                found = event["raw_object"]
                version = str(found.get("metadata", {}).get("resourceVersion", version))
                yield (None if event["type"] == "BOOKMARK" else Changed(event["type"], found)), version
        except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, kubernetes.client.ApiException) and error.status == GONE:
                raise _TooOldError from error
            raise _refusal(error, self.namespace) from error
        finally:
            self._streams.remove(stream)

    def _custom(self, group: str, version: str, plural: str, **selectors: str) -> List:
        place = (group, version, self.namespace, plural)
        return self._bound("CustomObjectsApi", "list_namespaced_custom_object", *place, **selectors)

    def _bound(self, api: str, name: str, *place: str, **selectors: str) -> List:
        """Bind a function of the client to its place; not by `partial`, whose docstring the client would read."""
        import kubernetes

        function = getattr(getattr(kubernetes.client, api)(self.client), name)

        def call(**options: Any) -> Any:
            return function(*place, **selectors, **options)

        return call


def connect(namespace: str | None = None, *, account: Path = ACCOUNT) -> Kube:
    """Find the API server: that of the pod this runs in, else that of the user's kubeconfig; KubeError without either.

    By default the namespace is that of the pod or of the kubeconfig's context; `account` is a pod's service account.
    """
    import kubernetes

    settings = kubernetes.client.Configuration()
    try:
        if is_in_a_pod(account):
            files = (str(account / name) for name in ("token", "ca.crt"))
            kubernetes.config.incluster_config.InClusterConfigLoader(*files).load_and_set(settings)
            default = (account / "namespace").read_text().strip()
        else:
            kubernetes.config.load_kube_config(client_configuration=settings)
            _, active = kubernetes.config.list_kube_config_contexts()
            default = str(active.get("context", {}).get("namespace") or "default")
    except kubernetes.config.ConfigException as error:
        raise KubeError(
            f"no Kubernetes is known here: {first_line(error)}; set KUBECONFIG, or run this in a pod with a service "
            "account"
        ) from error
    # A watch goes on by its own rules; retries of the library would hide that the server does not answer.
    settings.retries = False
    return Kube(kubernetes.client.ApiClient(settings), namespace or default)


def _refusal(error: Exception, namespace: str) -> KubeError:
    """Turn what the client raises into one line with a remedy."""
    import kubernetes

    if not isinstance(error, kubernetes.client.ApiException) or not error.status:
        return KubeUnreachableError(f"Kubernetes does not answer: {first_line(error)}")
    said = _message(error)
    if error.status == FORBIDDEN:
        return KubeError(
            f"Kubernetes forbids it in namespace {namespace}: {said}; bind a role with get, list and watch on pods, "
            "events, rayjobs and rayclusters to this account"
        )
    if error.status == UNAUTHORIZED:
        return KubeError(f"Kubernetes does not know this account: {said}; log in again, or set KUBECONFIG")
    if error.status == NOT_FOUND:
        return NotFoundError(f"Kubernetes has no such thing in namespace {namespace}: {said}; is KubeRay installed?")
    if error.status >= 500 or error.status == 429:
        return KubeUnreachableError(f"Kubernetes is in trouble: {said}")
    return KubeError(f"Kubernetes refuses: {said}")


def _message(error: Any) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())
    except (KeyError, TypeError, ValueError):
        return f"{error.status} {error.reason}"
