"""What memory a simulation and its task are given, on the nodes that are there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.events import Capacity, CapacityChanged, Node, SubmitChunk
from tests.support.decisions import ONE_NODE, begun, finished, killed, of

MIB = 2**20
GIB = 2**30


def test_what_fits_on_no_node_makes_no_other_ask_for_all_of_one():
    """One that is too large is one that is too large."""
    state, actions = begun(n=1)
    while chunks := of(SubmitChunk, actions):
        actions = state.handle(killed(chunks[0], used_bytes=chunks[0].request_bytes + MIB))
    assert 1 == state.counters.failed
    assert 2 * GIB < state.dispatch.memory.typical_limit(GIB) < state.dispatch.allocator.top_limit_bytes


def test_a_node_that_no_request_fits_makes_none_larger():
    """A head with little memory joins; shares of what the others have in common stay what they were."""
    large = Node(4.0, 8 * GIB)
    shared = {"known_worker_bytes": 100 * MIB, "known_child_bytes": 10 * MIB, "known_shared_bytes": GIB}
    state, actions = begun(capacity=Capacity((large,)), memory_bytes=5 * GIB, **shared)
    assert of(SubmitChunk, actions)
    assert not state.handle(CapacityChanged(1.0, Capacity((Node(1.0, 2 * GIB), large))))
    assert not state.is_ending


@given(
    cpus=st.integers(1, 64),
    gib=st.integers(1, 32),
    cap_mib=st.none() | st.integers(60, 2000),
    peak_mib=st.integers(1, 50),
)
def test_a_task_of_several_leaves_each_what_it_was_measured_to_need(cpus, gib, cap_mib, peak_mib):
    """Neither the cap nor the size of a node is shared among them."""
    node, cap = Node(float(cpus), gib * GIB), None if cap_mib is None else cap_mib * MIB
    state, actions = begun(n=400, capacity=Capacity((node,)), max_memory_bytes=cap, supervised=True)
    queue = of(SubmitChunk, actions)
    for _ in range(60):
        if not queue:
            break
        chunk = queue.pop(0)
        assert cap is None or chunk.limit_bytes <= cap
        assert chunk.limit_bytes > peak_mib * MIB or chunk.request_bytes >= node.memory_bytes
        queue += of(SubmitChunk, state.handle(finished(chunk, peak_bytes=peak_mib * MIB)))


def test_not_even_a_probe_may_use_more_than_the_cap():
    """It asks for plenty, and plenty ends there."""
    _, actions = begun(n=8, max_memory_bytes=100 * MIB)
    assert {100 * MIB} == {chunk.limit_bytes for chunk in of(SubmitChunk, actions)}


def test_a_large_node_that_restarts_ends_nothing():
    """What only it can hold waits for it, and what it had is no less than before."""
    both, small = Capacity((Node(4.0, 8 * GIB), Node(8.0, 64 * GIB))), Capacity((Node(4.0, 8 * GIB),))
    state, _ = begun(capacity=both, memory_bytes=20 * GIB, cpus=6.0)
    for now_s, capacity in ((1.0, small), (200.0, small), (201.0, both), (250.0, small), (501.0, both)):
        assert [] == state.handle(CapacityChanged(now_s, capacity))


def test_a_head_without_cpus_refuses_nothing():
    """Its workers are still to come: that no node has a CPU now says nothing of them."""
    for capacity in (Capacity((Node(0.0, 4 * GIB),)), Capacity(())):
        state, actions = begun(capacity=capacity, memory_bytes=GIB)
        assert not state.is_ending
        assert of(SubmitChunk, actions)


def test_a_node_with_more_cpus_that_was_there_minutes_ago_may_come_back():
    """After that, the largest of those that are there is the measure."""
    state, _ = begun(capacity=Capacity((Node(8.0, 8 * GIB), ONE_NODE.nodes[0])), memory_bytes=GIB, cpus=6.0)
    state.handle(CapacityChanged(299.0, ONE_NODE))
    assert not state.is_ending
    state.handle(CapacityChanged(301.0, ONE_NODE))
    assert state.is_ending
