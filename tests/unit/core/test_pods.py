"""What follows when the pods behind nodes die, or do not come."""

import pytest

from modelops_ray.core.events import (
    Capacity,
    CapacityChanged,
    ChunkFailed,
    ChunkFinished,
    ClusterSaid,
    Ending,
    Finish,
    Node,
    Notify,
    PartCommitted,
    PodDied,
    Segment,
    SubmitChunk,
    TasksAdded,
    Ticked,
    WritePart,
)
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.reasons import PodsDie
from modelops_ray.core.report import Cause, ChunkReport, Measured

GIB = 2**30
OOM = "pod w-1 of tier mem4 was OOMKilled at 3.9 of 4 Gi"


class Cluster:
    """A run of simulations on one node with four slots, driven by hand; `chunks` are those that are outstanding."""

    def __init__(self, **policy):
        self.state = CheckedRun(Policy(memory_bytes=GIB // 2, chunk=1, supervised=True, **policy))
        self.chunks: dict[int, SubmitChunk] = {}
        self.finish: Finish | None = None
        self.now_s = 0.0
        self.failures = []
        self.told = []
        self.tell(CapacityChanged, Capacity((Node(4.0, 8 * GIB),)))
        self.tell(TasksAdded, (Segment(0, 0, 1000),), True)

    def tell(self, event, *values, **more):
        """Let a second pass and something happen."""
        self.now_s += 1.0
        self.perform(event(self.now_s, *values, **more))

    def perform(self, event):
        """Do what the run says to an event."""
        for action in self.state.handle(event):
            match action:
                case SubmitChunk():
                    self.chunks[action.chunk_id] = action
                case WritePart():
                    self.failures += action.failures
                    self.perform(PartCommitted(self.now_s, action.chunk_ids))
                case Notify():
                    self.told.append(action.text)
                case Finish():
                    self.finish = action
                case _:
                    self.chunks.pop(action.chunk_id, None)

    def complete(self, n):
        """Let the oldest chunks complete."""
        for _ in range(n):
            chunk = self.chunks.pop(min(self.chunks))
            measured = tuple(Measured(position, 1.0, 2**20) for position in chunk.positions)
            self.tell(ChunkFinished, chunk.chunk_id, ChunkReport(measured))

    def lose(self, n, **more):
        """Let the oldest chunks go with their node."""
        for _ in range(n):
            chunk = self.chunks.pop(min(self.chunks))
            self.tell(ChunkFailed, chunk.chunk_id, Cause.NODE_LOST, "NodeDiedError", "the node died", **more)


def test_a_pod_that_died_is_told_and_nobody_is_blamed():
    """What was on it is repeated for nothing."""
    cluster = Cluster()
    cluster.tell(PodDied, "10.0.0.1", OOM, is_memory=True)
    cluster.lose(4)
    assert [OOM] == cluster.told
    assert (0, 4) == (cluster.state.counters.failed, cluster.state.counters.infrastructure_retries)
    assert cluster.finish is None


def test_a_run_whose_pods_die_of_memory_again_and_again_stops_with_the_last_of_them():
    """Five deaths that took more along than was completed meanwhile."""
    cluster = Cluster()
    for _ in range(5):
        assert cluster.finish is None
        cluster.complete(1)
        cluster.lose(4)
        cluster.tell(PodDied, "10.0.0.1", OOM, is_memory=True)
    assert Ending.GAVE_UP == cluster.finish.ending
    assert PodsDie(5, OOM) == cluster.finish.reason


@pytest.mark.parametrize(("is_memory", "completed"), [(True, 8), (False, 0)])
def test_pods_that_die_while_the_run_goes_on_or_of_something_else_do_not_stop_it(is_memory, completed):
    """However many there are."""
    cluster = Cluster()
    for index in range(12):
        cluster.complete(completed)
        cluster.lose(4)
        cluster.tell(PodDied, "10.0.0.1", f"pod {index} died", is_memory=is_memory)
    assert cluster.finish is None


def test_a_run_that_waits_in_vain_says_what_the_cluster_says():
    """The autoscaler in its own words, and the last pod that does not start."""
    cluster = Cluster(no_progress_s=100.0, timeout_s=10.0)
    cluster.tell(ClusterSaid, "pods are watched again as soon as possible")
    cluster.tell(ClusterSaid, "pod w-2 of tier mem4 cannot be placed: no room", hinders=True)
    cluster.tell(CapacityChanged, Capacity((), says="the autoscaler says: no available node types"))
    cluster.now_s += 200.0
    cluster.tell(Ticked)
    said = ("the autoscaler says: no available node types", "pod w-2 of tier mem4 cannot be placed: no room")
    assert said == cluster.finish.reason.said
    assert 2 == len(cluster.told)


def test_who_used_more_than_its_limit_on_a_pod_that_died_of_memory_is_blamed_and_nobody_else():
    """It gets more; the others on the pod are repeated as they were."""
    cluster = Cluster()
    cluster.tell(PodDied, "10.0.0.1", OOM, is_memory=True)
    culprit = cluster.chunks[min(cluster.chunks)]
    position = culprit.positions[0]
    cluster.lose(1, address="10.0.0.1", excess=((position, GIB),))
    cluster.lose(3, address="10.0.0.1")
    counters = cluster.state.counters
    assert (1, 3) == (counters.oom_retries, counters.infrastructure_retries)
    [again] = [chunk for chunk in cluster.chunks.values() if position in chunk.positions]
    assert again.limit_bytes > culprit.limit_bytes


def test_nobody_is_blamed_on_a_pod_that_died_of_something_else():
    """However much it used."""
    cluster = Cluster()
    cluster.tell(PodDied, "10.0.0.1", "pod w-1 was preempted", is_memory=False)
    position = cluster.chunks[min(cluster.chunks)].positions[0]
    cluster.lose(1, address="10.0.0.1", excess=((position, GIB),))
    assert (0, 1) == (cluster.state.counters.oom_retries, cluster.state.counters.infrastructure_retries)


def test_of_several_simulations_of_a_task_only_those_are_blamed_that_used_too_much():
    """Where Kubernetes tells nothing, what they were seen to use does."""
    state = CheckedRun(Policy(memory_bytes=GIB // 8, chunk=4, supervised=True))
    state.handle(CapacityChanged(0.0, Capacity((Node(4.0, 8 * GIB),))))
    asked = next(each for each in state.handle(TasksAdded(0.0, (Segment(0, 0, 8),), last=True)) if each.positions[3:])
    excess = ((asked.positions[2], GIB),)
    state.handle(ChunkFailed(1.0, asked.chunk_id, Cause.NODE_LOST, "NodeDiedError", "lost", excess=excess))
    assert (1, 1) == (state.counters.oom_retries, state.counters.infrastructure_retries)


def test_a_simulation_that_is_lost_for_good_names_the_pod():
    """With nothing else left, losses count."""
    cluster = Cluster(attempts=1)
    cluster.complete(999)
    cluster.tell(PodDied, "10.0.0.1", OOM, is_memory=True)
    cluster.lose(1, address="10.0.0.1")
    assert (1, Ending.COMPLETE) == (cluster.state.counters.failed, cluster.finish.ending)
    assert [OOM] == [failure.message for failure in cluster.failures]


def test_a_cluster_without_any_node_is_asked_for_what_a_simulation_needs():
    """What the first request says is what the autoscaler starts a node for, and what its simulation may use."""
    state = CheckedRun(Policy(memory_bytes=GIB // 2, supervised=True))
    state.handle(CapacityChanged(0.0, Capacity(())))
    [asked] = state.handle(TasksAdded(0.0, (Segment(0, 0, 10),), last=True))
    assert GIB // 2 == asked.limit_bytes
    assert GIB // 2 < asked.request_bytes < GIB
    assert [] == state.handle(CapacityChanged(5.0, Capacity(())))


def test_a_probe_of_a_cluster_without_any_node_asks_for_plenty_and_not_for_the_moon():
    """Nothing is known of the model, nor of the nodes."""
    state = CheckedRun(Policy(supervised=True))
    state.handle(CapacityChanged(0.0, Capacity(())))
    [asked] = state.handle(TasksAdded(0.0, (Segment(0, 0, 10),), last=True))
    assert GIB // 2 <= asked.request_bytes <= 2 * GIB


def test_what_stood_in_the_way_of_nodes_that_came_is_not_told_later():
    """The pod was placed in the end."""
    cluster = Cluster(no_progress_s=100.0, timeout_s=10.0)
    cluster.tell(ClusterSaid, "pod w-2 of tier mem4 cannot be placed", hinders=True)
    cluster.tell(CapacityChanged, Capacity((Node(4.0, 8 * GIB),) * 2))
    cluster.now_s += 200.0
    cluster.tell(Ticked)
    assert () == cluster.finish.reason.said


def test_a_cluster_that_falls_apart_for_days_does_not_fill_the_driver():
    """People have stopped reading by then."""
    cluster = Cluster()
    for index in range(1000):
        cluster.tell(ClusterSaid, f"something about pod {index}")
    assert 200 == len(cluster.told)
