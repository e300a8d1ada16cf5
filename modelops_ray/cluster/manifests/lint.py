"""Pitfalls that KubeRay accepts and that end in lost runs; each is known from issues of KubeRay or Ray.

Looks at one RayCluster or RayJob that the schema and the controller take. Rules about the run are in `lint_job`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from modelops_ray.cluster.manifests.findings import Problem
from modelops_ray.cluster.manifests.sizing import promised_bytes, share
from modelops_ray.cluster.manifests.views import Cluster, Group
from modelops_ray.cluster.quantity import MIB, amount, as_bytes, write_bytes, write_gib
from modelops_ray.core.policy import count

_LOGICAL_NAMES = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}
_PLASMA_SHARE = 0.3
"""An object store larger than Ray's own choice takes memory from simulations, whose outputs hardly use it."""
_SMALL_AUTOSCALER_PODS = 100
_FEW_LAUNCHES = 100
_KUBERNETES_GRACE_S = 30
_SMALLEST_PLASMA_BYTES = 75 * MIB
"""Ray starts with no less."""


def problems(cluster: Cluster, start_flags: Collection[str]) -> Iterator[Problem]:
    """Every pitfall that a cluster falls into.

    `start_flags` are those of `ray start`: KubeRay hands on every flag it finds, and the pod crashes on any other.
    """
    if not cluster.workers:
        found = "no group of workers, and the head takes no simulations"
        yield Problem("no-workers", cluster.at("workerGroupSpecs"), found, "add a group")
    yield from _autoscaler(cluster)
    yield from _versions(cluster)
    head = cluster.head
    if head.params.get("num-cpus", head.resources.get("CPU")) != "0":
        remedy = 'set num-cpus: "0": a simulation there can take the driver with it'
        yield Problem("head-works", head.at("rayStartParams", "num-cpus"), "the head takes simulations", remedy)
    for group in cluster.groups:
        yield from _container(group)
        yield from _start_params(group, start_flags)
        yield from _memory(group)
        yield from _spill(group)
        yield from _environment(group)
        yield from _rights(group)
    for group in cluster.workers:
        yield from _replicas(group)


def _autoscaler(cluster: Cluster) -> Iterator[Problem]:
    if not cluster.is_scaled:
        remedy = "set it to true: pods come with the demand and go with it"
        yield Problem("no-autoscaler", cluster.at("enableInTreeAutoscaling"), "the number of pods is fixed", remedy)
        return
    options = cluster.autoscaler
    if not cluster.is_v2:
        found = "the version is left to Ray, and KubeRay then restarts killed pods in place"
        yield Problem("autoscaler-version", cluster.at("autoscalerOptions", "version"), found, "write version: v2")
    n_pods = cluster.n_pods
    if is_starved(cluster):
        place, found = cluster.at("autoscalerOptions", "resources"), f"less than 1 CPU for up to {count(n_pods, 'pod')}"
        yield Problem("autoscaler-starved", place, found, "give it 2 CPUs and 2Gi (kuberay#3794)")
    env = {entry["name"]: entry.get("value", "") for entry in options.get("env") or []}
    launches = env.get("AUTOSCALER_MAX_CONCURRENT_LAUNCHES", "10")
    if n_pods >= _SMALL_AUTOSCALER_PODS and (not launches.isdecimal() or int(launches) < _FEW_LAUNCHES):
        found = f"{launches} at a time, for up to {count(n_pods, 'pod')}"
        remedy = 'set AUTOSCALER_MAX_CONCURRENT_LAUNCHES to "100"'
        yield Problem("slow-launches", cluster.at("autoscalerOptions", "env"), found, remedy)
    yield from _locked(cluster.at("autoscalerOptions", "securityContext"), options.get("securityContext") or {})
    if "ray.io/ippr" in cluster.annotations:
        found = "pods resized in place lose the memory that the group promises"
        yield Problem("in-place-resize", "/metadata/annotations/ray.io~1ippr", found, "remove it")


def is_starved(cluster: Cluster) -> bool:
    """Whether the autoscaler has too little CPU to decide on as many pods as the cluster may have."""
    limits = (cluster.autoscaler.get("resources") or {}).get("limits") or {}
    return cluster.n_pods >= _SMALL_AUTOSCALER_PODS and (amount(limits.get("cpu")) or 0) < 1


def _versions(cluster: Cluster) -> Iterator[Problem]:
    if cluster.version is None:
        remedy = "write that of the image; KubeRay decides by it what it may use"
        yield Problem("no-ray-version", cluster.at("rayVersion"), "no version such as 2.60.0", remedy)
    image = cluster.head.ray.get("image")
    for group in cluster.workers:
        if group.ray.get("image") != image:
            found = f"{group.ray.get('image')}, the head has {image}"
            yield Problem("images-differ", group.in_ray("image"), found, "use one image: versions must be equal")
    tag = re.search(r"/ray:(\d+\.\d+\.\d+)", str(image))
    if tag is not None and tag[1] != cluster.spec.get("rayVersion"):
        found = f"rayVersion is not that of the image, {tag[1]}"
        yield Problem("image-version", cluster.at("rayVersion"), found, f'write "{tag[1]}"')
    auth = cluster.spec.get("authOptions")
    if auth is not None and auth.get("mode") is None:
        found = "without a mode it does nothing"
        yield Problem("auth-without-mode", cluster.at("authOptions"), found, "write mode: token")


def _container(group: Group) -> Iterator[Problem]:
    requests, limits = group.quantities("requests"), group.quantities("limits")
    for name in ("cpu", "memory"):
        if name not in limits:
            found = f"no limit of {name}: Ray takes the machine's for its own"
            yield Problem("no-limit", group.in_ray("resources", "limits"), found, f"set {name} there and in requests")
        elif amount(requests.get(name, limits[name])) != amount(limits[name]):
            found = f"requests {requests[name]} of {name}, limit {limits[name]}; Ray and Kubernetes disagree on the pod"
            yield Problem("requests-not-limits", group.in_ray("resources", "requests", name), found, "make them equal")
    grace_s = group.pod.get("terminationGracePeriodSeconds", _KUBERNETES_GRACE_S)
    if grace_s <= _KUBERNETES_GRACE_S:
        found = f"{grace_s} s between the end being asked for and SIGKILL"
        remedy = "set 120 for the head, which commits, and 60 for workers"
        yield Problem("no-grace", group.in_pod("terminationGracePeriodSeconds"), found, remedy)


def _start_params(group: Group, start_flags: Collection[str]) -> Iterator[Problem]:
    for key, value in group.params.items():
        place = group.at("rayStartParams", key)
        if key not in start_flags:
            found = f"`ray start` knows no --{key}; the pod crashes"
            yield Problem("unknown-start-param", place, found, "correct or remove it")
        if key in ("memory", "object-store-memory") and not value.isdecimal():
            n_bytes = as_bytes(value)
            remedy = f'write bytes: "{n_bytes}"' if n_bytes else "write bytes"
            yield Problem("not-in-bytes", place, f"{value}: `ray start` takes whole bytes only", remedy)
        if key == "system-config" and not group.is_head:
            yield Problem("system-config-on-worker", place, "only the head may have it", "move it to the head")


def _memory(group: Group) -> Iterator[Problem]:
    limit_bytes, plasma_bytes = group.limit_bytes, group.plasma_bytes
    if "object-store-memory" not in group.params:
        found = "the object store takes 30 % of the pod"
        place = group.at("rayStartParams", "object-store-memory")
        yield Problem("no-object-store", place, found, 'set it, small: "2147483648"')
    if not group.is_head:
        yield from _logical(group)
    if limit_bytes is None or plasma_bytes is None:
        return
    if plasma_bytes > _PLASMA_SHARE * limit_bytes:
        found = f"{write_bytes(plasma_bytes)} of {write_bytes(limit_bytes)} for objects, the simulations lack it"
        remedy = f"at most {write_gib(_PLASMA_SHARE * limit_bytes)}"
        yield Problem("object-store-large", group.at("rayStartParams", "object-store-memory"), found, remedy)
    if plasma_bytes < _SMALLEST_PLASMA_BYTES:
        found = f"{write_bytes(plasma_bytes)} for objects: Ray does not start with less than 75Mi"
        yield Problem("object-store-small", group.at("rayStartParams", "object-store-memory"), found, "raise it")
    if not group.is_head:
        yield from _promised(group, limit_bytes, plasma_bytes)


def _logical(group: Group) -> Iterator[Problem]:
    """The group's own resources, by which the autoscaler counts."""
    for name in group.resources:
        right = _LOGICAL_NAMES.get(name.lower(), name)
        if name != right:
            found = f"the autoscaler takes {name} for a resource of its own"
            yield Problem("resource-case", group.at("resources", name), found, f"write {right}")
    cpus, limit_cpus = amount(group.resources.get("CPU")), amount(group.quantities("limits").get("cpu"))
    place = group.at("resources", "CPU")
    if cpus == 0:
        yield Problem("no-cpus", place, "no simulation can start there", "write those of the pod")
    if cpus is not None and limit_cpus is not None and cpus > limit_cpus:
        yield Problem("cpus-above-limit", place, f"{cpus} CPUs promised, the pod has {limit_cpus}", "make them equal")
    if group.memory_bytes is None:
        found = "KubeRay promises the whole limit of the pod, and pods die of memory (kuberay#4650)"
        place = group.at("resources", "memory")
        yield Problem("no-group-memory", place, found, f"write memory: {_right_memory(group)}")


def _right_memory(group: Group) -> str:
    if group.limit_bytes is None:
        return "what the formula of kuberay/base gives for the limit"
    plasma_bytes = group.plasma_bytes if group.plasma_bytes is not None else group.limit_bytes // 10
    return write_bytes(promised_bytes(group.limit_bytes, plasma_bytes, group.threshold or 0.95))


def _promised(group: Group, limit_bytes: int, plasma_bytes: int) -> Iterator[Problem]:
    threshold = group.threshold or 0.95
    parts = share(limit_bytes, plasma_bytes, threshold)
    most_bytes = promised_bytes(limit_bytes, plasma_bytes, threshold)
    given_bytes, place = group.memory_bytes, group.at("resources", "memory")
    if given_bytes is not None and given_bytes > parts.memory_bytes:
        taken = (parts.plasma_bytes, parts.system_bytes, parts.buffer_bytes)
        total = " - ".join([write_bytes(limit_bytes), *map(write_gib, taken)])
        found = f"{write_bytes(given_bytes)} promised of {total}"
        yield Problem("memory-above-formula", place, found, f"write {write_bytes(most_bytes)} or raise the limit")
    if given_bytes is not None and given_bytes < most_bytes // 2:
        found = f"{write_bytes(given_bytes)} promised of {write_bytes(limit_bytes)}; the rest is paid for and idle"
        yield Problem("memory-unused", place, found, f"write {write_bytes(most_bytes)}")


def _spill(group: Group) -> Iterator[Problem]:
    key = "object-spilling-directory"
    folder = group.params.get(key)
    if folder is None:
        found = "objects are spilled into the container's own disk"
        yield Problem("no-spill", group.at("rayStartParams", key), found, "name a folder of a volume")
        return
    volume = group.volume_at(folder)
    if volume is None:
        found = f"{folder} is no volume of the pod"
        yield Problem("spill-not-mounted", group.in_ray("volumeMounts"), found, "mount a volume there")
        return
    index = group.pod["volumes"].index(volume)
    disk = volume.get("emptyDir", {} if set(volume) == {"name"} else None)
    if disk is not None and disk.get("medium") == "Memory":
        found = "spilled objects would go to the memory that they are to free"
        yield Problem("spill-in-memory", group.in_pod("volumes", index, "emptyDir", "medium"), found, "remove it")
    elif disk is not None and "sizeLimit" not in disk:
        found = "one pod may fill the node's disk"
        yield Problem("spill-unbounded", group.in_pod("volumes", index, "emptyDir"), found, "set sizeLimit")


def _environment(group: Group) -> Iterator[Problem]:
    env, place = group.env, group.in_ray("env")
    if group.threshold is None or not 0.5 <= group.threshold < 1:
        found = f"RAY_memory_usage_threshold is {env.get('RAY_memory_usage_threshold', 'not set')}"
        yield Problem("no-threshold", place, found, 'write "0.95": the sum of the group counts with it')
    if env.get("RAY_memory_monitor_refresh_ms") == "0":
        found = "only the kernel kills then, and it takes the whole pod"
        yield Problem("monitor-off", place, found, "remove RAY_memory_monitor_refresh_ms")
    if env.get("RAY_enable_infeasible_task_early_exit", "").lower() in ("1", "true"):
        found = "tasks beyond maxReplicas count as infeasible and are cancelled while the cluster grows"
        yield Problem("early-exit", place, found, "remove RAY_enable_infeasible_task_early_exit")
    if env.get("MALLOC_ARENA_MAX") is None:
        found = "the allocator keeps an arena for each thread"
        yield Problem("malloc-arenas", place, found, 'set MALLOC_ARENA_MAX to "2"')


def _rights(group: Group) -> Iterator[Problem]:
    pod = group.pod.get("securityContext") or {}
    for i, container in enumerate(group.containers):
        own = container.get("securityContext") or {}
        place = group.in_pod("containers", i, "securityContext")
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")) or own.get("runAsUser", pod.get("runAsUser")) == 0:
            yield Problem("runs-as-root", place, "it may run as root", "set runAsNonRoot: true and a runAsUser")
        yield from _locked(place, own)


def _locked(place: str, context: dict[str, Any]) -> Iterator[Problem]:
    if "ALL" not in ((context.get("capabilities") or {}).get("drop") or []):
        yield Problem("capabilities", place, "it keeps capabilities", "set capabilities: {drop: [ALL]}")
    if context.get("allowPrivilegeEscalation", True) or context.get("privileged"):
        yield Problem("privilege-escalation", place, "it may gain rights", "set allowPrivilegeEscalation: false")


def _replicas(group: Group) -> Iterator[Problem]:
    if "maxReplicas" not in group.spec:
        found = "without it the number of pods has no bound; it guards the bill"
        yield Problem("no-max-replicas", group.at("maxReplicas"), found, "set it")
    if "replicas" in group.spec:
        found = "the autoscaler writes it, and applying the file again undoes that"
        yield Problem("fixed-replicas", group.at("replicas"), found, "remove it")
    if group.spec.get("numOfHosts", 1) != 1:
        found = f"pods come and go {group.spec['numOfHosts']} at a time"
        yield Problem("several-hosts", group.at("numOfHosts"), found, "remove it")
