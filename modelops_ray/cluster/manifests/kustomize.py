"""What `kustomize build` makes of a folder, for the part of kustomize that the shipped manifests use.

Owns resources, components, patches (JSON 6902, and strategic merges of maps), namespace, labels and images. Anything
else in a kustomization is refused by name rather than left out. Ray's kinds have no merge keys in kustomize either, so
a list in a strategic merge replaces the one that is there.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jsonpatch
import jsonpointer
from pydantic import BaseModel, ConfigDict, ValidationError

from modelops_ray.cluster.manifests.files import KUSTOMIZATION, Json, Resource, parse, read, resources
from modelops_ray.errors import ManifestError

_RAY_GROUP = "ray.io/"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Target(_Strict):
    """Which objects a patch is for; every field is a regular expression, as in kustomize."""

    group: str = ""
    version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""

    def matches(self, content: Json) -> bool:
        group, _, version = content["apiVersion"].rpartition("/")
        metadata = content["metadata"]
        pairs = (
            (self.group, group), (self.version, version), (self.kind, content["kind"]),
            (self.name, metadata["name"]), (self.namespace, metadata.get("namespace", "")),
        )  # fmt: skip
        return all(not wanted or re.fullmatch(wanted, value) for wanted, value in pairs)


class _Patch(_Strict):
    target: _Target | None = None
    path: str | None = None
    patch: str | None = None


class _Labels(_Strict):
    pairs: dict[str, str]
    includeSelectors: Literal[False] = False  # noqa: N815 (kustomize's)
    includeTemplates: Literal[False] = False  # noqa: N815 (kustomize's)


class _Image(_Strict):
    name: str
    newName: str | None = None  # noqa: N815 (kustomize's)
    newTag: str | None = None  # noqa: N815 (kustomize's)
    digest: str | None = None


class _Kustomization(_Strict):
    apiVersion: str  # noqa: N815 (kustomize's)
    kind: Literal["Kustomization", "Component"]
    resources: list[str] = []
    components: list[str] = []
    patches: list[_Patch] = []
    namespace: str | None = None
    labels: list[_Labels] = []
    images: list[_Image] = []


def build(folder: Path) -> list[Resource]:
    """Resolve a kustomization.

    ManifestError where it uses what is not supported here, a file does not exist, or a patch fits nothing.
    """
    try:
        contents = _build(folder, [], "Kustomization")
    except RecursionError:
        raise _wrong(folder, "its resources or components lead back to it") from None
    return [Resource(str(folder), content) for content in contents]


def _wrong(folder: Path, found: str) -> ManifestError:
    return ManifestError(f"{folder / KUSTOMIZATION}: {found}", "kustomization")


def is_component(folder: Path) -> bool:
    """Whether a folder's kustomization is a component, which is nothing by itself."""
    return _load(folder).kind == "Component"


def _load(folder: Path) -> _Kustomization:
    documents = read(folder / KUSTOMIZATION)
    try:
        return _Kustomization.model_validate(documents[0] if documents else {})
    except ValidationError as error:
        problem = error.errors()[0]
        place = "/".join(map(str, problem["loc"]))
        what = "this is not supported here" if problem["type"] == "extra_forbidden" else problem["msg"]
        raise _wrong(folder, f"/{place}: {what}") from error


def _build(folder: Path, inherited: list[Json], kind: str) -> list[Json]:
    wanted = _load(folder)
    if wanted.kind == "Component" != kind:
        raise _wrong(folder, "a component is nothing by itself; give an overlay that names it")
    if wanted.kind != kind:
        raise _wrong(folder, f"/kind: a {wanted.kind} where a {kind} is wanted")
    contents = [*inherited, *(content for entry in wanted.resources for content in _resource(folder, entry))]
    for entry in wanted.components:
        contents = _build(_joined(folder, entry), contents, "Component")
    for number, patch in enumerate(wanted.patches):
        contents = list(_patched(contents, folder, f"/patches/{number}", patch))
    if wanted.namespace is not None:
        _move(contents, wanted.namespace)
    for content in contents:
        for labels in wanted.labels:
            content["metadata"].setdefault("labels", {}).update(labels.pairs)
        for image in wanted.images:
            _rename(content, image)
    return _without_twins(contents, folder)


def _resource(folder: Path, entry: str) -> list[Json]:
    path = _joined(folder, entry)
    if path.is_dir():
        return _build(path, [], "Kustomization")
    _refuse_outside(folder, path)
    return [resource.content for resource in resources(read(path), str(path))]


def _joined(folder: Path, entry: str) -> Path:
    """The path without its `..`, so that it does not grow without end where folders name each other."""
    return Path(os.path.normpath(folder / entry))


def _refuse_outside(folder: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _wrong(folder, f"kustomize reads no file outside its folder: {path}")


def _without_twins(contents: list[Json], folder: Path) -> list[Json]:
    seen = set()
    for content in contents:
        key = content["apiVersion"], content["kind"], content["metadata"].get("namespace"), content["metadata"]["name"]
        if key in seen:
            raise _wrong(folder, f"{key[1]}/{key[3]} comes in twice")
        seen.add(key)
    return contents


def _patched(contents: list[Json], folder: Path, place: str, entry: _Patch) -> Iterator[Json]:
    where = f"{folder / KUSTOMIZATION}: {place}"
    if entry.path is not None:
        _refuse_outside(folder, folder / entry.path)
        where = str(folder / entry.path)
        documents = read(folder / entry.path)
    else:
        documents = parse(entry.patch or "", where)
    change = documents[0] if len(documents) == 1 else None
    if not isinstance(change, (dict, list)):
        raise ManifestError(f"{where}: a patch is one map or one list of operations", "patch")
    n_matched = 0
    for content in contents:
        if not _is_meant(content, entry.target, change):
            yield content
            continue
        n_matched += 1
        if isinstance(change, list):
            yield _operate(content, change, where)
        elif change.get("$patch") != "delete":
            merged = _merge(content, change, where, is_ray=content["apiVersion"].startswith(_RAY_GROUP))
            identity = {"kind": content["kind"], "apiVersion": content["apiVersion"]}
            yield {**merged, **identity, "metadata": {**merged["metadata"], "name": content["metadata"]["name"]}}
    if not n_matched:
        raise ManifestError(f"{where}: the patch fits no object of the kustomization", "patch")


def _is_meant(content: Json, target: _Target | None, change: Json | list[Any]) -> bool:
    if target is not None:
        return target.matches(content)
    if isinstance(change, list):
        return False
    wanted, metadata = change.get("metadata", {}), content["metadata"]
    return (
        all(change.get(key) == content[key] for key in ("apiVersion", "kind"))
        and wanted.get("name") == metadata["name"]
        and wanted.get("namespace") in (None, metadata.get("namespace"))
    )


def _operate(content: Json, operations: list[Any], where: str) -> Json:
    try:
        changed: Json = jsonpatch.JsonPatch(operations).apply(content)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise ManifestError(f"{where}: {error}", "patch") from error
    return changed


def _merge(content: Any, change: Json, where: str, *, is_ray: bool) -> Json:
    merged = dict(content) if isinstance(content, dict) else {}
    for key, value in change.items():
        if key.startswith("$"):
            raise ManifestError(f"{where}: {key} is not supported here; write a JSON 6902 patch", "patch")
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge(merged.get(key), value, where, is_ray=is_ray)
        elif isinstance(value, list) and not is_ray:
            raise ManifestError(f"{where}: {key}: lists of this kind merge by key; write a JSON 6902 patch", "patch")
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _move(contents: list[Json], namespace: str) -> None:
    accounts = {_key(content["metadata"]) for content in contents if content["kind"] == "ServiceAccount"}
    for content in contents:
        if content["kind"] == "Namespace":
            content["metadata"]["name"] = namespace
        elif not content["kind"].startswith("Cluster"):
            content["metadata"]["namespace"] = namespace
        for subject in content.get("subjects", []):
            if subject["kind"] == "ServiceAccount" and (subject["name"] == "default" or _key(subject) in accounts):
                subject["namespace"] = namespace


def _key(metadata: Json) -> tuple[str, str | None]:
    return metadata["name"], metadata.get("namespace")


def _rename(node: Any, image: _Image) -> None:
    """Give every container of this image its new name, as kustomize does in kinds it does not know."""
    for each in node if isinstance(node, list) else ():
        _rename(each, image)
    for key, value in node.items() if isinstance(node, dict) else ():
        for container in value if key in ("containers", "initContainers") and isinstance(value, list) else ():
            if isinstance(container, dict) and isinstance(container.get("image"), str):
                container["image"] = _renamed(container["image"], image)
        _rename(value, image)


def _renamed(text: str, image: _Image) -> str:
    match = re.fullmatch(r"(.+?)(:[^:/@]+)?(@.+)?", text)
    if match is None or match[1] != image.name:
        return text
    name = image.newName or match[1]
    if image.digest is not None:
        return f"{name}@{image.digest}"
    if image.newTag is not None:
        return f"{name}:{image.newTag}"
    return name + (match[2] or "") + (match[3] or "")
