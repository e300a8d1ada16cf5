"""The manifests as they ship: right, equal where they must be, and with sums that are true."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from modelops_ray.cluster.manifests import sizing
from modelops_ray.cluster.manifests.check import check
from modelops_ray.cluster.manifests.files import shipped
from modelops_ray.cluster.manifests.kustomize import build
from modelops_ray.cluster.manifests.views import cluster_of
from modelops_ray.cluster.quantity import as_bytes

KUBERAY = Path(__file__).parents[2] / "kuberay"
KUSTOMIZATIONS = [KUBERAY / "base/job", KUBERAY / "base/cluster", *sorted((KUBERAY / "overlays").iterdir())]
SUM = re.compile(r"(\d[\d.]*\wi) - (\S+) objects - (\S+) system .*?- (\S+) buffer .*?= (\S+)")


def clusters():
    """Every cluster of every kustomization."""
    for folder in KUSTOMIZATIONS:
        for resource in build(folder):
            if (found := cluster_of(resource.content)) is not None:
                yield folder.name, found


def test_the_checkout_ships_its_own_folder():
    """What is tested here is what `render` fills in."""
    assert KUBERAY == shipped()


@pytest.mark.parametrize("folder", [KUBERAY, *KUSTOMIZATIONS], ids=lambda folder: folder.name)
def test_every_yaml_file_passes_the_check(folder):
    """Alone and as a whole."""
    checked = check([folder])
    assert [] == [str(finding) for finding in checked.findings]
    assert checked.n_objects >= 7


def test_every_yaml_file_is_part_of_a_kustomization():
    """A file that nothing names is never looked at."""
    text = "".join(path.read_text() for path in KUBERAY.rglob("kustomization.yaml"))
    files = [path for path in KUBERAY.rglob("*.yaml") if path.name != "kustomization.yaml"]
    assert [] == [str(path) for path in files if path.name not in text]


def test_the_cluster_that_stays_is_the_cluster_of_the_job():
    """Both are whole files to read; they say the same."""
    (stays,) = [cluster.spec for name, cluster in clusters() if name == "cluster"]
    (of_job,) = [cluster.spec for name, cluster in clusters() if name == "job"]
    assert of_job == stays


def test_the_version_of_ray_is_the_one_that_is_installed():
    """What was tested is what the pods run."""
    assert {version("ray")} == {cluster.spec["rayVersion"] for _, cluster in clusters()}


@pytest.mark.parametrize(("name", "cluster"), list(clusters()), ids=lambda each: each if isinstance(each, str) else "")
def test_every_group_promises_what_the_formula_gives(name, cluster):
    """Not a rounding more, and nothing is left lying."""
    for group in cluster.workers:
        assert group.memory_bytes == sizing.promised_bytes(group.limit_bytes, group.plasma_bytes, group.threshold)


def sums():
    """Every sum that stands in a comment."""
    for path in sorted(KUBERAY.rglob("*.yaml")):
        for match in SUM.finditer(path.read_text()):
            yield str(path.relative_to(KUBERAY)), [as_bytes(text) for text in match.groups()]


@pytest.mark.parametrize(("file", "terms"), list(sums()))
def test_the_sum_in_a_comment_is_true(file, terms):
    """To a tenth of a GiB, as it is written."""
    limit, plasma, system, buffer, result = terms
    parts = sizing.share(limit, plasma, 0.95)
    assert [system, buffer, result] == [pytest.approx(part, abs=0.06 * 2**30) for part in parts[2:]]
    assert limit - plasma - system - buffer == pytest.approx(result, abs=0.06 * 2**30)


def test_there_is_a_sum_for_every_size_of_pod():
    """Two in each base, one in each overlay with sizes of its own."""
    assert 6 == len(list(sums()))


HEAD_SUM = re.compile(
    r"# (\S+) objects \+ (\S+) Ray's control store and dashboard \+ (\S+) driver\n"
    r" *# \+ (\S+) outputs that are not committed yet.* = ([\d.]+\wi)"
)


@pytest.mark.parametrize(("name", "file"), [("job", "base/job/rayjob.yaml"), ("kind", "overlays/kind/sizes.yaml")])
def test_the_sum_of_a_head_is_true_and_within_its_limit(name, file):
    """Objects, control store, driver, and 64 MiB of outputs for each pod there may be."""
    terms = [as_bytes(text) for text in HEAD_SUM.search((KUBERAY / file).read_text()).groups()]
    (cluster,) = [cluster for each, cluster in clusters() if each == name]
    assert sum(terms[:-1]) == terms[-1] <= cluster.head.limit_bytes
    assert (cluster.head.plasma_bytes, sizing.uncommitted_bytes(cluster.n_pods)) == (terms[0], terms[3])


def test_the_image_is_made_of_the_ray_that_the_manifests_name():
    """A head and a driver of two versions refuse each other."""
    assert f"FROM rayproject/ray:{version('ray')}-" in (KUBERAY / "Dockerfile").read_text()
