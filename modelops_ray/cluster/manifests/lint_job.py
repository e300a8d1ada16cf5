"""Pitfalls of the run itself, and of objects that must fit each other: entrypoint, deadlines, volumes, rights.

Looks at all objects of one kustomization or file together. Rules about a cluster's pods are in `lint`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from modelops_ray.cluster.manifests import files, sizing, views
from modelops_ray.cluster.manifests.findings import Problem
from modelops_ray.cluster.quantity import as_bytes
from modelops_ray.core.policy import count

_DRIVER_ENV = {
    "RAY_task_oom_retries": ("0", "Ray repeats an OOM-killed task for ever with the same memory"),
    "RAY_JOB_STOP_WAIT_TIME_S": ("60", "a stopped driver has 3 s before SIGKILL"),
}
"""Right values of variables that Ray reads in the driver, and what happens without them."""
_ENDS = (("jobStatus", "SUCCEEDED"), ("jobStatus", "FAILED"), ("jobDeploymentStatus", "Failed"))
"""How a job ends: with success, with an exit code, or without having run, or at its deadline."""
_ACCESS_MODES = {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}
_OBSERVED = {"pods": "", "rayjobs": "ray.io"}
_VERBS = {"get", "list", "watch"}


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """The command of a job as words, none where its quotes do not match."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, job: files.Json) -> Entrypoint:
        """Read the command line of a RayJob."""
        try:
            return cls(tuple(shlex.split(job["spec"].get("entrypoint", ""))))
        except ValueError:
            return cls(())

    @property
    def is_ours(self) -> bool:
        """Whether it is `modelops-ray run STUDY`."""
        return self.words[:2] == ("modelops-ray", "run") and len(self.words) > 2

    def value_of(self, option: str) -> str | None:
        """The value of an option, None if it is not given."""
        for i, word in enumerate(self.words):
            if word == option and i + 1 < len(self.words):
                return self.words[i + 1]
            if word.startswith(option + "="):
                return word.partition("=")[2]
        return None

    @property
    def shard(self) -> tuple[int, int] | None:
        """Which shard this is of how many, from 1; None if it is none."""
        i, _, n = (self.value_of("--shard") or "").partition("/")
        return (int(i), int(n)) if i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n) else None


def job_problems(content: files.Json) -> Iterator[Problem]:
    """Every pitfall that a RayJob falls into, its cluster aside."""
    spec = content["spec"]
    if spec.get("submissionMode", "K8sJobMode") != "HTTPMode":
        found = f"{spec.get('submissionMode', 'K8sJobMode')} holds a connection for the whole run (kuberay#5099)"
        yield Problem("not-http-mode", "/spec/submissionMode", found, "write HTTPMode")
    for key in ("entrypointNumCpus", "entrypointNumGpus", "entrypointResources"):
        if spec.get(key):
            found = "the driver may then run on a worker, and die with it"
            yield Problem("driver-on-worker", f"/spec/{key}", found, "remove it: it runs on the head")
    if not spec.get("clusterSelector"):
        yield from _deadlines(spec)
    yield from _driver_env(spec)
    yield from _entrypoint(content)


def _deadlines(spec: files.Json) -> Iterator[Problem]:
    for key, what in {
        "activeDeadlineSeconds": "a job that hangs",
        "preRunningDeadlineSeconds": "an image or a quota",
    }.items():
        if key not in spec:
            yield Problem("no-deadline", f"/spec/{key}", f"{what} keeps the cluster for ever", "set it")
    rules = (spec.get("deletionStrategy") or {}).get("deletionRules")
    if not rules and not spec.get("shutdownAfterJobFinishes") and not spec.get("deletionStrategy"):
        found = "the cluster stays, and costs, when the job has ended"
        yield Problem("no-deletion", "/spec/deletionStrategy", found, "write deletionRules")
    covered = {(key, value) for rule in rules or [] for key, value in rule["condition"].items()}
    for key, value in _ENDS if rules else ():
        if (key, value) not in covered:
            found = f"a job that ends with {key} {value} keeps its cluster"
            place = "/spec/deletionStrategy/deletionRules"
            yield Problem("deletion-gap", place, found, f"add a rule with {key}: {value}")


def _driver_env(spec: files.Json) -> Iterator[Problem]:
    env = (files.parse_one(spec.get("runtimeEnvYAML") or "", "runtimeEnvYAML") or {}).get("env_vars") or {}
    for name, (right, why) in _DRIVER_ENV.items():
        if name not in env:
            remedy = f'add {name}: "{right}" to its env_vars: it is read in the driver'
            yield Problem("driver-env", "/spec/runtimeEnvYAML", f"{name} is not there: {why}", remedy)
        elif not isinstance(env[name], str):
            found, remedy = f"{name} is {env[name]}, Ray takes text only", f'write "{env[name]}"'
            yield Problem("driver-env-text", "/spec/runtimeEnvYAML", found, remedy)


def _entrypoint(content: files.Json) -> Iterator[Problem]:
    place, found = "/spec/entrypoint", Entrypoint.of(content)
    if not found.is_ours:
        remedy = "write modelops-ray run STUDY --out DIR --tolerate-failures"
        yield Problem("entrypoint", place, "it is no `modelops-ray run STUDY`", remedy)
        return
    if "--tolerate-failures" not in found.words:
        text = "KubeRay answers the exit code 3 of failed simulations with a new cluster"
        yield Problem("no-tolerate-failures", place, text, "add --tolerate-failures")
    if found.value_of("--address") is not None:
        yield Problem("address-in-job", place, "--address in a job: the cluster is given by KubeRay", "remove it")
    yield from _out(content, found.value_of("--out"))
    if (shard := found.value_of("--shard")) is not None and found.shard is None:
        yield Problem("bad-shard", place, f"--shard {shard}", "write I/N with 1 <= I <= N")


def _out(content: files.Json, out: str | None) -> Iterator[Problem]:
    place = "/spec/entrypoint"
    if out is None or not (out.startswith("/") or "://" in out):
        found = "no --out" if out is None else f"--out {out} is relative"
        remedy = "name a folder of a persistent volume, or a URI"
        yield Problem("ephemeral-out", place, f"{found}: the results die with the head", remedy)
        return
    if not outlives_the_head(content, out):
        found = f"--out {out} is no persistent volume of the head: the results die with it"
        yield Problem("ephemeral-out", place, found, "mount a persistentVolumeClaim there, or give a URI")


def outlives_the_head(content: files.Json, out: str) -> bool:
    """Whether an absolute run directory of a job is a URI, or on a persistent volume of its head."""
    cluster = views.cluster_of(content)
    if "://" in out or cluster is None:
        return True
    volume = cluster.head.volume_at(out)
    return volume is not None and not views.is_scratch(volume)


def need_of_job(content: files.Json, need: sizing.Need) -> sizing.Need:
    """What one job needs of a study's need: its own --cpus, and its share of the simulations if it is a shard."""
    entrypoint = Entrypoint.of(content)
    cpus, (_, n_shards) = entrypoint.value_of("--cpus"), entrypoint.shard or (1, 1)
    return replace(need, cpus=need.cpus if cpus is None else float(cpus), simulations=-(-need.simulations // n_shards))


def bundle_problems(resources: Sequence[files.Resource]) -> Iterator[tuple[files.Resource, Problem]]:
    """Every pitfall between objects that belong together; each function below states what is right."""
    for find in (_namespaces, _shards, _claims, _accounts, _network):
        yield from find(resources)


def _shards(resources: Sequence[files.Resource]) -> Iterator[tuple[files.Resource, Problem]]:
    """The shards of a run are all there, each once."""
    runs: dict[tuple[str | None, int], list[tuple[files.Resource, int]]] = {}
    for job in views.of_kind(resources, "RayJob"):
        entrypoint = Entrypoint.of(job.content)
        if (shard := entrypoint.shard) is not None:
            runs.setdefault((entrypoint.value_of("--out"), shard[1]), []).append((job, shard[0]))
    for (_, n), jobs in runs.items():
        there = {i for _, i in jobs}
        missing = [str(i) for i in range(1, n + 1) if i not in there]
        if missing or len(jobs) != len(there):
            found = f"of {count(n, 'shard')} " + (f"{', '.join(missing)} missing" if missing else "one is there twice")
            yield jobs[0][0], Problem("shards", "/spec/entrypoint", found, "render them together")


def _namespaces(resources: Sequence[files.Resource]) -> Iterator[tuple[files.Resource, Problem]]:
    """Pods find their service account, volumes and network policy in their own namespace only."""
    wanted = {namespace_of(resource) for resource in resources if resource.kind.startswith("Ray")}
    for resource in resources if len(wanted) == 1 else ():
        if resource.kind != "Namespace" and namespace_of(resource) not in wanted:
            found = f"{namespace_of(resource) or 'none'}, the run is in {', '.join(wanted) or 'none'}"
            yield resource, Problem("namespaces-differ", "/metadata/namespace", found, "make them equal")


def namespace_of(resource: files.Resource) -> str:
    """The namespace an object says it is in, "" for none."""
    return str(resource.content["metadata"].get("namespace", ""))


def _claims(resources: Sequence[files.Resource]) -> Iterator[tuple[files.Resource, Problem]]:
    """Claims are complete and known, and several heads mount one only where several nodes may."""
    users = Counter(name for job in views.of_kind(resources, "RayJob") for name in _claimed(job))
    claims = views.of_kind(resources, "PersistentVolumeClaim")
    for job in views.of_kind(resources, "RayJob") if claims else ():
        for name in sorted(_claimed(job) - {claim.name for claim in claims}):
            place = "/spec/rayClusterSpec/headGroupSpec/template/spec/volumes"
            remedy = f"write {' or '.join(claim.name for claim in claims)}"
            yield job, Problem("unknown-claim", place, f"{name} is none of the claims here", remedy)
    for claim in claims:
        spec = claim.content.get("spec", {})
        modes = spec.get("accessModes", [])
        storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if not modes or not _ACCESS_MODES.issuperset(modes) or not as_bytes(storage):
            found = f"accessModes {modes}, storage {storage}"
            remedy = "write how many nodes mount it (ReadWriteOnce, ReadWriteMany), and its size (50Gi)"
            yield claim, Problem("claim-incomplete", "/spec", found, remedy)
        if users[claim.name] > 1 and "ReadWriteMany" not in modes:
            found = f"{users[claim.name]} jobs mount it, {', '.join(modes)} is for one node"
            yield claim, Problem("claim-not-shared", "/spec/accessModes", found, "write [ReadWriteMany], or use a URI")


def _claimed(job: files.Resource) -> set[str]:
    cluster = views.cluster_of(job.content)
    volumes = (cluster.head.pod.get("volumes") or []) if cluster is not None else []
    return {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}


def _accounts(resources: Sequence[files.Resource]) -> Iterator[tuple[files.Resource, Problem]]:
    """The service account of a head exists and may watch its pods and its job."""
    accounts = {account.name for account in views.of_kind(resources, "ServiceAccount")}
    for resource in resources:
        cluster = views.cluster_of(resource.content)
        if cluster is None or not views.of_kind(resources, "Role"):
            continue
        name, place = cluster.head.pod.get("serviceAccountName"), cluster.head.in_pod("serviceAccountName")
        if name not in accounts:
            found = f"{name or 'no account'}: none of the accounts that are made here"
            yield resource, Problem("unknown-account", place, found, f"write {' or '.join(sorted(accounts)) or 'one'}")
        account = str(name), namespace_of(resource)
        missing = sorted(what for what in _OBSERVED if not _may_watch(resources, account, what))
        if missing:
            found = f"{name} may not get, list and watch {', '.join(missing)}: killed pods stay unexplained"
            yield resource, Problem("observer-rights", place, found, "give it a Role with these verbs")


def _may_watch(resources: Sequence[files.Resource], account: tuple[str, str], what: str) -> bool:
    roles = {
        binding.content["roleRef"]["name"]
        for binding in views.of_kind(resources, "RoleBinding")
        for subject in binding.content.get("subjects") or []
        if binding.content["roleRef"]["kind"] == "Role"
        and subject["kind"] == "ServiceAccount"
        and (subject["name"], subject.get("namespace", "")) == account
    }
    return any(
        what in rule.get("resources", ())
        and _OBSERVED[what] in rule.get("apiGroups", ())
        and set(rule["verbs"]) >= _VERBS
        for role in views.of_kind(resources, "Role")
        if role.name in roles
        for rule in role.content.get("rules", [])
    )


def _network(resources: Sequence[files.Resource]) -> Iterator[tuple[files.Resource, Problem]]:
    """A network policy around Ray's pods lets in KubeRay's operator, which submits over HTTP."""
    for policy in views.of_kind(resources, "NetworkPolicy"):
        spec = policy.content.get("spec", {})
        entries = spec.get("ingress", [])
        gates = [port.get("port") for rule in entries for port in rule.get("ports", [])]
        if any(not rule.get("from") or {} in rule["from"] for rule in entries):
            found = "a rule without `from` lets every pod and machine in, and each of them can run code on Ray"
            yield policy, Problem("network-open", "/spec/ingress", found, "say who may")
        among = {"podSelector": spec.get("podSelector")}
        if not any(among in rule.get("from", []) and not rule.get("ports") for rule in entries):
            found = "the nodes of a cluster cannot reach each other"
            yield policy, Problem("nodes-locked-out", "/spec/ingress", found, "let in what podSelector selects")
        if "Ingress" in spec.get("policyTypes", []) and 8265 not in gates:
            found = "the operator cannot reach the dashboard, and HTTPMode submits there"
            yield policy, Problem("operator-locked-out", "/spec/ingress", found, "let kuberay-operator in on port 8265")
