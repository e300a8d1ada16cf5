"""Whether the API server would take an object: Ray's kinds by KubeRay's schema, the kinds of Kubernetes by its client.

Owns types, unknown fields and required ones. What KubeRay's controller refuses afterwards is in `rules`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

import jsonschema

from modelops_ray.cluster.manifests.findings import Problem, pointer

RAY_API = "ray.io/v1"
_CORE = {
    **dict.fromkeys(("ConfigMap", "Namespace", "PersistentVolumeClaim", "Secret", "ServiceAccount"), "v1"),
    **dict.fromkeys(("Role", "RoleBinding"), "rbac.authorization.k8s.io/v1"),
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
}
_RAY_KINDS = ("RayCluster", "RayJob")
_RULES = {
    "additionalProperties": ("unknown-field", "correct or remove it"),
    "enum": ("not-a-choice", "write one of them"),
    "pattern": ("bad-quantity", "write a quantity of Kubernetes, such as 500m, 4Gi"),
    "required": ("missing-field", "add it"),
    "x-kubernetes-list-map-keys": ("listed-twice", "keep one of them"),
}
_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


def problems(content: dict[str, Any]) -> Iterator[Problem]:
    """Everything in an object that the API server would refuse."""
    kind, version = str(content["kind"]), content["apiVersion"]
    wanted = RAY_API if kind in _RAY_KINDS else _CORE.get(kind)
    if wanted is None:
        known = ", ".join(sorted({*_RAY_KINDS, *_CORE}))
        yield Problem("unknown-kind", "/kind", f"{kind} is not known here", f"known are {known}")
    elif version != wanted:
        yield Problem("api-version", "/apiVersion", f"{kind} of {version}", f"write {wanted}")
    elif kind in _RAY_KINDS:
        yield from _model_problems("V1ObjectMeta", content["metadata"], "/metadata")
        for error in sorted(_validator(kind).iter_errors(content), key=lambda error: pointer(error.absolute_path)):
            yield _problem(error)
        if "spec" not in content:
            yield Problem("missing-field", "", "'spec' is missing", "add it")
    else:
        yield from _model_problems(f"V1{kind}", content, "")


def _problem(error: jsonschema.ValidationError) -> Problem:
    path = list(error.absolute_path)
    if error.validator == "type" and len(path) > 1 and path[-2] == "rayStartParams":
        found = f"{path[-1]} is {json.dumps(error.instance)}, no text"
        return Problem("unquoted-start-param", pointer(path), found, f'write it in quotes: "{error.instance}"')
    rule, remedy = _RULES.get(str(error.validator), ("wrong-type", f"it must be {_type_names(error.schema)}"))
    if error.validator == "additionalProperties":
        unknown = sorted(set(error.instance) - set(error.schema["properties"]))
        return Problem(rule, pointer(path), _short(f"{', '.join(map(repr, unknown))} is no field of it"), remedy)
    if error.validator in ("minimum", "maximum", "minLength", "maxLength"):
        rule, remedy = "out-of-range", f"{error.validator} is {error.validator_value}"
    return Problem(rule, pointer(path), _short(error.message), remedy)


def _short(message: str) -> str:
    """The message without the object it is about, where that is long."""
    text = " ".join(message.split())
    return text if len(text) <= 160 else text[:60] + " … " + text[-90:]


def _type_names(schema: Any) -> str:
    wanted = schema.get("type", "of another type") if isinstance(schema, dict) else "absent"
    return " or ".join(wanted) if isinstance(wanted, list) else str(wanted)


@functools.cache
def _validator(kind: str) -> Any:
    text = resources.files("modelops_ray.cluster.manifests").joinpath("schemas/ray-v1.json").read_text("utf-8")
    schemas = json.loads(text)
    strict = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"x-kubernetes-list-map-keys": _no_twins})
    return strict({"$defs": schemas["$defs"], **schemas[kind]})


def _no_twins(_validator: Any, keys: list[str], instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, list):
        return
    seen = set()
    for item in instance:
        key = tuple(str(item.get(name, "")) for name in keys) if isinstance(item, dict) else ()
        if key in seen:
            named = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=False))
            yield jsonschema.ValidationError(f"two entries of {named}")
        seen.add(key)


def _model_problems(model: str, value: Any, place: str) -> Iterator[Problem]:
    from kubernetes import client

    if not isinstance(value, dict):
        yield Problem("wrong-type", place, f"{json.dumps(value)} is no map", f"write the fields of {model} there")
        return
    cls = getattr(client, model)
    names = {json_name: name for name, json_name in cls.attribute_map.items()}
    found: list[Problem] = []
    for key, each in value.items():
        if key in names:
            found += _typed(cls.openapi_types[names[key]], each, place + pointer([key]))
        else:
            found.append(Problem("unknown-field", place, f"{key!r} is no field of it", "correct or remove it"))
    yield from found or _required(cls, {names[key]: each for key, each in value.items()}, place)


def _required(cls: Any, values: dict[str, Any], place: str) -> Iterator[Problem]:
    try:
        cls(**values)
    except ValueError as error:
        name = re.search(r"`(\w+)`", str(error))
        field = cls.attribute_map.get(name[1], name[1]) if name is not None else "a field"
        yield Problem("missing-field", place, f"{field!r} is missing or wrong", "add or correct it")


def _typed(wanted: str, value: Any, place: str) -> Iterator[Problem]:
    if value is None or wanted in ("object", "datetime"):
        return
    inner = re.fullmatch(r"([Ll]ist|[Dd]ict)[\[(](?:str, )?(.+)[\])]", wanted)
    if inner is not None:
        container: Any = list if inner[1].lower() == "list" else dict
        if not isinstance(value, container):
            yield Problem("wrong-type", place, f"{json.dumps(value)} is no {container.__name__}", "correct it")
            return
        entries: Iterable[tuple[object, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in entries:
            yield from _typed(inner[2], each, place + pointer([key]))
    elif wanted in _SCALARS:
        if not isinstance(value, _SCALARS[wanted]) or (wanted != "bool" and isinstance(value, bool)):
            yield Problem("wrong-type", place, f"{json.dumps(value)} is no {wanted}", f"write a {wanted}")
    else:
        yield from _model_problems(wanted, value, place)
