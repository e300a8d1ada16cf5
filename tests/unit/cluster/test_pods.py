"""What the autoscaler of a RayCluster could bring about."""

from support import pod_lives as lives

from modelops_ray.cluster.watch.pods import reachable
from modelops_ray.core.events import Node

GIB = 2**30


def test_every_group_counts_with_as_many_pods_as_it_may_have_and_a_head_without_cpus_not_at_all():
    """By the memory that Ray may give away, not by that of the pod."""
    assert (Node(8.0, 25 * GIB), Node(8.0, 25 * GIB), Node(8.0, 110 * GIB)) == reachable(lives.raycluster())


def test_a_cluster_that_does_not_scale_has_no_more_than_is_there():
    """Nor one that Ray itself could not read."""
    assert () == reachable(lives.raycluster(scales=False))
    broken = lives.raycluster()
    del broken["spec"]["workerGroupSpecs"][0]["minReplicas"]
    assert () == reachable(broken)


def test_a_group_without_a_bound_is_as_good_as_ten_thousand():
    """Two thousand million nodes would fill the driver."""
    boundless = lives.raycluster()
    boundless["spec"]["workerGroupSpecs"][0]["maxReplicas"] = 2147483647
    assert 10_001 == len(reachable(boundless))
