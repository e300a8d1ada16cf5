"""The shipped schemas are KubeRay's, and none of Kubernetes' own kinds slips through."""

import json
import os
from pathlib import Path

import pytest
from support import crds

from modelops_ray.cluster.manifests import schema
from modelops_ray.cluster.manifests.findings import Problem

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def folder():
    """KubeRay's CRDs: `KUBERAY_CRDS`, or beside the checkout."""
    found = Path(os.environ.get("KUBERAY_CRDS", HERE.parent / "shared/kuberay-crds"))
    if not found.is_dir():
        pytest.skip(f"KubeRay's CRDs are not in {found}; KUBERAY_CRDS names their folder")
    return found


def test_the_shipped_schemas_are_made_from_the_crds(folder):
    """`python tests/support/crds.py FOLDER` writes them."""
    assert crds.shipped_text(folder) == crds.SHIPPED.read_text()


def expand(node, definitions):
    """A schema without references."""
    if isinstance(node, dict):
        if "$ref" in node:
            return expand(definitions[node["$ref"].rpartition("/")[2]], definitions)
        return {key: expand(value, definitions) for key, value in node.items()}
    return [expand(each, definitions) for each in node] if isinstance(node, list) else node


def test_joining_common_parts_loses_nothing(folder):
    """With every reference followed, it is the strict schema again."""
    shipped = json.loads(crds.SHIPPED.read_text())
    for kind, original in crds.load(folder).items():
        assert crds.strict(original) == expand(shipped[kind], shipped["$defs"])


@pytest.mark.parametrize("kind", sorted(schema._CORE))
def test_a_kind_of_kubernetes_takes_no_unknown_field(kind):
    """Each of them by the client's own model."""
    content = {"apiVersion": schema._CORE[kind], "kind": kind, "metadata": {"name": "a"}}
    if kind == "RoleBinding":
        content["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}
    assert [] == list(schema.problems(content))
    (problem,) = schema.problems({**content, "metadata": {"name": "a", "lables": {}}})
    assert ("unknown-field", "/metadata") == problem[:2]


def test_a_long_message_is_cut_in_its_middle():
    """The object that it is about is in the file already."""
    content = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "a"}, "spec": {"x" * 500: 1}}
    (problem,) = schema.problems(content)
    assert isinstance(problem, Problem)
    assert len(problem.found) < 180
