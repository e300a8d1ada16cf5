"""`kuberay render`: the shipped manifests, or an overlay of them, with a study's own sizes and entrypoint.

Everything that does not depend on the study stays as the YAML says it; nothing of that is repeated here. What was
filled in, and from which sums, stands in comments at the top.
"""

from __future__ import annotations

import copy
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelops_ray.cluster.manifests import check, files, kustomize, lint, lint_job, views
from modelops_ray.cluster.manifests.sizing import Need, Plan, Shape, Share, Tier, plan
from modelops_ray.cluster.quantity import as_bytes, write_bytes, write_gib
from modelops_ray.core.policy import count
from modelops_ray.errors import ManifestError, UsageError

_MAX_NAME_CHARS = 47
_TIER_LABEL = "modelops/tier"
_MOST_NAMED, _MOST_LISTED = 8, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asks for beside the study; `options` are those of `run`, by their names on the command line.

    `files` are what the model consists of and reads, `declared` what it reads without telling Python, by paths from the
    folder of the study file.
    """

    name: str
    study_path: str | None = None
    run_dir: str | None = None
    image: str | None = None
    shards: int = 1
    max_pods: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """Manifests, the sizes in them (None where nothing was known), and notes for the user."""

    text: str
    plan: Plan | None
    notes: tuple[str, ...]


def render(folder: Path, wish: Wish, need: Need | None) -> Rendered:
    """Fill in what is known into the kustomization of a folder; without a `need` its sizes stay.

    ManifestError where it has no RayJob, fails the check, or cannot be read; UsageError if results die with the head.
    """
    found = kustomize.build(folder)
    if wrong := check.check_bundle(str(folder), found):
        raise ManifestError(str(wrong[0]), wrong[0].rule)
    jobs = [resource for resource in found if resource.kind == "RayJob"]
    if len(jobs) != 1:
        raise ManifestError(f"{folder}: it makes {len(jobs)} RayJobs; to render a study there must be one")
    (job,) = jobs
    cluster = views.cluster_of(job.content)
    if cluster is None or not cluster.workers:
        raise ManifestError(f"{folder}: {job} has no workerGroupSpecs; there must be a group to size")
    claims = [resource.content["spec"] for resource in found if resource.kind == "PersistentVolumeClaim"]
    disk_bytes = max((as_bytes(claim["resources"]["requests"]["storage"]) or 0 for claim in claims), default=0)
    sizes = None if need is None else _plan(cluster, disk_bytes, need, wish)
    content = copy.deepcopy(job.content)
    if sizes is not None:
        _fill(content, cluster, sizes, wish.shards)
    _say(content, wish)
    study, out = _point(content, wish)
    if not lint_job.outlives_the_head(content, out):
        remedy = "give one of its folders, or a URI"
        raise UsageError(f"--run-dir {out}: {folder.name} has no persistent volume there; {remedy}")
    others = [resource.content for resource in found if resource is not job]
    contents = [*_storage(others, sizes, wish, out), *_shards(content, wish)]
    text = files.write(contents, "\n".join(_header(folder, wish, sizes, need)))
    return Rendered(text, sizes, tuple(_notes(wish, study, out)))


def _plan(cluster: views.Cluster, disk_bytes: int, need: Need, wish: Wish) -> Plan:
    first = cluster.workers[0]
    spill, key = _spill_size(first)
    shape = Shape(
        cpus=int(first.resources["CPU"]),
        plasma_bytes=first.plasma_bytes or 0,
        threshold=first.threshold or 1.0,
        max_replicas=cluster.n_pods,
        head_bytes=cluster.head.limit_bytes or 0,
        spill_bytes=as_bytes(spill.get(key)) or 0,
        disk_bytes=disk_bytes,
    )
    return plan(need, shape, pods=wish.max_pods)


def _spill_size(group: views.Group) -> tuple[files.Json, str]:
    """The map, and the key in it, that say how large the volume of spilled objects is."""
    volume = group.volume_at(group.params["object-spilling-directory"])
    if volume is None:
        raise ManifestError(f"group {group.name}: its object-spilling-directory is no volume", "spill-not-mounted")
    if "ephemeral" in volume:
        return volume["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"]["requests"], "storage"
    return volume.get("emptyDir", {}), "sizeLimit"


def _fill(content: files.Json, cluster: views.Cluster, sizes: Plan, shards: int) -> None:
    spec = content["spec"]["rayClusterSpec"]
    template = spec["workerGroupSpecs"][0]
    spec["workerGroupSpecs"] = [_group(template, tier, shards) for tier in sizes.tiers]
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]
    head["requests"]["memory"] = head["limits"]["memory"] = write_bytes(sizes.head_bytes)
    filled = views.cluster_of(content) or cluster
    for group in filled.workers:
        spill, key = _spill_size(group)
        spill[key] = write_bytes(sizes.spill_bytes)
    if lint.is_starved(filled):
        # Those of the base are for many pods; an overlay for a laptop has less.
        (base,) = [each.content for each in kustomize.build(files.overlay_folder(None)) if each.kind == "RayJob"]
        spec["autoscalerOptions"]["resources"] = base["spec"]["rayClusterSpec"]["autoscalerOptions"]["resources"]


def _group(template: files.Json, tier: Tier, shards: int) -> files.Json:
    group = copy.deepcopy(template)
    group["groupName"] = tier.name
    group["maxReplicas"] = -(-tier.max_replicas // shards)
    group["minReplicas"] = min(group.get("minReplicas", 0), group["maxReplicas"])
    group["resources"] = {**group["resources"], "memory": write_bytes(tier.memory_bytes)}
    group["labels"] = {**group.get("labels", {}), _TIER_LABEL: tier.name}
    ray = group["template"]["spec"]["containers"][0]["resources"]
    ray["requests"]["memory"] = ray["limits"]["memory"] = write_bytes(tier.share.limit_bytes)
    params = group["rayStartParams"]
    if "system-reserved-memory" in params:
        params["system-reserved-memory"] = str(tier.share.system_bytes)
    return group


def _say(content: files.Json, wish: Wish) -> None:
    content["metadata"]["name"] = job_name(wish.name)
    if wish.image is not None:
        cluster = views.cluster_of(content)
        for group in cluster.groups if cluster is not None else ():
            group.ray["image"] = wish.image


def job_name(name: str, suffix: str = "") -> str:
    """A name as KubeRay takes it: small letters, digits and -, a letter first, 47 characters."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not words or not words[0].isalpha():
        words = f"study-{words}".strip("-")
    return words[: _MAX_NAME_CHARS - len(suffix)].rstrip("-") + suffix


def _point(content: files.Json, wish: Wish) -> tuple[str, str]:
    """Write the entrypoint of the study; return the study and its --out."""
    spec = content["spec"]
    entrypoint = lint_job.Entrypoint.of(content)
    if not entrypoint.is_ours:
        raise ManifestError(f"RayJob/{content['metadata']['name']}: /spec/entrypoint is no `modelops-ray run STUDY`")
    _, _, study, *rest = entrypoint.words
    path = wish.study_path or f"{study.rpartition('/')[0]}/{wish.name}.json"
    before = entrypoint.value_of("--out") or ""
    out = wish.run_dir or f"{before.rpartition('/')[0]}/{wish.name}"
    changed = {"--out": out, **wish.options}
    kept = _without(rest, changed)
    options = [word for option, value in changed.items() for word in (option, value)]
    folder = path.rpartition("/")[0]
    options += [word for name in wish.declared for word in ("--include", posixpath.normpath(f"{folder}/{name}"))]
    spec["entrypoint"] = shlex.join(["modelops-ray", "run", path, *options, *kept])
    return path, out


def _without(words: list[str], options: Mapping[str, str]) -> list[str]:
    """The words of a command line without some options and their values."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept


def _storage(others: list[files.Json], sizes: Plan | None, wish: Wish, out: str) -> Iterator[files.Json]:
    """Yield the objects beside the job, with a claim of the study's size, or without one where runs are at a URI."""
    for content in others:
        if content["kind"] == "PersistentVolumeClaim":
            if "://" in out:
                continue
            if sizes is not None:
                content["spec"]["resources"]["requests"]["storage"] = write_bytes(sizes.disk_bytes)
            if wish.shards > 1:
                content["spec"]["accessModes"] = ["ReadWriteMany"]
        yield content


def _shards(content: files.Json, wish: Wish) -> Iterator[files.Json]:
    if "://" in str(wish.run_dir or ""):
        _unmount(content)
    if wish.shards == 1:
        yield content
        return
    for i in range(1, wish.shards + 1):
        shard = copy.deepcopy(content)
        shard["metadata"]["name"] = job_name(wish.name, f"-{i}-of-{wish.shards}")
        shard["spec"]["entrypoint"] += f" --shard {i}/{wish.shards}"
        yield shard


def _unmount(content: files.Json) -> None:
    """Remove claims, their mounts, and variables that point into them from the head: runs are at a URI."""
    pod = content["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    claims = {volume["name"] for volume in pod.get("volumes", []) if "persistentVolumeClaim" in volume}
    ray = pod["containers"][0]
    mounts = [mount for mount in ray.get("volumeMounts", []) if mount["name"] in claims]
    pod["volumes"] = [volume for volume in pod.get("volumes", []) if volume["name"] not in claims]
    ray["volumeMounts"] = [mount for mount in ray.get("volumeMounts", []) if mount not in mounts]
    folders = tuple(mount["mountPath"].rstrip("/") + "/" for mount in mounts)
    ray["env"] = [entry for entry in ray.get("env", []) if not str(entry.get("value", "")).startswith(folders)]


def _header(folder: Path, wish: Wish, sizes: Plan | None, need: Need | None) -> Iterator[str]:
    yield f"{wish.name}, rendered by `modelops-ray kuberay render` from the kustomization {folder.name}."
    if wish.files:
        yield f"The image must hold, by path from the study file: {_some(wish.files, _MOST_LISTED)}"
    if sizes is None or need is None:
        yield "Nothing is known of the model: the sizes are those of the kustomization."
        return
    yield ""
    for tier in sizes.tiers:
        yield f"{tier.name}: {_sum(tier.share)} -> {write_bytes(tier.memory_bytes)}"
        yield f"  {in_words(tier)}" + (f", shared by {wish.shards} shards" if wish.shards > 1 else "")
    uncommitted = write_gib(sizes.uncommitted_bytes)
    yield f"head {write_bytes(sizes.head_bytes)}: {uncommitted} of it for what is not committed yet"
    yield f"spill {write_bytes(sizes.spill_bytes)} a pod, disk for runs {write_bytes(sizes.disk_bytes)}"


def in_words(tier: Tier) -> str:
    """What a tier holds: simulations at a time, and pods."""
    most = "" if tier.max_replicas == 1 else "up to "
    held, pods = count(tier.at_a_time, "simulation"), count(tier.max_replicas, "pod")
    return f"{held} at a time in a pod of {write_bytes(tier.share.limit_bytes)}, {most}{pods}"


def _sum(parts: Share) -> str:
    taken = ((parts.plasma_bytes, "objects"), (parts.system_bytes, "system"), (parts.buffer_bytes, "buffer"))
    terms = "".join(f" - {write_gib(n_bytes)} {what}" for n_bytes, what in taken)
    return f"{write_bytes(parts.limit_bytes)}{terms} = {write_gib(parts.memory_bytes)}"


def _notes(wish: Wish, study: str, out: str) -> Iterator[str]:
    if wish.shards > 1 and "://" not in out:
        yield "the shards share a ReadWriteMany volume; not every storage class has one, and --run-dir URI needs none"
    if wish.study_path is None:
        yield f"the image must hold the study as {study}, with its model beside it; --study-path says where else"
    if wish.files:
        yield f"the image must hold, at the same paths from the study: {_some(wish.files, _MOST_NAMED)}"


def _some(names: tuple[str, ...], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def values(rendered: Rendered) -> dict[str, Any]:
    """What `render --json` prints beside the file; sizes in bytes, None where nothing was known."""
    sizes = rendered.plan
    tiers = [
        {
            "name": tier.name,
            "cpus": tier.cpus,
            "pod_bytes": tier.share.limit_bytes,
            "memory_bytes": tier.memory_bytes,
            "simulations_at_a_time": tier.at_a_time,
            "max_replicas": tier.max_replicas,
        }
        for tier in (sizes.tiers if sizes is not None else ())
    ]
    found = {name: getattr(sizes, name, None) for name in ("head_bytes", "spill_bytes", "disk_bytes")}
    found["wall_seconds"] = getattr(sizes, "seconds", None)
    return {"tiers": tiers or None, **found, "notes": list(rendered.notes)}
