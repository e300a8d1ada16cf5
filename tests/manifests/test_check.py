"""What `check` takes, refuses and says, beside the single rules; no input makes it crash."""

import copy
import functools
import json
from pathlib import Path

import hypothesis.strategies as st
import jsonpatch
import jsonpointer
import pytest
from hypothesis import given, settings

from modelops_ray.cluster.manifests.check import check, check_bundle
from modelops_ray.cluster.manifests.files import Resource
from modelops_ray.cluster.manifests.findings import pointer
from modelops_ray.cluster.manifests.kustomize import build
from modelops_ray.errors import UsageError

BASE = Path(__file__).parents[2] / "kuberay/base/job"


@functools.cache
def base():
    """The base, resolved once."""
    return build(BASE)


def places(value, path=()):
    """A pointer to everything in a value."""
    if path:
        yield pointer(path)
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield from places(each, (*path, key))


@st.composite
def damages(draw):
    """One object of the base, and an operation on something in it."""
    kept = {"/kind", "/apiVersion", "/metadata", "/metadata/name"}
    number, place = draw(
        st.sampled_from([(i, at) for i, each in enumerate(base()) for at in places(each.content) if at not in kept])
    )
    if draw(st.booleans()):
        return number, {"op": "remove", "path": place}
    value = draw(st.sampled_from([None, "", "x", 0, -1, 7, True, [], {}, [None], [{}], {"x": None}, "1e3", "\u00e4"]))
    return number, {"op": "replace", "path": place, "value": value}


@settings(max_examples=150, deadline=None)
@given(damages())
def test_nothing_that_may_stand_in_a_manifest_makes_the_check_crash(damage):
    """Findings are values: with anything removed or replaced, there are some or none."""
    number, operation = damage
    contents = [copy.deepcopy(resource.content) for resource in base()]
    contents[number] = jsonpatch.apply_patch(contents[number], [operation])
    bundle = [Resource("damaged.yaml", content) for content in contents]
    for finding in check_bundle("damaged.yaml", bundle):
        assert "\n" not in str(finding)
        if finding.place:
            jsonpointer.JsonPointer(finding.place)


def broken(folder, text, name="file.yaml"):
    """Check one file; the lines it gets."""
    path = folder / name
    path.write_text(text)
    return [str(finding).replace(f"{folder}/", "") for finding in check([path]).findings]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [\n", "file.yaml: line 2: it is no YAML: did not find expected node content [unreadable]"),
        ("a: 1\nb: 2\na: 3\n", "file.yaml: line 3: the key 'a' stands twice; YAML would keep the last [duplicate-key]"),
        ("a: !!set {b}\n", "file.yaml: line 1: a set, which JSON does not have; write a text [unreadable]"),
        ("a: 1\n? ~\n: 2\n", "file.yaml: line 1: the key None is no text; write it in quotes [unreadable]"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: 2001-01-01\n",
            "file.yaml: document 1: /metadata/name: a Secret needs a name [unreadable]",
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: 2001-01-01}",
            'file.yaml: Secret/a /data: "2001-01-01" is no dict; correct it [wrong-type]',
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, 1: 2}",
            "file.yaml: Secret/a: '1' is no field of it; correct or remove it [unknown-field]",
        ),
        ("a: 1\n", "file.yaml: document 1: it has no apiVersion and kind; it is no Kubernetes object [unreadable]"),
        ("{apiVersion: v1, kind: Secret}", "file.yaml: document 1: /metadata/name: a Secret needs a name [unreadable]"),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, datum: {}}",
            "file.yaml: Secret/a: 'datum' is no field of it; correct or remove it [unknown-field]",
        ),
    ],
)
def test_a_file_that_is_no_manifest_gets_one_line_with_its_place(tmp_path, text, line):
    """Names the file, the line or pointer, what was found and the remedy."""
    assert [line] == broken(tmp_path, text)


def test_a_file_that_is_not_text_is_named(tmp_path):
    """Not every file in a folder is what its ending says."""
    path = tmp_path / "image.yaml"
    path.write_bytes(b"a\xff")
    (finding,) = check([path]).findings
    assert f"{path}: it is not UTF-8 at byte 1 [unreadable]" == str(finding)


def test_a_list_is_what_it_lists(tmp_path):
    """`kubectl get -o yaml` writes one."""
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in "ab"]
    path = tmp_path / "list.yaml"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    checked = check([path])
    assert (2, ()) == (checked.n_objects, checked.findings)


def test_a_folder_is_its_kustomizations_and_the_files_that_are_part_of_none(tmp_path):
    """Components and the files of kustomizations are looked at where they are used."""
    plain = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"
    (tmp_path / "plain.yaml").write_text(plain)
    (tmp_path / "README.md").write_text("not YAML: [")
    for name, kind in (("overlay", "Kustomization"), ("part", "Component")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(
            f"{{apiVersion: kustomize.config.k8s.io/v1beta1, kind: {kind}, resources: [a.yaml]}}"
        )
        (tmp_path / name / "a.yaml").write_text(plain)
    checked = check([tmp_path])
    assert (2, 2, ()) == (checked.n_bundles, checked.n_objects, checked.findings)


def test_a_broken_kustomization_does_not_hide_what_is_wrong_elsewhere(tmp_path):
    """Every one of a folder is looked at."""
    for name, text in (("a", "kind: ["), ("b", "{apiVersion: a, kind: Kustomization, resources: [nothing.yaml]}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(text)
    assert 2 == len(check([tmp_path]).findings)


def test_a_component_alone_is_told_apart_from_an_overlay():
    """It has nothing to patch."""
    (finding,) = check([BASE.parents[1] / "components/spill"]).findings
    assert "a component is nothing by itself; give an overlay that names it" == finding.found


def test_a_path_that_is_not_there_or_holds_nothing_is_a_wrong_argument(tmp_path):
    """An empty answer would look like a good one."""
    with pytest.raises(UsageError, match="no such file"):
        check([tmp_path / "nothing"])
    with pytest.raises(UsageError, match="there is no manifest in it"):
        check([tmp_path])
