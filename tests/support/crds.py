"""Turns KubeRay's CRDs into the strict JSON schemas that the package ships: `python tests/support/crds.py FOLDER`.

Strict as the API server's field validation: no unknown keys, integers or text only where a quantity may be either.
What has a default is not required. Subtrees that occur more than once become definitions, which makes it a tenth.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

KEPT = ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "x-kubernetes-list-map-keys")
SHIPPED = Path(__file__).parents[2] / "modelops_ray/cluster/manifests/schemas/ray-v1.json"
WORTH_NAMING_CHARS = 120


def shipped_text(folder: Path) -> str:
    """What the package ships, made from a folder of CRDs."""
    return (
        json.dumps(compact({kind: strict(schema) for kind, schema in load(folder).items()}), separators=(",", ":"))
        + "\n"
    )


def load(folder: Path) -> dict[str, Any]:
    """The v1 schema of every kind."""
    found = {}
    for name in ("rayclusters", "rayjobs"):
        crd = yaml.load(
            (folder / f"ray.io_{name}.yaml").read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
        found[crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    return found


def strict(node: dict[str, Any]) -> dict[str, Any]:
    """One schema, and all below it, as a JSON schema that takes nothing it does not know."""
    result = {key: node[key] for key in KEPT if key in node}
    if node.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if node.get("nullable"):
        result["type"] = [result["type"], "null"]
    if "items" in node:
        result["items"] = strict(node["items"])
    if "properties" in node:
        result["properties"] = {key: strict(value) for key, value in node["properties"].items()}
        result["additionalProperties"] = False
        required = [key for key in node.get("required", ()) if "default" not in node["properties"][key]]
        if required:
            result["required"] = required
    elif isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = strict(node["additionalProperties"])
    return result


def compact(schemas: dict[str, Any]) -> dict[str, Any]:
    """The same schemas with what they have in common as definitions."""
    counts: Counter[str] = Counter()
    for schema in schemas.values():
        for node in nodes(schema):
            counts[text_of(node)] += 1
    names = {
        text: f"d{i}" for i, text in enumerate(t for t, n in counts.items() if n > 1 and len(t) > WORTH_NAMING_CHARS)
    }
    definitions = {name: shorten(json.loads(text), names) for text, name in names.items()}
    return {"$defs": definitions, **{kind: shorten(schema, names) for kind, schema in schemas.items()}}


def text_of(node: dict[str, Any]) -> str:
    """A schema as text, by which equal ones are known."""
    return json.dumps(node, separators=(",", ":"))


def nodes(node: dict[str, Any]) -> Any:
    """Every schema below one, and itself."""
    yield node
    for child in children(node):
        yield from nodes(child)


def children(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas directly below one."""
    below = list(node.get("properties", {}).values())
    below += [node[key] for key in ("items", "additionalProperties") if isinstance(node.get(key), dict)]
    return below


def shorten(node: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """One schema with every named one below it replaced by a reference."""

    def short(child: dict[str, Any]) -> dict[str, Any]:
        name = names.get(text_of(child))
        return {"$ref": f"#/$defs/{name}"} if name else shorten(child, names)

    result = dict(node)
    if "properties" in node:
        result["properties"] = {key: short(value) for key, value in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = short(node[key])
    return result


if __name__ == "__main__":
    SHIPPED.write_text(shipped_text(Path(sys.argv[1])), "utf-8")
