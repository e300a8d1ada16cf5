"""`kuberay check`: files and kustomizations to findings, without a cluster.

Owns the order: what cannot be read, what the API server refuses, what KubeRay's controller refuses, pitfalls, growth.
An object that fails at one stage is not looked at by the later ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelops_ray.cluster.manifests import autoscaler, kustomize, lint, lint_job, rules, schema, sizing, views
from modelops_ray.cluster.manifests.files import KUSTOMIZATION, YAML_ENDINGS, Resource, read, resources, without_nulls
from modelops_ray.cluster.manifests.findings import Finding, Problem
from modelops_ray.cluster.manifests.growth import Outlook, outlook
from modelops_ray.errors import ManifestError, UsageError

_STDIN = Path("/dev/stdin")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: how much it looked at, what is wrong, how clusters grow for the study."""

    n_bundles: int
    n_objects: int
    findings: tuple[Finding, ...]
    growth: tuple[tuple[str, Outlook], ...] = ()


def check(paths: Sequence[Path], need: sizing.Need | None = None) -> Checked:
    """Check files, kustomizations and folders of them (`-` is what is piped in), and how clusters grow for `need`.

    UsageError where a path does not exist, or holds no manifest.
    """
    findings: list[Finding] = []
    growth: list[tuple[str, Outlook]] = []
    n_bundles = n_objects = 0
    for source in _sources(paths):
        n_bundles += 1
        try:
            bundle = kustomize.build(source) if source.is_dir() else resources(read(source), str(source))
        except ManifestError as error:
            place, _, found = str(error).partition(": ")
            findings.append(Finding(error.rule, place, "", "", found, ""))
            continue
        n_objects += len(bundle)
        wrong = check_bundle(str(source), bundle)
        findings += wrong
        if need is None or wrong:
            continue
        for resource in _pruned(bundle):
            cluster = views.cluster_of(resource.content)
            if cluster is not None:
                seen = outlook(cluster, lint_job.need_of_job(resource.content, need), autoscaler.grow)
                growth.append((f"{source}: {resource}", seen))
                findings += [Finding.of(problem, str(source), str(resource)) for problem in seen.problems]
    return Checked(n_bundles, n_objects, tuple(findings), tuple(growth))


def check_bundle(source: str, bundle: Iterable[Resource]) -> list[Finding]:
    """Everything wrong in the objects of a file or a kustomization, which belong together; growth aside."""
    found = _pruned(bundle)
    wrong = [(resource, problem) for resource in found for problem in _first_problems(resource)]
    pairs = wrong or lint_job.bundle_problems(found)
    return [Finding.of(problem, source, str(resource)) for resource, problem in pairs]


def _pruned(found: Iterable[Resource]) -> list[Resource]:
    return [Resource(resource.source, without_nulls(resource.content)) for resource in found]


def _first_problems(resource: Resource) -> list[Problem]:
    content = resource.content
    if found := list(schema.problems(content)):
        return found
    if not resource.kind.startswith("Ray"):
        return []
    if found := list(rules.problems(content)):
        return found
    cluster = views.cluster_of(content)
    found = list(lint_job.job_problems(content)) if resource.kind == "RayJob" else []
    if cluster is not None:
        found += lint.problems(cluster, autoscaler.start_flags())
        if not found:
            # What Ray's autoscaler cannot read would end its every loop.
            try:
                autoscaler.node_types(cluster)
            except ManifestError as error:
                found = [Problem(error.rule, cluster.at(), f"Ray's autoscaler: {error}", "correct it")]
    return found


def _sources(paths: Sequence[Path]) -> Iterator[Path]:
    for given in paths:
        path = _STDIN if str(given) == "-" else given
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        found = list(_below(path, is_given=True))
        if not found:
            raise UsageError(f"{path}: there is no manifest in it; give files ending in {' or '.join(YAML_ENDINGS)}")
        yield from found


def _below(path: Path, *, is_given: bool = False) -> Iterator[Path]:
    """Kustomizations, and files that are part of none; a component is part of the kustomization that names it."""
    if not path.is_dir():
        if path.name == KUSTOMIZATION:
            yield path.parent
        elif is_given or path.suffix in YAML_ENDINGS:
            yield path
    elif (path / KUSTOMIZATION).is_file():
        if is_given or not _is_component(path):
            yield path
    else:
        for entry in _entries(path):
            if not entry.name.startswith("."):
                yield from _below(entry)


def _is_component(folder: Path) -> bool:
    try:
        return kustomize.is_component(folder)
    except ManifestError:
        return False  # the error is reported when the folder is loaded


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: it cannot be read: {error.strerror}") from error
