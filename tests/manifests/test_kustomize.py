"""Kustomizations come out as real kustomize makes them, and what is not supported is refused by name.

`kustomization/expected.yaml` was written by kustomize's own library.
"""

from pathlib import Path

import pytest
import yaml

from modelops_ray.cluster.manifests.kustomize import build
from modelops_ray.errors import ManifestError

FOLDER = Path(__file__).parent / "kustomization"
HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
CLAIM = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: runs}, spec: {accessModes: [ReadWriteOnce]}}"


def by_name(contents):
    """Objects in an order of their own."""
    return sorted(contents, key=lambda content: (content["kind"], content["metadata"]["name"]))


def test_an_overlay_comes_out_as_kustomize_makes_it():
    """Resources, components, both kinds of patches, namespace, labels, images."""
    expected = list(yaml.safe_load_all((FOLDER / "expected.yaml").read_text()))
    assert by_name(expected) == by_name(resource.content for resource in build(FOLDER / "overlay"))


def refusal(folder, text):
    """What a kustomization of one claim is refused with."""
    (folder / "claim.yaml").write_text(CLAIM)
    (folder / "kustomization.yaml").write_text(HEAD + text)
    with pytest.raises(ManifestError) as caught:
        build(folder)
    return caught.value.rule, str(caught.value).replace(f"{folder}/", "")


def patch(text, target="target: {kind: PersistentVolumeClaim}"):
    """A kustomization of one claim with one patch."""
    lines = "\n".join(f"      {line}" for line in text.splitlines())
    return f"resources: [claim.yaml]\npatches:\n  - {target or 'target: null'}\n    patch: |-\n{lines}\n"


def test_a_field_that_is_not_supported_is_refused_and_not_left_out(tmp_path):
    """Leaving it out would check other objects than kustomize applies."""
    message = "kustomization.yaml: /namePrefix: this is not supported here"
    assert ("kustomization", message) == refusal(tmp_path, "resources: [claim.yaml]\nnamePrefix: a-\n")


@pytest.mark.parametrize(
    ("text", "rule", "says"),
    [
        ("resources: [nothing.yaml]", "unreadable", "nothing.yaml: it cannot be read: No such file"),
        ("resources: [claim.yaml, claim.yaml]", "kustomization", "PersistentVolumeClaim/runs comes in twice"),
        ("resources: [../kustomization.yaml]", "kustomization", "kustomize reads no file outside its folder"),
        ("resources: [../{name}]", "kustomization", "lead back to it"),
        ("components: [../{name}]", "kustomization", "/kind: a Kustomization where a Component is wanted"),
        (patch("- {op: remove, path: /spec/nothing}"), "patch", "/patches/0: can't remove a non-existent object"),
        (patch("- {op: jump, path: /spec}"), "patch", "/patches/0: "),
        (
            patch("- {op: remove, path: /spec}", "target: {kind: RayJob}"),
            "patch",
            "fits no object of the kustomization",
        ),
        (patch("- {op: remove, path: /spec}", ""), "patch", "fits no object of the kustomization"),
        (patch("{spec: {accessModes: [ReadWriteMany]}}"), "patch", "accessModes: lists of this kind merge by key"),
        (patch("{spec: {$retainKeys: []}}"), "patch", "$retainKeys is not supported here"),
        (patch("text"), "patch", "a patch is one map or one list of operations"),
    ],
)
def test_what_kustomize_would_not_do_either_gets_one_line(tmp_path, text, rule, says):
    """Names the kustomization and the place in it."""
    found, message = refusal(tmp_path, text.replace("{name}", tmp_path.name))
    assert rule == found
    assert says in message
