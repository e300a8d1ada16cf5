"""What bounds a run is counted by the second."""

from modelops_ray.core.bounds import Bound, Tally
from modelops_ray.core.events import Capacity, Node

SMALL, LARGE = Node(4.0, 2**30), Node(8.0, 2**32)


def test_the_time_since_the_last_look_is_that_of_what_bounds_it_now():
    """A clock that goes back adds nothing."""
    tally = Tally()
    for elapsed_s, bound in ((1.0, Bound.START_UP), (3.0, Bound.MEMORY), (2.5, Bound.MEMORY), (4.5, Bound.CPUS)):
        tally.add(elapsed_s, bound, 2, Capacity((SMALL,)))
    assert {Bound.START_UP: 1.0, Bound.MEMORY: 2.0, Bound.CPUS: 2.0} == tally.seconds


def test_the_cluster_is_the_largest_that_was_there():
    """Nodes that go at the end are not forgotten."""
    tally = Tally()
    tally.add(1.0, Bound.CPUS, 3, Capacity((SMALL, LARGE)))
    tally.add(2.0, Bound.CPUS, 1, Capacity((SMALL,)))
    values = tally.values()

    assert {"cpus": 2.0} == values["seconds"]
    assert (3, 2, 12.0, 2**30 + 2**32, 2**32) == tuple(
        values[name] for name in ("running_max", "nodes", "cpus", "memory_bytes", "largest_node_bytes")
    )
