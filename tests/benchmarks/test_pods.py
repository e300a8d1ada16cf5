"""Pods: their limit as a container sees it, the kernel's kills, restarts, and nothing left behind."""

import os
import sys
import time

import pytest

from benchmarks.cgroups import cpu_cgroup, why_not
from benchmarks.pods import make_pods
from modelops_ray.sandbox.processes import process

MIB = 2**20
EAT = "x = []\nwhile True: x.append(bytes(2**20 * 8) + b'x')"
SEE = """
from modelops_ray.sandbox.machine import MemoryBounds
print([group.limit_bytes for group in MemoryBounds().groups()], flush=True)
import time
time.sleep(60)
"""

pytestmark = [
    pytest.mark.cgroup,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


def wait_for(condition, patience_s=60.0):
    """Look until something holds."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_running(pid):
    """Whether a process is there, and no zombie that init has not looked at yet."""
    found = process(pid)
    return found is not None and not found.has_ended


def said(pod):
    """What a pod has printed."""
    return pod.log.read_text() if pod.log.exists() else ""


def test_a_pod_sees_its_own_limit(tmp_path):
    """As in a container, where the limit stands at the root of the hierarchy."""
    with make_pods(1, 300 * MIB, tmp_path, None) as [pod]:
        pod.start([sys.executable, "-c", SEE], os.environ)
        wait_for(lambda: "]" in said(pod))
        assert f"[{300 * MIB}]" in said(pod)
        wait_for(lambda: len(pod.samples) > 2)


def test_a_kernel_kill_takes_the_whole_pod_which_starts_again(tmp_path):
    """A process that did nothing goes with the one that ate; the second start is at once, the third after a while."""
    with make_pods(1, 100 * MIB, tmp_path, None) as [pod]:
        script = f'echo started; sleep 600 & exec "{sys.executable}" -c "{EAT}"'
        pod.start(["sh", "-c", script], os.environ)
        wait_for(lambda: pod.restarts == 2)
        time.sleep(0.5)
        assert (2, 2) == (said(pod).count("started"), pod.kernel_kills)
        assert [] == pod.processes()


def test_nothing_of_a_pod_is_left(tmp_path):
    """Neither processes nor cgroups, and CPU time of those that ended was counted."""
    with cpu_cgroup() as counting:
        with make_pods(2, 100 * MIB, tmp_path, counting.path) as pods:
            for pod in pods:
                pod.start(["sh", "-c", "sleep 600 & echo there; wait"], os.environ)
            wait_for(lambda: all("there" in said(pod) for pod in pods))
            paths = [pod.group.path for pod in pods]
            pids = [pid for pod in pods for pid in pod.processes()]
        assert len(pids) >= 4
        assert not any(is_running(pid) for pid in pids)
        assert not any(path.exists() for path in paths)
        assert counting.cpu_s > 0
    assert not counting.path.exists()


def test_an_interrupt_while_pods_are_ended_leaves_none_of_them(tmp_path, monkeypatch):
    """A second Ctrl-C comes at any time: the other pods end all the same, and so does the one it hit."""
    pods, pids = [], []

    def interrupted():
        raise KeyboardInterrupt

    def begin_and_end():
        with make_pods(3, 100 * MIB, tmp_path, None) as made:
            pods.extend(made)
            for pod in pods:
                pod.start(["sh", "-c", "sleep 600 & echo there; wait"], os.environ)
            wait_for(lambda: all("there" in said(pod) for pod in pods))
            pids.extend(pid for pod in pods for pid in pod.processes())
            monkeypatch.setattr(pods[1], "stop", interrupted)

    with pytest.raises(KeyboardInterrupt):
        begin_and_end()
    # An interrupted process reaps no child.
    pods[1]._main.wait()
    assert len(pids) >= 6
    assert not any(is_running(pid) for pid in pids)
    assert not any(pod.group.path.exists() for pod in pods)
