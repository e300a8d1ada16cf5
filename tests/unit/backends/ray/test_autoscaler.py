"""What the autoscaler's state says in words."""

from modelops_ray.backends.ray.autoscaler import words_of


def state(**parts):
    """An autoscaling state as Ray's autoscaler reports it."""
    from ray.core.generated.autoscaler_pb2 import AutoscalingState

    return AutoscalingState(**parts)


def request(**resources):
    """A request that cannot be fulfilled."""
    return {"resources_bundle": resources}


def test_an_autoscaler_with_nothing_to_say_is_not_quoted():
    """As where there is none."""
    assert words_of(state()) == ""


def test_infeasible_requests_are_named_by_shape_and_number():
    """As Ray's own log does, with memory as people read it."""
    requests = [request(CPU=1, memory=9 * 2**30)] * 3 + [request(CPU=2)]
    expected = (
        "the autoscaler says: no available node types can fulfill resource requests {CPU: 1, memory: 9,216 MiB}*3, "
        "{CPU: 2}*1"
    )
    assert expected == words_of(state(infeasible_resource_requests=requests))


def test_many_shapes_are_counted():
    """One line is enough."""
    requests = [request(memory=index * 2**30) for index in range(1, 6)]
    assert words_of(state(infeasible_resource_requests=requests)).endswith(", and 2 other shapes")


def test_nodes_on_their_way_and_those_that_failed_to_launch_are_named():
    """With the provider's reason, in one line."""
    found = words_of(
        state(
            pending_instance_requests=[{"ray_node_type_name": "mem4", "count": 2}],
            pending_instances=[{"ray_node_type_name": "mem16"}] * 2,
            failed_instance_requests=[{"ray_node_type_name": "mem64", "reason": "quota\n  exceeded"}] * 2,
        )
    )
    assert found == (
        "the autoscaler says: nodes on their way: 2 of mem4, 2 of mem16; failed to launch mem64: quota exceeded"
    )
