"""Pitfalls of the run itself, and of objects that must fit each other: entrypoint, deadlines, volumes, rights.

Looks at all objects of one kustomization or file together. Rules about a cluster's pods are in `lint`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import yaml

from modelops_ray.cluster.findings import Problem
from modelops_ray.cluster.manifests import Json, Resource
from modelops_ray.cluster.sizing import Need
from modelops_ray.cluster.views import cluster_of, of_kind

_DRIVER_ENV = {
    "RAY_task_oom_retries": "Ray repeats an OOM-killed task for ever with the same memory",
    "RAY_JOB_STOP_WAIT_TIME_S": "a stopped driver has 3 s before SIGKILL",
}
_DRIVER_VALUES = {"RAY_task_oom_retries": "0", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
_OBSERVED = {"pods": "", "rayjobs": "ray.io"}
_VERBS = {"get", "list", "watch"}


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """The command of a job, taken apart."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Entrypoint | None:
        """Read a command line; None if its quotes do not match."""
        try:
            return cls(tuple(shlex.split(text)))
        except ValueError:
            return None

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


def job_problems(content: Json) -> Iterator[Problem]:
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


def _deadlines(spec: Json) -> Iterator[Problem]:
    for key, what in (
        ("activeDeadlineSeconds", "a job that hangs"),
        ("preRunningDeadlineSeconds", "an image or a quota"),
    ):
        if key not in spec:
            yield Problem("no-deadline", f"/spec/{key}", f"{what} keeps the cluster for ever", "set it")
    rules = (spec.get("deletionStrategy") or {}).get("deletionRules")
    if not rules and not spec.get("shutdownAfterJobFinishes") and not spec.get("deletionStrategy"):
        found = "the cluster stays, and costs, when the job has ended"
        yield Problem("no-deletion", "/spec/deletionStrategy", found, "write deletionRules")
    if rules and not any("jobDeploymentStatus" in rule["condition"] for rule in rules):
        found = "a job that never ran, or was stopped at its deadline, keeps its cluster"
        remedy = "add a rule with jobDeploymentStatus: Failed"
        yield Problem("deletion-not-of-failed", "/spec/deletionStrategy/deletionRules", found, remedy)


def _driver_env(spec: Json) -> Iterator[Problem]:
    env = (yaml.safe_load(spec.get("runtimeEnvYAML") or "") or {}).get("env_vars") or {}
    for name, why in _DRIVER_ENV.items():
        if name not in env:
            remedy = f'add {name}: "{_DRIVER_VALUES[name]}" to its env_vars: it is read in the driver'
            yield Problem("driver-env", "/spec/runtimeEnvYAML", f"{name} is not there: {why}", remedy)
        elif not isinstance(env[name], str):
            found, remedy = f"{name} is {env[name]}, Ray takes text only", f'write "{env[name]}"'
            yield Problem("driver-env-text", "/spec/runtimeEnvYAML", found, remedy)


def _entrypoint(content: Json) -> Iterator[Problem]:
    place, found = "/spec/entrypoint", Entrypoint.of(content["spec"].get("entrypoint", ""))
    if found is None or not found.is_ours:
        remedy = "write modelops-ray run STUDY --out DIR --tolerate-failures"
        yield Problem("entrypoint", place, "it is no `modelops-ray run STUDY`", remedy)
        return
    if "--tolerate-failures" not in found.words:
        text = "KubeRay answers the exit code 3 of failed simulations with a new cluster"
        yield Problem("no-tolerate-failures", place, text, "add --tolerate-failures")
    if found.value_of("--address") is not None:
        yield Problem("address-in-job", place, "--address in a job: the cluster is given by KubeRay", "remove it")
    yield from _out(content, found.value_of("--out"))
    shard = found.value_of("--shard")
    if shard is not None and not _is_shard(shard):
        yield Problem("bad-shard", place, f"--shard {shard}", "write I/N with 1 <= I <= N")


def _is_shard(text: str) -> bool:
    i, _, n = text.partition("/")
    return i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)


def _out(content: Json, out: str | None) -> Iterator[Problem]:
    place = "/spec/entrypoint"
    if out is None or not (out.startswith("/") or "://" in out):
        found = "no --out" if out is None else f"--out {out} is relative"
        remedy = "name a folder of a persistent volume, or a URI"
        yield Problem("ephemeral-out", place, f"{found}: the results die with the head", remedy)
        return
    if not outlives_the_head(content, out):
        found = f"--out {out} is no persistent volume of the head: the results die with it"
        yield Problem("ephemeral-out", place, found, "mount a persistentVolumeClaim there, or give a URI")


def outlives_the_head(content: Json, out: str) -> bool:
    """Whether an absolute run directory of a job is a URI, or on a persistent volume of its head."""
    cluster = cluster_of(content)
    if "://" in out or cluster is None:
        return True
    volume = cluster.head.volume_at(out)
    return volume is not None and {"emptyDir", "ephemeral"}.isdisjoint(volume)


def need_of_job(content: Json, need: Need) -> Need:
    """What one job needs of what a study does: its own --cpus, and its part where it is a shard."""
    entrypoint = Entrypoint.of(content["spec"].get("entrypoint", ""))
    if entrypoint is None:
        return need
    cpus, shard = entrypoint.value_of("--cpus"), entrypoint.value_of("--shard")
    n_shards = int(shard.partition("/")[2]) if shard is not None and _is_shard(shard) else 1
    n_simulations = -(-need.simulations // n_shards)
    return replace(need, cpus=need.cpus if cpus is None else float(cpus), simulations=n_simulations)


def bundle_problems(resources: Sequence[Resource]) -> Iterator[tuple[Resource, Problem]]:
    """Every pitfall between objects that belong together."""
    yield from _shards(resources)
    yield from _claims(resources)
    yield from _accounts(resources)
    yield from _network(resources)


def _shards(resources: Sequence[Resource]) -> Iterator[tuple[Resource, Problem]]:
    """Shards of one run: no two alike, none missing."""
    runs: dict[tuple[str | None, str], list[tuple[Resource, str]]] = {}
    for job in of_kind(resources, "RayJob"):
        entrypoint = Entrypoint.of(job.content["spec"].get("entrypoint", ""))
        shard = entrypoint.value_of("--shard") if entrypoint is not None else None
        if entrypoint is not None and shard is not None and _is_shard(shard):
            i, _, n = shard.partition("/")
            runs.setdefault((entrypoint.value_of("--out"), n), []).append((job, i))
    for (_, n), jobs in runs.items():
        missing = sorted({str(i) for i in range(1, int(n) + 1)} - {i for _, i in jobs}, key=int)
        twice = len(jobs) != len({i for _, i in jobs})
        if missing or twice:
            found = f"of {n} shards " + (f"{', '.join(missing)} missing" if missing else "one is there twice")
            yield jobs[0][0], Problem("shards", "/spec/entrypoint", found, "render them together")


def _claims(resources: Sequence[Resource]) -> Iterator[tuple[Resource, Problem]]:
    """A claim that only one node may mount, and several heads that want it."""
    users: dict[str, int] = {}
    for job in of_kind(resources, "RayJob"):
        cluster = cluster_of(job.content)
        for volume in (cluster.head.pod.get("volumes") or []) if cluster is not None else []:
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
            users[name] = users.get(name, 0) + 1
    for claim in of_kind(resources, "PersistentVolumeClaim"):
        modes = claim.content.get("spec", {}).get("accessModes", [])
        if users.get(claim.name, 0) > 1 and "ReadWriteMany" not in modes:
            found = f"{users[claim.name]} jobs mount it, {', '.join(modes)} is for one node"
            yield claim, Problem("claim-not-shared", "/spec/accessModes", found, "write [ReadWriteMany], or use a URI")


def _accounts(resources: Sequence[Resource]) -> Iterator[tuple[Resource, Problem]]:
    """The head's account is there and may look at its pods and its job."""
    accounts = {account.name for account in of_kind(resources, "ServiceAccount")}
    for resource in resources:
        cluster = cluster_of(resource.content)
        if cluster is None or not of_kind(resources, "Role"):
            continue
        name, place = cluster.head.pod.get("serviceAccountName"), cluster.head.in_pod("serviceAccountName")
        if name not in accounts:
            found = f"{name or 'no account'}: none of the accounts that are made here"
            yield resource, Problem("unknown-account", place, found, f"write {' or '.join(sorted(accounts)) or 'one'}")
        missing = sorted(what for what in _OBSERVED if not _may_watch(resources, str(name), what))
        if missing:
            found = f"{name} may not get, list and watch {', '.join(missing)}: killed pods stay unexplained"
            yield resource, Problem("observer-rights", place, found, "give it a Role with these verbs")


def _may_watch(resources: Sequence[Resource], account: str, what: str) -> bool:
    roles = {
        binding.content["roleRef"]["name"]
        for binding in of_kind(resources, "RoleBinding")
        for subject in binding.content.get("subjects") or []
        if subject["kind"] == "ServiceAccount" and subject["name"] == account
    }
    rules = [
        rule for role in of_kind(resources, "Role") if role.name in roles for rule in role.content.get("rules", [])
    ]
    return any(
        what in rule.get("resources", ())
        and _OBSERVED[what] in rule.get("apiGroups", ())
        and set(rule["verbs"]) >= _VERBS
        for rule in rules
    )


def _network(resources: Sequence[Resource]) -> Iterator[tuple[Resource, Problem]]:
    """A fence around Ray's pods has a gate for KubeRay's operator, which submits over HTTP."""
    for policy in of_kind(resources, "NetworkPolicy"):
        spec = policy.content.get("spec", {})
        gates = [port.get("port") for rule in spec.get("ingress", []) for port in rule.get("ports", [])]
        if "Ingress" in spec.get("policyTypes", []) and 8265 not in gates:
            found = "the operator cannot reach the dashboard, and HTTPMode submits there"
            yield policy, Problem("operator-locked-out", "/spec/ingress", found, "let kuberay-operator in on port 8265")
