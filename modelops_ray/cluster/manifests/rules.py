"""What KubeRay's controller refuses although the API server took it; after `validation.go` of KubeRay v1.7.

The controller answers an invalid RayCluster with an event that few look at, and makes no pods: so it is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from modelops_ray.cluster.manifests.files import Json, parse_one
from modelops_ray.cluster.manifests.findings import Problem
from modelops_ray.cluster.manifests.views import Cluster, cluster_of
from modelops_ray.errors import ManifestError

_MAX_NAME_CHARS = {"RayCluster": 53, "RayJob": 47}
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MODES = ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
_LOGICAL_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
_GATED = {"networkPolicy": "RayClusterNetworkPolicy", "tlsOptions": "RayClusterMTLS",
          "historyServerOptions": "RayClusterHistoryServer"}  # fmt: skip
_DELETION_ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
_V2_ENV = "RAY_enable_autoscaler_v2"


def problems(content: Json) -> Iterator[Problem]:
    """Everything in a RayCluster or a RayJob that the controller refuses."""
    yield from _name(content)
    if content["kind"] == "RayJob":
        yield from _job(content["spec"])
        yield from _deletion(content["spec"])
    cluster = cluster_of(content)
    if cluster is not None:
        yield from _groups(cluster)
        yield from _autoscaler(cluster)
        yield from _versions(cluster)


def _name(content: Json) -> Iterator[Problem]:
    name, most = content["metadata"]["name"], _MAX_NAME_CHARS[content["kind"]]
    if len(name) > most:
        found = f"the name has {len(name)} characters; a {content['kind']} may have {most}"
        yield Problem("name-too-long", "/metadata/name", found, "shorten it")
    if not _DNS_1035.fullmatch(name):
        remedy = "begin with a letter; small letters, digits and - only"
        yield Problem("name-not-dns", "/metadata/name", f"{name!r} is no DNS label", remedy)


def _job(spec: Json) -> Iterator[Problem]:
    mode, selector = spec.get("submissionMode", _MODES[0]), spec.get("clusterSelector")
    retries = spec.get("backoffLimit", 0)
    if mode not in _MODES:
        yield Problem("submission-mode", "/spec/submissionMode", f"{mode} is none", f"write one of {', '.join(_MODES)}")
    if not selector and not spec.get("rayClusterSpec"):
        yield Problem("no-cluster", "/spec", "neither rayClusterSpec nor clusterSelector", "give one of them")
    if retries < 0:
        yield Problem("negative-backoff", "/spec/backoffLimit", f"{retries} is negative", "write 0 or more")
    if retries and (selector or mode == "InteractiveMode"):
        other = "clusterSelector" if selector else "InteractiveMode"
        yield Problem("backoff-without-cluster", "/spec/backoffLimit", f"{other} has no retries", "remove it")
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec.get(key):
                yield Problem("sidecar-submitter", f"/spec/{key}", "SidecarMode has no submitter pod", "remove it")
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(key, 1) <= 0:
            yield Problem("deadline-not-positive", f"/spec/{key}", f"{spec[key]} s", "write a positive number")
    yield from _runtime_env(spec.get("runtimeEnvYAML", ""))
    yield from _suspension(spec)


def _runtime_env(text: str) -> Iterator[Problem]:
    try:
        found = parse_one(text, "it")
    except ManifestError as error:
        yield Problem("runtime-env-yaml", "/spec/runtimeEnvYAML", " ".join(str(error).split())[:200], "correct it")
        return
    if found is not None and not isinstance(found, dict):
        yield Problem("runtime-env-yaml", "/spec/runtimeEnvYAML", "it is no map", "write `env_vars:` and so on")


def _suspension(spec: Json) -> Iterator[Problem]:
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not shuts_down:
        found = "only a job that shuts down can be suspended"
        remedy = "set shutdownAfterJobFinishes: true, or do not suspend"
        yield Problem("suspend-without-shutdown", "/spec/suspend", found, remedy)
    if spec.get("suspend") and spec.get("clusterSelector"):
        found = "a job on a cluster of others cannot be suspended"
        yield Problem("suspend-selected", "/spec/suspend", found, "remove it")
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shuts_down:
        remedy = "set shutdownAfterJobFinishes: true, or use deletionRules"
        yield Problem("ttl-without-shutdown", "/spec/ttlSecondsAfterFinished", "without shutdown it is refused", remedy)
    if (spec.get("rayClusterSpec") or {}).get("upgradeStrategy"):
        place = "/spec/rayClusterSpec/upgradeStrategy"
        yield Problem("job-upgrade-strategy", place, "the cluster of a job has none", "remove it")


def _deletion(spec: Json) -> Iterator[Problem]:
    strategy = spec.get("deletionStrategy")
    if strategy is None:
        return
    at = "/spec/deletionStrategy"
    rules = strategy.get("deletionRules") or []
    legacy = [key for key in ("onSuccess", "onFailure") if key in strategy]
    if rules and spec.get("shutdownAfterJobFinishes"):
        found = "deletionRules and shutdownAfterJobFinishes exclude each other"
        yield Problem("deletion-and-shutdown", f"{at}/deletionRules", found, "remove one of them")
    if rules and legacy:
        found = f"deletionRules and {legacy[0]} exclude each other"
        yield Problem("deletion-and-legacy", at, found, f"remove {legacy[0]}")
    if not rules and len(legacy) < 2:
        yield Problem("deletion-empty", at, "it says nothing", "write deletionRules")
    is_scaled = (spec.get("rayClusterSpec") or {}).get("enableInTreeAutoscaling", False)
    for i, rule in enumerate(rules):
        yield from _deletion_rule(f"{at}/deletionRules/{i}", rule, spec, is_scaled)
    yield from _deletion_order(f"{at}/deletionRules", rules)


def _deletion_rule(at: str, rule: Json, spec: Json, is_scaled: bool) -> Iterator[Problem]:  # noqa: FBT001 (private)
    condition, policy = rule["condition"], rule["policy"]
    if ("jobStatus" in condition) == ("jobDeploymentStatus" in condition):
        found = "a condition has jobStatus or jobDeploymentStatus"
        yield Problem("deletion-condition", f"{at}/condition", found, "give exactly one of them")
    if policy == "DeleteWorkers" and is_scaled:
        remedy = "the autoscaler removes idle workers; write DeleteCluster"
        yield Problem("delete-workers-scaled", f"{at}/policy", "DeleteWorkers is refused with an autoscaler", remedy)
    if policy in ("DeleteWorkers", "DeleteCluster") and spec.get("clusterSelector"):
        yield Problem("delete-selected", f"{at}/policy", f"{policy} of a cluster of others", "remove the rule")


def _deletion_order(place: str, rules: list[Json]) -> Iterator[Problem]:
    """Workers are deleted before their cluster, the cluster before the job; each once per condition."""
    ttls: dict[Any, dict[str, int]] = {}
    for i, rule in enumerate(rules):
        condition = rule["condition"]
        known = ttls.setdefault((condition.get("jobStatus"), condition.get("jobDeploymentStatus")), {})
        if rule["policy"] in known:
            found = f"{rule['policy']} has a rule for this condition already"
            yield Problem("deletion-twice", f"{place}/{i}", found, "remove one of them")
            continue
        known[rule["policy"]] = condition.get("ttlSeconds", 0)
        before = [known[policy] for policy in _DELETION_ORDER if policy in known]
        if before != sorted(before):
            found, remedy = "what is deleted first has more time", f"order the seconds: {', '.join(_DELETION_ORDER)}"
            yield Problem("deletion-order", f"{place}/{i}/condition/ttlSeconds", found, remedy)


def _groups(cluster: Cluster) -> Iterator[Problem]:
    names: set[str] = set()
    for group in cluster.groups:
        if not group.containers:
            yield Problem("no-container", group.in_pod("containers"), "it is empty", "Ray's container comes first")
        taken = [key for key in _LOGICAL_PARAMS if group.params.get(key)]
        if taken and group.resources:
            found = f"rayStartParams has {taken[0]} beside the group's resources; KubeRay refuses both"
            yield Problem("resources-twice", group.at("rayStartParams", taken[0]), found, "keep the group's resources")
        if "labels" in group.params:
            place = group.at("rayStartParams", "labels")
            yield Problem("labels-in-params", place, "KubeRay refuses labels there", "use the group's labels")
        for key, value in (group.spec.get("labels") or {}).items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL.fullmatch(str(value)):
                yield Problem("bad-label", group.at("labels", key), f"{key}={value} is no label", "correct it")
        if group.is_head:
            continue
        if group.name in names:
            yield Problem("group-twice", group.at("groupName"), f"{group.name} is there twice", "rename one of them")
        names.add(group.name)
        least = group.spec.get("minReplicas", 0)
        if least < 0 or least > group.max_replicas:
            found = f"minReplicas {least}, maxReplicas {group.max_replicas}"
            yield Problem("replicas-range", group.at("minReplicas"), found, "write 0 <= minReplicas <= maxReplicas")


def _autoscaler(cluster: Cluster) -> Iterator[Problem]:
    head = cluster.head
    if cluster.is_scaled and cluster.autoscaler.get("version") and _V2_ENV in head.env:
        found = f"{_V2_ENV} beside autoscalerOptions.version"
        yield Problem("autoscaler-twice", head.in_ray("env"), found, "keep autoscalerOptions.version")
    if not cluster.is_scaled and head.env.get(_V2_ENV) in ("1", "true"):
        yield Problem("autoscaler-off", head.in_ray("env"), f"{_V2_ENV} without an autoscaler", "remove it")
    for group in cluster.groups:
        policy = group.pod.get("restartPolicy")
        if cluster.is_v2 and policy not in (None, "Never"):
            place = group.in_pod("restartPolicy")
            yield Problem("restart-policy", place, f"{policy} with autoscaler v2", "remove it, or write Never")
        if group.spec.get("suspend") and cluster.is_scaled:
            yield Problem("suspended-group", group.at("suspend"), "refused with an autoscaler", "remove it")
        for key in ("idleTimeoutSeconds", "priority"):
            if not group.is_head and key in group.spec and not cluster.is_v2:
                remedy = "set autoscalerOptions.version: v2, or remove it"
                yield Problem("needs-autoscaler-v2", group.at(key), f"{key} of a group needs autoscaler v2", remedy)


def _versions(cluster: Cluster) -> Iterator[Problem]:
    version, text = cluster.version, cluster.spec.get("rayVersion", "none")
    is_token = (cluster.spec.get("authOptions") or {}).get("mode") == "token"
    if is_token and (version is None or version < (2, 52)):
        found = f"tokens need Ray 2.52, rayVersion is {text}"
        yield Problem("auth-version", cluster.at("rayVersion"), found, "raise rayVersion and the image")
    for group in cluster.workers:
        if "priority" in group.spec and (version is None or version < (2, 56)):
            found = f"a priority needs Ray 2.56, rayVersion is {text}"
            yield Problem("priority-version", group.at("priority"), found, "remove it")
    for key, gate in _GATED.items():
        if key in cluster.spec:
            found = f"refused unless the feature gate {gate} is on, which it is not by default"
            yield Problem("gated-field", cluster.at(key), found, "remove it")
