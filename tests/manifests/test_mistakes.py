"""Every pitfall of the digest, seeded into manifests that are right, is found by its name; the same without it is not.

A mistake is a JSON 6902 patch of one object of the shipped base. `before` makes its twin: also right, but with what the
mistake is about.
"""

import copy
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

import jsonpatch
import pytest

from modelops_ray.cluster import manifests
from modelops_ray.cluster.manifests.check import check_bundle
from modelops_ray.cluster.manifests.files import Resource
from modelops_ray.cluster.manifests.kustomize import build

BASE = Path(__file__).parents[2] / "kuberay/base/job"
SPEC = "/spec/rayClusterSpec"
HEAD, GROUP = f"{SPEC}/headGroupSpec", f"{SPEC}/workerGroupSpecs/0"
HEAD_RAY, RAY = (f"{place}/template/spec/containers/0" for place in (HEAD, GROUP))
RULES = "/spec/deletionStrategy/deletionRules"


def add(path, value):
    """Set or insert a value."""
    return {"op": "add", "path": path, "value": value}


def drop(path):
    """Remove a value."""
    return {"op": "remove", "path": path}


@dataclass(frozen=True)
class Mistake:
    """The rule that a change breaks; `before` is done to the twin as well."""

    rule: str
    change: list
    kind: str = "RayJob"
    before: list = field(default_factory=list)

    def __str__(self):
        return f"{self.rule} {self.change[0]['path'].rpartition('/')[2]}"


def entrypoint(text):
    """Replace the command."""
    return [add("/spec/entrypoint", text)]


def env(number, name, value):
    """Insert an environment variable into the first group, or replace the one of that number."""
    return {
        "op": "add" if number == "-" else "replace",
        "path": f"{RAY}/env/{number}",
        "value": {"name": name, "value": value},
    }


SHUTDOWN = [drop("/spec/deletionStrategy"), add("/spec/shutdownAfterJobFinishes", True)]
DRIVER_ENV = 'env_vars: {RAY_task_oom_retries: "0", RAY_JOB_STOP_WAIT_TIME_S: "60"}'
CORRECT_OUT = "modelops-ray run /studies/study.json --out /runs/study --tolerate-failures"


def rule(policy, **condition):
    """A rule of deletion, nine seconds after."""
    return {"policy": policy, "condition": {"ttlSeconds": 9, **condition}}


DELETE_CLUSTER = {
    "deletionRules": [
        rule("DeleteCluster", jobStatus="FAILED"),
        rule("DeleteSelf", jobDeploymentStatus="Failed"),
    ]
}
SELECTOR = [add("/spec/clusterSelector", {"ray.io/cluster": "modelops"}), drop("/spec/deletionStrategy"), drop(SPEC)]

MISTAKES = [
    # What the API server refuses.
    Mistake("unknown-field", [add(f"{GROUP}/minReplica", 1)]),
    Mistake("unknown-field", [add("/spec/entrypointMemory", "1Gi")]),
    Mistake("unknown-field", [add("/metadata/label", {})]),
    Mistake("unknown-field", [add("/rules/0/verb", "get")], kind="Role"),
    Mistake("wrong-type", [add(f"{GROUP}/maxReplicas", "ten")]),
    Mistake("wrong-type", [add("/rules/0/verbs", "get")], kind="Role"),
    Mistake("wrong-type", [add("/spec/ingress/0", [])], kind="NetworkPolicy"),
    Mistake("missing-field", [drop(f"{GROUP}/groupName")]),
    Mistake("missing-field", [drop("/roleRef")], kind="RoleBinding"),
    Mistake("not-a-choice", [add(f"{SPEC}/autoscalerOptions/upscalingMode", "Fast")]),
    Mistake("bad-quantity", [add(f"{RAY}/resources/limits/memory", "32GB!")]),
    Mistake("out-of-range", [add("/spec/preRunningDeadlineSeconds", 0)]),
    Mistake("listed-twice", [add(f"{RAY}/env/0", {"name": "MALLOC_ARENA_MAX", "value": "4"})]),
    Mistake("unquoted-start-param", [add(f"{HEAD}/rayStartParams/num-cpus", 0)]),
    Mistake("api-version", [add("/apiVersion", "ray.io/v1alpha1")]),
    Mistake("api-version", [add("/apiVersion", "rbac.authorization.k8s.io/v1beta1")], kind="Role"),
    Mistake("unknown-kind", [add("/kind", "Rayjob")]),
    # What KubeRay's controller refuses.
    Mistake("name-too-long", [add("/metadata/name", "a" * 48)], before=[add("/metadata/name", "a" * 47)]),
    Mistake("name-not-dns", [add("/metadata/name", "7studies")]),
    Mistake("submission-mode", [add("/spec/submissionMode", "HttpMode")]),
    Mistake("no-cluster", [drop(SPEC)]),
    Mistake("negative-backoff", [add("/spec/backoffLimit", -1)]),
    Mistake("backoff-without-cluster", [add("/spec/backoffLimit", 2)], before=[*SELECTOR, drop("/spec/backoffLimit")]),
    Mistake("sidecar-submitter", [add("/spec/submissionMode", "SidecarMode")],
            before=[add("/spec/submitterConfig", {"backoffLimit": 1})]),
    Mistake("deadline-not-positive", [add("/spec/activeDeadlineSeconds", 0)]),
    Mistake("runtime-env-yaml", [add("/spec/runtimeEnvYAML", "env_vars: [")]),
    Mistake("runtime-env-yaml", [add("/spec/runtimeEnvYAML", "env_vars")]),
    Mistake("suspend-without-shutdown", [add("/spec/shutdownAfterJobFinishes", False)],
            before=[*SHUTDOWN, add("/spec/suspend", True)]),
    Mistake("suspend-selected", [add("/spec/suspend", True)],
            before=[*SELECTOR, drop("/spec/backoffLimit"), SHUTDOWN[1]]),
    Mistake("ttl-without-shutdown", [add("/spec/shutdownAfterJobFinishes", False)],
            before=[*SHUTDOWN, add("/spec/ttlSecondsAfterFinished", 60)]),
    Mistake("job-upgrade-strategy", [add(f"{SPEC}/upgradeStrategy", {"type": "Recreate"})]),
    Mistake("deletion-and-shutdown", [add("/spec/shutdownAfterJobFinishes", True)]),
    Mistake("deletion-and-legacy", [add("/spec/deletionStrategy/onSuccess", {"policy": "DeleteCluster"})]),
    Mistake("deletion-empty", [add(RULES, [])]),
    Mistake("deletion-condition", [add(f"{RULES}/0/condition/jobDeploymentStatus", "Failed")]),
    Mistake("delete-workers-scaled", [add(f"{RULES}/0/policy", "DeleteWorkers")]),
    Mistake("out-of-range", [add(f"{RULES}/0/condition/ttlSeconds", -1)]),
    Mistake("delete-selected", [add("/spec/deletionStrategy", DELETE_CLUSTER)],
            before=[*SELECTOR, drop("/spec/backoffLimit")]),
    Mistake("deletion-twice", [add(f"{RULES}/1/condition/jobStatus", "SUCCEEDED")]),
    Mistake("deletion-order", [add(f"{RULES}/-", rule("DeleteSelf", jobStatus="FAILED"))],
            before=[add(f"{RULES}/-", rule("DeleteSelf", jobStatus="SUCCEEDED", ttlSeconds=60))]),
    Mistake("no-container", [add(f"{GROUP}/template/spec/containers", [])]),
    Mistake("resources-twice", [add(f"{GROUP}/rayStartParams/num-cpus", "8")]),
    Mistake("labels-in-params", [add(f"{GROUP}/rayStartParams/labels", "tier=mem4")]),
    Mistake("bad-label", [add(f"{GROUP}/labels/tier", "a b")]),
    Mistake("group-twice", [add(f"{SPEC}/workerGroupSpecs/1/groupName", "mem4")]),
    Mistake("replicas-range", [add(f"{GROUP}/minReplicas", 51)], before=[add(f"{GROUP}/minReplicas", 50)]),
    Mistake("autoscaler-twice", [add(f"{HEAD_RAY}/env/-", {"name": "RAY_enable_autoscaler_v2", "value": "1"})]),
    Mistake("autoscaler-off", [add(f"{HEAD_RAY}/env/-", {"name": "RAY_enable_autoscaler_v2", "value": "1"}),
                               add(f"{SPEC}/enableInTreeAutoscaling", False)]),
    Mistake("suspended-group", [add(f"{GROUP}/suspend", True)], before=[add(f"{GROUP}/suspend", False)]),
    Mistake("restart-policy", [add(f"{GROUP}/template/spec/restartPolicy", "Always")],
            before=[add(f"{GROUP}/template/spec/restartPolicy", "Never")]),
    Mistake("needs-autoscaler-v2", [add(f"{SPEC}/autoscalerOptions/version", "v1")],
            before=[add(f"{GROUP}/idleTimeoutSeconds", 60)]),
    Mistake("auth-version", [add(f"{SPEC}/rayVersion", "2.51.0")],
            before=[add(f"{SPEC}/authOptions", {"mode": "token"})]),
    Mistake("priority-version", [add(f"{SPEC}/rayVersion", "2.55.0")], before=[add(f"{GROUP}/priority", 1)]),
    Mistake("gated-field", [add(f"{SPEC}/networkPolicy", {})]),
    # What all of them take, and what loses runs.
    Mistake("no-autoscaler", [add(f"{SPEC}/enableInTreeAutoscaling", False)]),
    Mistake("autoscaler-version", [drop(f"{SPEC}/autoscalerOptions/version")]),
    Mistake("autoscaler-starved", [drop(f"{SPEC}/autoscalerOptions/resources")],
            before=[add(f"{GROUP}/maxReplicas", 90)]),
    Mistake("slow-launches", [drop(f"{SPEC}/autoscalerOptions/env")], before=[add(f"{GROUP}/maxReplicas", 90)]),
    Mistake("in-place-resize", [add("/metadata/annotations", {"ray.io/ippr": "{}"})]),
    Mistake("no-ray-version", [drop(f"{SPEC}/rayVersion")]),
    Mistake("images-differ", [add(f"{RAY}/image", "modelops-ray:0.2.0")]),
    Mistake("image-version", [add(f"{SPEC}/rayVersion", "2.59.0")],
            before=[add(f"{SPEC}/{place}/template/spec/containers/0/image", "rayproject/ray:2.60.0-py312")
                    for place in ("headGroupSpec", "workerGroupSpecs/0", "workerGroupSpecs/1")]),
    Mistake("auth-without-mode", [add(f"{SPEC}/authOptions", {})]),
    Mistake("head-works", [add(f"{HEAD}/rayStartParams/num-cpus", "4")]),
    Mistake("head-works", [drop(f"{HEAD}/rayStartParams/num-cpus")]),
    Mistake("no-limit", [drop(f"{RAY}/resources/limits/memory")]),
    Mistake("requests-not-limits", [add(f"{RAY}/resources/requests/memory", "16Gi")],
            before=[add(f"{RAY}/resources/requests/memory", "32768Mi")]),
    Mistake("no-grace", [drop(f"{GROUP}/template/spec/terminationGracePeriodSeconds")]),
    Mistake("unknown-start-param", [add(f"{GROUP}/rayStartParams/object-store-memroy", "1")]),
    Mistake("not-in-bytes", [add(f"{GROUP}/rayStartParams/object-store-memory", "2Gi")]),
    Mistake("system-config-on-worker", [add(f"{GROUP}/rayStartParams/system-config", "{}")],
            before=[add(f"{HEAD}/rayStartParams/system-config", "{}")]),
    Mistake("no-object-store", [drop(f"{GROUP}/rayStartParams/object-store-memory")]),
    Mistake("object-store-large", [add(f"{HEAD}/rayStartParams/object-store-memory", str(8 * 2**30))]),
    Mistake("resource-case", [{"op": "move", "from": f"{GROUP}/resources/CPU", "path": f"{GROUP}/resources/cpu"}]),
    Mistake("no-group-memory", [drop(f"{GROUP}/resources/memory")]),
    Mistake("memory-above-formula", [add(f"{GROUP}/resources/memory", "26Gi")]),
    Mistake("memory-above-formula", [env(0, "RAY_memory_usage_threshold", "0.9")]),
    Mistake("cpus-above-limit", [add(f"{GROUP}/resources/CPU", "16")]),
    Mistake("no-spill", [drop(f"{GROUP}/rayStartParams/object-spilling-directory")]),
    Mistake("spill-not-mounted", [add(f"{GROUP}/rayStartParams/object-spilling-directory", "/spilled")]),
    Mistake("spill-in-memory", [add(f"{GROUP}/template/spec/volumes/0/emptyDir/medium", "Memory")]),
    Mistake("spill-unbounded", [drop(f"{GROUP}/template/spec/volumes/0/emptyDir/sizeLimit")]),
    Mistake("no-threshold", [drop(f"{RAY}/env/0")]),
    Mistake("monitor-off", [env("-", "RAY_memory_monitor_refresh_ms", "0")],
            before=[add(f"{HEAD_RAY}/env/-", {"name": "RAY_memory_monitor_refresh_ms", "value": "250"})]),
    Mistake("early-exit", [env("-", "RAY_enable_infeasible_task_early_exit", "true")]),
    Mistake("malloc-arenas", [drop(f"{RAY}/env/1")]),
    Mistake("runs-as-root", [drop(f"{GROUP}/template/spec/securityContext/runAsNonRoot")]),
    Mistake("runs-as-root", [add(f"{RAY}/securityContext/runAsUser", 0)]),
    Mistake("capabilities", [add(f"{RAY}/securityContext/capabilities", {"add": ["SYS_ADMIN"]})]),
    Mistake("privilege-escalation", [drop(f"{RAY}/securityContext/allowPrivilegeEscalation")]),
    Mistake("no-max-replicas", [drop(f"{GROUP}/maxReplicas")]),
    Mistake("fixed-replicas", [add(f"{GROUP}/replicas", 4)]),
    Mistake("several-hosts", [add(f"{GROUP}/numOfHosts", 2)], before=[add(f"{GROUP}/numOfHosts", 1)]),
    Mistake("autoscaler-reads-not", [add(f"{GROUP}/resources/GPU", "one")]),
    Mistake("autoscaler-reads-not", [add(f"{SPEC}/autoscalerOptions/idleTimeoutSeconds", -1)]),
    Mistake("no-workers", [add(f"{SPEC}/workerGroupSpecs", [])]),
    Mistake("no-grace", [add(f"{HEAD}/template/spec/terminationGracePeriodSeconds", 7)]),
    Mistake("no-ray-version", [add(f"{SPEC}/rayVersion", "2.60")]),
    Mistake("object-store-small", [add(f"{GROUP}/rayStartParams/object-store-memory", "0")]),
    Mistake("no-cpus", [add(f"{GROUP}/resources/CPU", "0")]),
    Mistake("memory-unused", [add(f"{GROUP}/resources/memory", "25Mi")]),
    Mistake("spill-unbounded", [drop(f"{GROUP}/template/spec/volumes/0/emptyDir")]),
    Mistake("capabilities", [drop(f"{SPEC}/autoscalerOptions/securityContext/capabilities")]),
    # The run itself.
    Mistake("not-http-mode", [drop("/spec/submissionMode")]),
    Mistake("driver-on-worker", [add("/spec/entrypointNumCpus", 1)]),
    Mistake("no-deadline", [drop("/spec/activeDeadlineSeconds")]),
    Mistake("no-deadline", [drop("/spec/preRunningDeadlineSeconds")]),
    Mistake("no-deletion", [drop("/spec/deletionStrategy")]),
    Mistake("deletion-gap", [drop(f"{RULES}/0")]),
    Mistake("deletion-gap", [drop(f"{RULES}/2")]),
    Mistake("driver-env", [add("/spec/runtimeEnvYAML", 'env_vars: {RAY_task_oom_retries: "0"}')]),
    Mistake("driver-env-text", [add("/spec/runtimeEnvYAML", DRIVER_ENV.replace('"0"', "0"))],
            before=[add("/spec/runtimeEnvYAML", DRIVER_ENV)]),
    Mistake("entrypoint", entrypoint("python run.py")),
    Mistake("entrypoint", entrypoint("modelops-ray run 'study.json")),
    Mistake("no-tolerate-failures", entrypoint(CORRECT_OUT.replace(" --tolerate-failures", ""))),
    Mistake("address-in-job", entrypoint(CORRECT_OUT + " --address auto")),
    Mistake("ephemeral-out", entrypoint(CORRECT_OUT.replace("/runs/study", "runs/study"))),
    Mistake("ephemeral-out", entrypoint(CORRECT_OUT.replace(" --out /runs/study", ""))),
    Mistake("ephemeral-out", entrypoint(CORRECT_OUT.replace("/runs/", "/spill/")),
            before=entrypoint(CORRECT_OUT.replace("/runs/study", "s3://bucket/study"))),
    Mistake("bad-shard", entrypoint(CORRECT_OUT + " --shard 2/1"), before=entrypoint(CORRECT_OUT + " --shard=1/1")),
    Mistake("shards", entrypoint(CORRECT_OUT + " --shard 1/2")),
    Mistake("ephemeral-out", [drop(f"{HEAD}/template/spec/volumes/1/persistentVolumeClaim")]),
    # Objects that must fit each other.
    Mistake("namespaces-differ", [add("/metadata/namespace", "other")], kind="PersistentVolumeClaim"),
    Mistake("unknown-claim", [add(f"{HEAD}/template/spec/volumes/1/persistentVolumeClaim/claimName", "run")]),
    Mistake("claim-incomplete", [drop("/spec/accessModes")], kind="PersistentVolumeClaim"),
    Mistake("claim-incomplete", [add("/spec/resources/requests/storage", "50G!")], kind="PersistentVolumeClaim"),
    Mistake("claim-incomplete", [drop("/spec")], kind="PersistentVolumeClaim"),
    Mistake("observer-rights", [add("/subjects/0/namespace", "other")], kind="RoleBinding"),
    Mistake("observer-rights", [add("/roleRef/kind", "ClusterRole")], kind="RoleBinding"),
    Mistake("network-open", [add("/spec/ingress/-", {})], kind="NetworkPolicy"),
    Mistake("nodes-locked-out", [drop("/spec/ingress/0")], kind="NetworkPolicy"),
    Mistake("unknown-account", [add("/metadata/name", "another")], kind="ServiceAccount"),
    Mistake("observer-rights", [add("/rules/0/verbs", ["get", "list"])], kind="Role"),
    Mistake("observer-rights", [add("/subjects/0/name", "another")], kind="RoleBinding"),
    Mistake("operator-locked-out", [drop("/spec/ingress/1")], kind="NetworkPolicy"),
]  # fmt: skip


@functools.cache
def base():
    """The base, resolved once."""
    return build(BASE)


def shipped():
    """The objects of the base, by kind."""
    return {resource.kind: copy.deepcopy(resource.content) for resource in base()}


def rules_of(objects):
    """Which rules are broken by objects that belong together."""
    bundle = [Resource("seeded.yaml", content) for content in objects]
    return [finding.rule for finding in check_bundle("seeded.yaml", bundle)]


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_mistake_is_found_by_its_name_and_its_twin_passes(mistake):
    """One line per mistake, of the rule it breaks and no other."""
    objects = shipped()
    objects[mistake.kind] = jsonpatch.apply_patch(objects[mistake.kind], mistake.before)
    assert [] == rules_of(objects.values())

    objects[mistake.kind] = jsonpatch.apply_patch(objects[mistake.kind], mistake.change)
    assert {mistake.rule} == set(rules_of(objects.values()))


def test_every_rule_of_the_checks_has_its_mistake():
    """A rule that nothing breaks may never fire."""
    folder = Path(manifests.__file__).parent
    sources = "".join((folder / f"{name}.py").read_text() for name in ("schema", "rules", "lint", "lint_job", "check"))
    seeded = {mistake.rule for mistake in MISTAKES}
    assert len(seeded) >= 90
    assert {"claim-not-shared"} == set(re.findall(r'Problem\(\s*"([a-z0-9-]+)"', sources)) - seeded


def test_jobs_that_share_a_volume_for_one_node_are_found():
    """The heads of shards run on several nodes."""
    objects = list(shipped().values())
    twin = copy.deepcopy(next(content for content in objects if content["kind"] == "RayJob"))
    twin["metadata"]["name"] = "another"
    assert ["claim-not-shared"] == rules_of([*objects, twin])
