"""What `render` makes of random plans passes the check, and says what it was asked to say."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from modelops_ray.cluster.manifests import sizing
from modelops_ray.cluster.manifests.autoscaler import grow
from modelops_ray.cluster.manifests.check import check_bundle
from modelops_ray.cluster.manifests.files import overlay_folder, parse, resources
from modelops_ray.cluster.manifests.growth import outlook
from modelops_ray.cluster.manifests.lint_job import need_of_job
from modelops_ray.cluster.manifests.render import Wish, job_name, render
from modelops_ray.cluster.manifests.sizing import GIB, MIB, Need
from modelops_ray.cluster.manifests.views import cluster_of
from modelops_ray.errors import ManifestError, UsageError

OVERLAYS = [None, "azure", "incident", "isolation", "kind", "spill", "token"]


@st.composite
def needs(draw):
    """Studies from ten simulations to a million, of 1 MiB to 200 GiB each, with outliers or without."""
    sizes = st.floats(0, math.log2(200 * 1024)).map(lambda power: int(MIB * 2**power))
    limits = draw(st.dictionaries(sizes, st.integers(1, 1000), min_size=1, max_size=20))
    return Need(
        simulations=draw(st.integers(10, 1_000_000)),
        limits=tuple(sorted(limits.items())),
        cpus=draw(st.sampled_from([0.25, 0.5, 1.0])),
        worker_bytes=draw(st.integers(60, 400)) * MIB,
        child_bytes=draw(st.integers(0, 100)) * MIB,
        shared_bytes=draw(st.integers(0, 1000)) * MIB,
        seconds=draw(st.none() | st.floats(0.001, 1800)),
        output_bytes=draw(st.none() | st.integers(0, 10**12)),
        cap_bytes=draw(st.none() | st.just(limits and max(limits))),
    )


@st.composite
def wishes(draw, max_shards=2):
    """What a user may say."""
    return Wish(
        name=draw(st.sampled_from(["study", "A study_of 2", "9", "x" * 80, "\u00e4"])),
        study_path=draw(st.none() | st.just("/opt/a b/study.json")),
        run_dir=draw(st.none() | st.sampled_from(["s3://bucket/runs", "abfss://c@a.dfs.core.windows.net/r"])),
        image=draw(st.none() | st.just("registry.io/modelops-ray:1")),
        shards=draw(st.sampled_from([1, 1, 1, max_shards])),
        max_pods=draw(st.none() | st.integers(1, 2000)),
        options=draw(st.sampled_from([{}, {"--cpus": "0.5"}, {"--model": "a b.py:f", "--timeout": "60"}])),
    )


def objects(text):
    """The objects of a rendering."""
    return resources(parse(text, "rendered.yaml"), "rendered.yaml")


def jobs(text):
    """Its RayJobs."""
    return [resource.content for resource in objects(text) if resource.kind == "RayJob"]


@settings(max_examples=200, deadline=None)
@given(need=st.none() | needs(), wish=wishes(), overlay=st.sampled_from(OVERLAYS))
def test_every_rendering_passes_the_check(need, wish, overlay):
    """For every need and wish, and of every overlay."""
    found = objects(render(overlay_folder(overlay), wish, need).text)
    assert [] == [str(finding) for finding in check_bundle("rendered.yaml", found)]
    assert wish.shards == sum(resource.kind == "RayJob" for resource in found)


def grows(need, wish, overlay):
    """Every cluster of a rendering grows for its study, by Ray's own code, and has room for the largest simulation."""
    rendered = render(overlay_folder(overlay), wish, need)
    for job in jobs(rendered.text):
        seen = outlook(cluster_of(job), need_of_job(job, need), grow)
        assert () == seen.problems
        assert any(seen.pods.values())


@settings(max_examples=10, deadline=None)
@given(need=needs(), wish=wishes(max_shards=1), overlay=st.sampled_from(OVERLAYS))
def test_a_rendered_cluster_grows_for_its_study(need, wish, overlay):
    """A handful here, many in the longer suite."""
    grows(need, wish, overlay)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(need=needs(), wish=wishes(max_shards=2), overlay=st.sampled_from(OVERLAYS))
def test_every_rendered_cluster_grows_for_its_study(need, wish, overlay):
    """As `check --study` says it."""
    grows(need, wish, overlay)


def small(**changes):
    """A study of 12,000 simulations of 60 MiB for 3 s."""
    given = {"simulations": 12_000, "limits": ((60 * MIB, 1),), "worker_bytes": 70 * MIB, "seconds": 3.0, **changes}
    return Need(**given)


def groups(rendered):
    """The groups of the first job."""
    return jobs(rendered.text)[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"]


def test_small_simulations_get_small_pods_and_as_many_as_take_an_hour():
    """12,000 simulations of 3 s, 8 at a time: 2 pods."""
    rendered = render(overlay_folder(None), Wish(name="study"), small())
    (group,) = groups(rendered)
    assert ("mem2", 2) == (group["groupName"], group["maxReplicas"])
    assert rendered.plan.seconds <= sizing.TARGET_S


def test_pods_are_as_many_as_the_user_allows_and_no_more_than_are_of_use():
    """40 of a small study's pods would idle."""
    (group,) = groups(render(overlay_folder(None), Wish(name="study", max_pods=7), small()))
    assert 7 == group["maxReplicas"]
    (group,) = groups(render(overlay_folder(None), Wish(name="study", max_pods=40), small(simulations=80)))
    assert 10 == group["maxReplicas"]


def test_a_few_large_simulations_get_a_tier_of_their_own():
    """The others do not pay for them."""
    need = small(limits=((60 * MIB, 98), (40 * GIB, 2)))
    first, second = groups(render(overlay_folder(None), Wish(name="study"), need))
    assert "16Gi" == first["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert "128Gi" == second["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert 1 <= second["maxReplicas"] <= first["maxReplicas"]


def test_simulations_larger_than_a_cpu_has_memory_leave_cpus_idle():
    """100 GiB each: pods for one, not for eight; a larger one where a simulation needs more than it did before."""
    rendered = render(overlay_folder(None), Wish(name="study"), small(limits=((100 * GIB, 1),)))
    assert [(128, 1), (256, 1)] == [(tier.share.limit_bytes // GIB, tier.at_a_time) for tier in rendered.plan.tiers]


def test_a_head_grows_with_the_pods_beyond_those_it_is_for():
    """64 MiB for each: 16Gi is for 60 pods, 124 pods need 4 GiB more."""
    need = small(seconds=None)
    assert 16 * GIB == render(overlay_folder(None), Wish(name="study", max_pods=60), need).plan.head_bytes
    assert 20 * GIB == render(overlay_folder(None), Wish(name="study", max_pods=124), need).plan.head_bytes


def test_an_overlay_that_fails_the_check_is_not_filled_in(tmp_path):
    """What is wrong in it would be in what comes out."""
    (tmp_path / "job.yaml").write_text(
        render(overlay_folder(None), Wish(name="study"), None).text.replace("CPU:", "cpu:")
    )
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    (tmp_path / "kustomization.yaml").write_text(head + "resources: [job.yaml]\n")
    with pytest.raises(ManifestError, match="the autoscaler takes cpu for a resource of its own"):
        render(overlay_folder(str(tmp_path)), Wish(name="study"), small())


def test_nothing_known_leaves_the_sizes_as_they_are():
    """And says so."""
    rendered = render(overlay_folder("incident"), Wish(name="study"), None)
    assert rendered.plan is None
    assert "Nothing is known of the model" in rendered.text.splitlines()[1]
    assert ["2828Mi"] == [group["resources"]["memory"] for group in groups(rendered)]


def test_the_sums_stand_above_the_objects():
    """What was filled in can be followed without the program."""
    text = render(overlay_folder(None), Wish(name="study"), small()).text
    assert "# mem2: 16Gi - 2Gi objects - 1.6Gi system - 819.2Mi buffer = 11.6Gi -> 11878Mi\n" in text


def test_each_shard_is_a_job_and_the_pods_are_divided():
    """All parts name one run directory; its volume is one that several nodes may mount."""
    rendered = render(overlay_folder(None), Wish(name="My study", shards=3, max_pods=10), small())
    made = jobs(rendered.text)
    assert ["my-study-1-of-3", "my-study-2-of-3", "my-study-3-of-3"] == [job["metadata"]["name"] for job in made]
    assert [
        f"modelops-ray run '/studies/My study.json' --out '/runs/My study' --tolerate-failures --shard {i}/3"
        for i in (1, 2, 3)
    ] == [job["spec"]["entrypoint"] for job in made]
    assert {4} == {job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] for job in made}
    (claim,) = [each.content for each in objects(rendered.text) if each.kind == "PersistentVolumeClaim"]
    assert ["ReadWriteMany"] == claim["spec"]["accessModes"]
    assert any("ReadWriteMany" in note for note in rendered.notes)


def test_a_run_at_a_uri_needs_no_volume():
    """The claim, its mount and what points to it are gone."""
    wish = Wish(name="study", run_dir="s3://bucket/study")
    text = render(overlay_folder(None), wish, small()).text
    assert "--out s3://bucket/study " in text
    assert "persistentVolumeClaim" not in text
    assert "PersistentVolumeClaim" not in text
    assert "/runs" not in text


def test_options_take_the_place_of_those_in_the_manifest():
    """The incident's --cpus 0.5 is not there twice."""
    wish = Wish(name="study", options={"--cpus": "2", "--model": "pkg.mod:f"})
    (job,) = jobs(render(overlay_folder("incident"), wish, None).text)
    expected = "modelops-ray run /studies/study.json --out /runs/study --cpus 2 --model pkg.mod:f --tolerate-failures"
    assert expected == job["spec"]["entrypoint"]


@pytest.mark.parametrize(("overlay", "run_dir"), [("azure", "/runs/study"), (None, "/spill/a"), (None, "runs/a")])
def test_a_run_directory_that_would_die_with_the_head_is_refused(overlay, run_dir):
    """It must be a URI, or on a persistent volume."""
    with pytest.raises(UsageError, match=f"--run-dir {run_dir}"):
        render(overlay_folder(overlay), Wish(name="study", run_dir=run_dir), None)


def test_a_kustomization_without_a_job_cannot_be_rendered():
    """The cluster that stays has no study."""
    with pytest.raises(ManifestError, match="it makes 0 RayJobs"):
        render(overlay_folder(None).parent / "cluster", Wish(name="study"), None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("My Study_2", "my-study-2"), ("2nd", "study-2nd"), ("\u00e4", "study"), ("a" * 60, "a" * 47)],
)
def test_a_job_has_a_name_that_kuberay_takes(name, expected):
    """47 characters, small, a letter first."""
    assert expected == job_name(name)


def test_a_shard_keeps_its_number_in_a_long_name():
    """The end is what tells them apart."""
    assert "a" * 38 + "-10-of-12" == job_name("a" * 60, "-10-of-12")
