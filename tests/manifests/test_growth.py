"""Ray's own autoscaler on the shipped groups: what a study makes of them, and what is said where it makes nothing."""

import copy
from pathlib import Path

import pytest

from modelops_ray.cluster.manifests.autoscaler import Demand, grow, node_types, start_flags
from modelops_ray.cluster.manifests.check import check
from modelops_ray.cluster.manifests.growth import outlook
from modelops_ray.cluster.manifests.kustomize import build
from modelops_ray.cluster.manifests.sizing import GIB, MIB, Need
from modelops_ray.cluster.manifests.views import Cluster, cluster_of
from modelops_ray.errors import ManifestError

KUBERAY = Path(__file__).parents[2] / "kuberay"


def job(overlay="base/job"):
    """The RayJob of a kustomization."""
    (found,) = [resource.content for resource in build(KUBERAY / overlay) if resource.kind == "RayJob"]
    return copy.deepcopy(found)


def cluster(overlay="base/job", **of_first_group):
    """Its cluster, with the first group changed."""
    content = job(overlay)
    content["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].update(of_first_group)
    found = cluster_of(content)
    assert isinstance(found, Cluster)
    return found


def need(limit_bytes, n=1000, **changes):
    """A number of simulations of one size."""
    return Need(**{"simulations": n, "limits": ((limit_bytes, 1),), "worker_bytes": 100 * MIB, **changes})


def test_ray_reads_the_groups_as_the_manifests_say_them():
    """CPUs and memory from the group's own resources, not from the pod's limits; no CPU on the head."""
    types = node_types(cluster())
    assert {"CPU": 8, "memory": 25 * GIB} == types["mem4"]["resources"]
    assert {"CPU": 8, "memory": 109 * GIB} == types["mem16"]["resources"]
    assert 0 == types["headgroup"]["resources"]["CPU"]


def test_small_simulations_fill_small_pods():
    """A hundred of 3 GiB: eight in a pod of mem4, and nothing in mem16."""
    assert {"mem4": 13, "mem16": 0} == grow(cluster(), {Demand(1.0, 3 * GIB): 100})


def test_what_only_the_large_tier_holds_goes_there():
    """Thirty GiB each, three in a pod, ten pods at most."""
    assert {"mem4": 0, "mem16": 10} == grow(cluster(), {Demand(1.0, 30 * GIB): 40})


def test_a_study_makes_its_cluster_grow_to_its_largest():
    """A thousand simulations of 3 GiB are more than 60 pods hold."""
    seen = outlook(cluster(), need(3 * GIB), grow)
    assert ({"mem4": 50, "mem16": 10}, ()) == (seen.pods, seen.problems)
    assert seen.pods == seen.max_pods


def test_a_study_of_a_few_simulations_takes_a_few_pods():
    """And leaves the others alone."""
    assert {"mem4": 2, "mem16": 0} == outlook(cluster(), need(2 * GIB, n=16), grow).pods


def test_a_simulation_that_no_pod_holds_names_the_group_and_the_numbers_to_change():
    """And with these numbers it is held."""
    (problem,) = outlook(cluster(), need(120 * GIB), grow).problems
    assert ("group-too-small", "/spec/rayClusterSpec/workerGroupSpecs/1/resources/memory") == problem[:2]
    assert "group mem16 promises 109Gi, a simulation asks for 120.1Gi" == problem.found
    assert "write 121Gi or more, and 140Gi for requests and limits of its pod" == problem.remedy

    limits = {"cpu": "8", "memory": "140Gi"}
    larger = cluster(resources={"CPU": "8", "memory": "121Gi"})
    larger.workers[0].ray["resources"] = {"requests": limits, "limits": limits}
    assert () == outlook(larger, need(120 * GIB), grow).problems


def test_a_simulation_of_more_cpus_than_a_pod_has_is_named():
    """Memory is not all that must fit."""
    (problem,) = outlook(cluster("overlays/incident"), need(GIB, cpus=4.0), grow).problems
    assert ("group-too-narrow", "group mem2 has 2 CPUs, a simulation asks for 4") == (problem.rule, problem.found)


def test_pods_that_are_always_there_are_counted_and_ray_says_nothing_of_it(capfd):
    """What is printed is ours."""
    assert {"mem4": 7, "mem16": 0} == outlook(cluster(minReplicas=7), need(2 * GIB, n=16), grow).pods
    assert ("", "") == capfd.readouterr()


def test_groups_that_may_have_no_pods_do_not_grow():
    """Ray says nothing of it either."""
    (problem,) = outlook(cluster("overlays/kind", maxReplicas=0), need(GIB), grow).problems
    assert "no-growth" == problem.rule


def test_a_cluster_without_workers_is_named():
    """The head takes no simulations."""
    content = job()
    content["spec"]["rayClusterSpec"]["workerGroupSpecs"] = []
    (problem,) = outlook(cluster_of(content), need(GIB), grow).problems
    assert "no-workers" == problem.rule


def test_what_ray_cannot_read_is_an_error_with_its_own_words():
    """In a cluster it would end every loop of the autoscaler."""
    with pytest.raises(ManifestError):
        node_types(cluster(resources={"CPU": "8", "memory": "25Gi", "GPU": "one"}))


def test_the_check_takes_each_jobs_own_cpus_and_part_of_the_study():
    """The incident's --cpus 0.5 makes four at a time of two CPUs."""
    checked = check([KUBERAY / "overlays/incident"], need(200 * MIB, n=16))
    assert [("RayJob/incident", {"mem2": 4})] == [
        (name.rpartition(": ")[2], seen.pods) for name, seen in checked.growth
    ]


def test_an_infeasible_study_is_a_finding_of_the_check():
    """With the file and the place."""
    checked = check([KUBERAY / "overlays/kind"], need(10 * GIB))
    (finding,) = checked.findings
    assert ("group-too-small", "RayJob/modelops-study") == (finding.rule, finding.object)


@pytest.mark.parametrize("folder", ["base/job", "overlays/kind", "overlays/isolation", "overlays/incident"])
def test_ray_start_takes_the_parameters_of_every_group(folder):
    """By its own command line, as KubeRay hands them on; nothing is started."""
    from ray.scripts.scripts import start

    for group in cluster(folder).groups:
        words = [f"--{key}={value}" for key, value in group.params.items() if value != "true"]
        words += [f"--{key}" for key, value in group.params.items() if value == "true"]
        context = start.make_context("start", words)
        assert group.plasma_bytes == context.params["object_store_memory"]
        assert "/spill" == context.params["object_spilling_directory"]


def test_the_flags_of_ray_start_are_those_of_the_installed_ray():
    """What KubeRay adds itself is among them."""
    assert {"block", "metrics-export-port", "dashboard-agent-listen-port", "num-cpus"} <= start_flags()
    assert "temp_dir" not in start_flags()
