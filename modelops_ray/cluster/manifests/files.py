"""Kubernetes manifests as files: found, read, written, and taken apart into objects.

Owns YAML and where the shipped manifests are. `kustomize` resolves kustomizations; `check` judges what is in them.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelops_ray.errors import ManifestError, UsageError, one_line
from modelops_ray.study.document import open_file

Json = dict[str, Any]

KUSTOMIZATION = "kustomization.yaml"
DEEPEST = 100
MOST_VALUES = 200_000
MOST_CHARS = 16 * 2**20
_SHOWN_CHARS = 60
YAML_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Resource:
    """One Kubernetes object, and the file or kustomization it came from."""

    source: str
    content: Json

    @property
    def kind(self) -> str:
        """Its kind, "" where it has none."""
        return str(self.content.get("kind", ""))

    @property
    def name(self) -> str:
        """Its name, "" where it has none."""
        metadata = self.content.get("metadata")
        return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes takes it: what JSON has, dates as texts, keys as texts.

    Refuses a key that stands twice, of which YAML would silently keep the last.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (yaml's)
        seen: set[Any] = set()
        # A list or a text that is tagged as a mapping is refused by YAML's own construction below.
        pairs: Any = node.value if node.id == "mapping" else ()
        for key, _ in pairs:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                found = f"the key {key.value!r} stands twice; YAML would keep the last"
                raise ManifestError(f"line {key.start_mark.line + 1}: {found}", "duplicate-key")
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return {self._key(key, node): value for key, value in mapping.items()}

    def _key(self, key: object, node: yaml.Node) -> str:
        if not isinstance(key, str | int | float):
            found = f"the key {one_line(repr(key), _SHOWN_CHARS)} is no text"
            raise ManifestError(f"line {node.start_mark.line + 1}: {found}; write it in quotes")
        return str(key).lower() if isinstance(key, bool) else str(key)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (yaml's)
        """Make the value of a node; a text that its tag does not fit, or Python cannot hold, is refused with its line.

        YAML's constructors raise what their parsing happens to raise: KeyError for `!!bool x`.
        """
        try:
            value = super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
            shown = one_line(node.value if isinstance(node, yaml.ScalarNode) else "", _SHOWN_CHARS)
            line = node.start_mark.line + 1
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            raise ManifestError(f"line {line}: a value that cannot be read: {shown!r} is no {kind}") from error
        if not isinstance(value, str | int | float | list | dict | None):
            kind = type(value).__name__
            raise ManifestError(f"line {node.start_mark.line + 1}: a {kind}, which JSON does not have; write a text")
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in each if not tag.endswith(":timestamp")]
    for first, each in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str, source: str) -> list[Any]:
    """Read every document of a YAML text that is not empty.

    ManifestError, which names `source`, where it is no YAML, has a key twice, or is larger than any manifest.
    """
    try:
        _require_bounded(text)
        return [document for document in yaml.load_all(text, _Loader) if document is not None]
    except ManifestError as error:
        raise ManifestError(f"{source}: {error}", error.rule) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise ManifestError(f"{source}: line {line}: it is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{source}: it is no YAML: {error}") from error


def _require_bounded(text: str) -> None:
    """Count what a text holds once its aliases are written out, before anything is made of it.

    A few lines of aliases of aliases take more than any memory, and what is nested too deeply ends the interpreter.
    """
    sizes: dict[str | None, int] = {}
    nested: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        match event:
            case yaml.AliasEvent():
                # An alias within its own anchor has no end.
                total += sizes.get(event.anchor, MOST_VALUES + 1)
            case yaml.ScalarEvent():
                total += 1
                sizes[event.anchor] = 1
            case yaml.CollectionStartEvent():
                nested.append((event.anchor, total))
                total += 1
            case yaml.CollectionEndEvent():
                anchor, before = nested.pop()
                sizes[anchor] = total - before
        if len(nested) > DEEPEST or total > MOST_VALUES:
            what = f"more than {DEEPEST} levels deep" if len(nested) > DEEPEST else f"more than {MOST_VALUES:,} values"
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise ManifestError(f"line {line}: {what}, which no manifest is")


def parse_one(text: str, source: str) -> Any:
    """Read one YAML value, None where there is none; errors as `parse`."""
    documents = parse(text, source)
    return documents[0] if documents else None


def read(path: Path) -> list[Any]:
    """Read every document of a YAML file; ManifestError where it cannot be read or is no YAML."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
            text = file.read(MOST_CHARS + 1)
    except OSError as error:
        raise ManifestError(f"{path}: it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: it is not UTF-8 at byte {error.start}") from error
    if len(text) > MOST_CHARS:
        raise ManifestError(f"{path}: it has more than {MOST_CHARS:,} characters, which no manifest has")
    return parse(text, str(path))


def resources(documents: list[Any], source: str) -> list[Resource]:
    """Take documents for Kubernetes objects, and a `List` for its items; ManifestError where a document is none."""
    return [Resource(source, content) for content in _objects(documents, source)]


def _objects(documents: list[Any], source: str) -> Iterator[Json]:
    for number, document in enumerate(documents, 1):
        place = f"{source}: document {number}"
        if not isinstance(document, dict) or not {"apiVersion", "kind"} <= document.keys():
            raise ManifestError(f"{place}: it has no apiVersion and kind; it is no Kubernetes object")
        _require_texts(document, place)
        if document["kind"] == "List":
            yield from _objects(document.get("items") or [], source)
        elif not Resource(source, document).name:
            raise ManifestError(f"{place}: /metadata/name: a {document['kind']} needs a name")
        else:
            yield document


def _require_texts(document: Json, place: str) -> None:
    """Make sure that what an object is told from others by is text: all that reads manifests compares it."""
    metadata = document.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    names = {f"/{name}": document[name] for name in ("apiVersion", "kind")}
    names |= {f"/metadata/{name}": named[name] for name in ("name", "namespace") if named.get(name) is not None}
    for pointer, value in names.items():
        if not isinstance(value, str):
            raise ManifestError(f"{place}: {pointer}: found {one_line(repr(value), _SHOWN_CHARS)}; it must be a text")


def without_nulls(value: Any) -> Any:
    """What is left of a value once the API server has dropped what is null."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def write(contents: list[Json], header: str = "") -> str:
    """Write objects as YAML, in the order of their keys; every line of `header` becomes a comment above them."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return comment + yaml.dump_all(contents, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


class _Dumper(yaml.CSafeDumper):
    """Plain YAML: no anchors, texts of several lines as blocks."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def shipped() -> Path:
    """The folder of the manifests that come with the program: in an installed wheel, else in the checkout."""
    installed = Path(__file__).parent / "kuberay"
    checkout = Path(__file__).parents[3] / "kuberay"
    for folder in (installed, checkout):
        if (folder / "base").is_dir():
            return folder
    raise ManifestError(f"{installed}: the manifests are not there; install modelops-ray again")


def overlay_folder(overlay: str | None) -> Path:
    """The kustomization of a shipped overlay or of a folder, the base for None; UsageError if there is none."""
    if overlay is None:
        return shipped() / "base" / "job"
    named, own = shipped() / "overlays" / overlay, Path(overlay)
    for folder in (named, own):
        if (folder / KUSTOMIZATION).is_file():
            return folder
    names = ", ".join(sorted(folder.name for folder in (shipped() / "overlays").iterdir()))
    raise UsageError(
        f"--overlay {overlay}: no overlay of that name, nor a folder with a {KUSTOMIZATION}; there are {names}"
    )
