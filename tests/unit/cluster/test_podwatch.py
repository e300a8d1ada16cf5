"""What recorded lives of pods and RayJobs mean."""

import pytest
from support import pod_lives as lives

from modelops_ray.cluster.watch.objects import RayJob
from modelops_ray.cluster.watch.podwatch import Cause, Died, PodWatch, Stuck

GIB = 2**30
POD = "pod study-7xk2p-mem4-worker-abcde of tier mem4"


def told(*objects, readings=None):
    """What a watch tells of these states of pods, one after the other."""
    watch = PodWatch(readings or {})
    return [news for each in objects for news in watch.changed("MODIFIED", each)]


def test_a_pod_killed_for_its_memory_is_named_with_its_tier_and_sizes():
    """The limit is the manifest's, the use that of the last measurement."""
    [died] = told(lives.pod(), lives.oom_killed(), readings={"study-7xk2p-mem4-worker-abcde": int(3.9 * GIB)})
    assert f"{POD} was OOMKilled at 3.9 of 4 Gi" == died.sentence
    assert (Cause.OUT_OF_MEMORY, "10.244.1.7") == (died.cause, died.address)


def test_where_nothing_measures_the_limit_is_named_alone():
    """A metrics server is not everywhere."""
    [died] = told(lives.oom_killed())
    assert f"{POD} was OOMKilled at its limit of 4 Gi" == died.sentence


def test_a_pod_that_was_started_again_tells_of_its_death_in_its_last_state():
    """And a second time of a second one."""
    deaths = told(lives.restarted(), lives.restarted(), lives.restarted(at="2026-08-20T11:00:00Z"))
    assert [Cause.OUT_OF_MEMORY] * 2 == [died.cause for died in deaths]


def test_a_death_seen_now_and_later_as_the_last_state_is_one_death():
    """The same container ended at the same time."""
    now = lives.pod(containerStatuses=[lives.container(terminated=lives.terminated(reason="OOMKilled"))])
    assert 1 == len(told(now, lives.restarted()))


def test_a_pod_first_seen_in_its_deletion_has_died_of_what_its_last_state_says():
    """KubeRay deletes a dead pod within seconds."""
    [died] = PodWatch().changed("DELETED", lives.oom_killed())
    assert Cause.OUT_OF_MEMORY == died.cause


@pytest.mark.parametrize(
    ("found", "cause", "words"),
    [
        (lives.evicted(), Cause.EVICTED, "was evicted (The node was low on resource: ephemeral-storage"),
        (lives.evicted("The node was low on resource: memory."), Cause.OUT_OF_MEMORY, "low on resource: memory)"),
        (lives.preempted(), Cause.PREEMPTED, "was preempted (default-scheduler: preempting to accommodate"),
        (lives.ended(137), Cause.KILLED, "was killed (exit code 137, and not for its memory)"),
        (lives.ended(1), Cause.CRASHED, "ended with exit code 1"),
    ],
)
def test_every_other_death_has_its_cause_and_is_told_once(found, cause, words):
    """Beside anything else in the same status."""
    [died] = told(found, found)
    assert cause == died.cause
    assert words in died.sentence
    assert "\n" not in died.sentence


def test_what_is_scaled_down_has_not_died():
    """Neither while it goes nor when it is gone, with any code of its processes."""
    watch = PodWatch()
    going = lives.deleted(containerStatuses=[lives.container(terminated=lives.terminated(137))])
    assert [] == watch.changed("ADDED", lives.pod())
    assert [] == watch.changed("MODIFIED", going)
    assert [] == watch.changed("DELETED", going)
    assert ([], []) == watch.listed([])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (lives.unschedulable(), "cannot be placed: 0/3 nodes are available: 3 Insufficient memory"),
        (lives.waiting("ImagePullBackOff", 'Back-off pulling image "r/x:1"'), "cannot get its image: ImagePullBackOff"),
        (
            lives.waiting("CreateContainerConfigError", 'secret "s" not found'),
            'cannot start its container: CreateContainerConfigError: secret "s" not found',
        ),
    ],
)
def test_a_pod_that_does_not_start_says_why_once_for_its_tier(found, words):
    """A hundred pods of a tier wait for the same thing."""
    other = {**found, "metadata": {**found["metadata"], "name": "other", "uid": "other"}}
    [stuck] = told(found, found, other)
    assert isinstance(stuck, Stuck)
    assert words in stuck.sentence


def test_a_container_that_is_being_created_is_not_stuck():
    """Every pod waits for that for a while."""
    assert [] == told(lives.waiting("ContainerCreating", ""), lives.waiting("PodInitializing", ""))


def test_pods_that_went_while_no_watch_was_on_are_named_with_what_events_tell():
    """After a gap the list is shorter; without events it is said that the end was not seen."""
    watch = PodWatch()
    assert ([], []) == watch.listed([lives.pod("a"), lives.pod("b")])
    news, gone = watch.listed([lives.pod("b")])
    assert ([], ["a"]) == (news, [pod.metadata.name for pod in gone])
    events = [
        lives.event("Pulled", "image is there", "a"),
        lives.event("OOMKilling", "Memory cgroup out of memory", "a"),
    ]
    told = watch.gone(gone[0], events)
    assert isinstance(told, Died)
    assert (Cause.OUT_OF_MEMORY, "pod a of tier mem4 is gone (OOMKilling: Memory cgroup out of memory)") == (
        told.cause,
        told.sentence,
    )
    assert Cause.UNSEEN == watch.gone(gone[0], []).cause


def test_a_death_in_a_list_after_a_gap_is_told_and_not_again():
    """A list repeats everything."""
    watch = PodWatch()
    first, _ = watch.listed([lives.oom_killed()])
    again, _ = watch.listed([lives.oom_killed()])
    assert (1, 0) == (len(first), len(again))
    assert ([], []) == watch.listed([])


def test_pods_that_are_gone_are_forgotten():
    """A cluster that scales for weeks has had many."""
    watch = PodWatch()
    for index in range(50):
        name = f"w-{index}"
        watch.readings[name] = GIB
        found = {**lives.oom_killed(), "metadata": lives.pod(name)["metadata"]}
        if index % 2:
            watch.changed("DELETED", found)
        else:
            watch.listed([found])
    watch.listed([])
    assert ({}, {}, set()) == (watch.readings, watch._alive, watch._told)


def test_what_is_no_pod_is_left_alone():
    """Error objects, and pods of an unknown kind."""
    watch = PodWatch()
    assert [] == watch.changed("MODIFIED", {"kind": "Status"})
    assert [] == watch.changed("MODIFIED", {"metadata": {"name": "x"}, "status": {"conditions": 7}})


@pytest.mark.parametrize(
    ("deployment", "job", "ended", "succeeded"),
    [
        ("", "", False, False),
        ("Initializing", "", False, False),
        ("Running", "RUNNING", False, False),
        ("Running", "SUCCEEDED", False, False),
        ("Retrying", "FAILED", False, False),
        ("Suspended", "", False, False),
        ("Waiting", "", False, False),
        ("Complete", "SUCCEEDED", True, True),
        ("Complete", "STOPPED", True, False),
        ("Failed", "RUNNING", True, False),
        ("Failed", "FAILED", True, False),
        ("ValidationFailed", "", True, False),
    ],
)
def test_a_rayjob_has_ended_by_its_deployment_and_succeeded_by_both(deployment, job, ended, succeeded):
    """Its two statuses may contradict each other, and KubeRay itself forgets ValidationFailed."""
    found = RayJob.model_validate(lives.rayjob(deployment, job))
    assert (ended, succeeded) == (found.has_ended, found.has_succeeded)


def test_the_line_of_a_rayjob_says_both_statuses_and_why():
    """As far as there is something to say."""
    found = lives.rayjob("Failed", "RUNNING", reason="DeadlineExceeded", message="The RayJob has passed the deadline.")
    expected = "RayJob study: Failed, job RUNNING (DeadlineExceeded: The RayJob has passed the deadline)"
    assert expected == RayJob.model_validate(found).line
    assert "RayJob study: not looked at by KubeRay yet" == RayJob.model_validate(lives.rayjob("")).line
