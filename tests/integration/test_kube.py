"""Watching pods and RayJobs over real HTTP, from an API server that plays back recorded lives and misfortunes."""

import functools
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from support import pod_lives as lives
from support.commands import invoke
from support.kube_api import kube_api, kubeconfig

from modelops_ray.cluster.watch.jobwatch import follow
from modelops_ray.cluster.watch.kube import Changed, Interrupted, KubeError, Listed, connect
from modelops_ray.cluster.watch.pods import Follower, PodObserver, observed
from modelops_ray.cluster.watch.podwatch import Cause
from modelops_ray.core.events import ClusterSaid, Ending, Node, PodDied
from modelops_ray.errors import BackendError
from modelops_ray.session.execute import execute
from modelops_ray.session.request import ask
from modelops_ray.session.run_config import RunConfig
from modelops_ray.study.study import Study

PATIENCE_S = 20.0


def known(monkeypatch, path):
    """Let the client find this kubeconfig; it reads the environment when it is imported."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


@pytest.fixture
def api(tmp_path, monkeypatch):
    """An API server, and a kubeconfig that leads to it."""
    with kube_api() as (found, url):
        known(monkeypatch, kubeconfig(tmp_path / "config", url))
        found.url = url
        yield found


@pytest.fixture
def kube(api):
    """A connection that asks again soon."""
    found = connect()
    found.pause_s = 0.05
    yield found
    found.close()


@pytest.fixture
def news(kube):
    """What a follower of the cluster tells, one by one."""
    return Follower(kube, lives.CLUSTER).news()


def take(polled, n):
    """Poll until this number of events was heard."""
    heard, deadline_s = [], time.monotonic() + PATIENCE_S
    while len(heard) < n:
        assert time.monotonic() < deadline_s, heard
        heard += polled()
        time.sleep(0.02)
    return heard


def wait_for(condition):
    """Wait until something holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_pod_that_dies_while_it_is_watched_is_told(api, news):
    """And one that died before is found in the first list."""
    api.put("pods", lives.oom_killed(uid="before"))
    api.put("pods", lives.pod("w-2"))
    assert Cause.OUT_OF_MEMORY == next(news).cause
    api.put("pods", {**lives.ended(1), "metadata": lives.pod("w-2")["metadata"]})
    died = next(news)
    assert ("w-2", Cause.CRASHED) == (died.pod, died.cause)


def test_pods_of_other_clusters_are_not_watched(api, news):
    """The label is KubeRay's."""
    other = lives.oom_killed()
    other["metadata"] |= {"name": "other", "labels": {"ray.io/cluster": "other"}}
    api.put("pods", other)
    api.put("pods", lives.oom_killed())
    assert "study-7xk2p-mem4-worker-abcde" == next(news).pod


def test_a_pod_created_killed_and_deleted_before_a_poll_saw_it_is_told(api, kube):
    """Its deletion carries its last state."""
    seen = kube.watch(kube.pods(lives.CLUSTER))
    assert next(seen) == Listed([])
    api.delete("pods", lives.oom_killed())
    changed = next(seen)
    assert ("DELETED", "OOMKilled") == (
        changed.kind,
        changed.object["status"]["containerStatuses"][0]["state"]["terminated"]["reason"],
    )


def test_a_watch_that_drops_goes_on_where_it_was(api, kube):
    """Nothing is told twice and nothing is missed, and the list is not read again."""
    api.dropping["pods"] = 2
    seen = kube.watch(kube.pods(lives.CLUSTER))
    assert isinstance(next(seen), Listed)
    for index in range(5):
        api.put("pods", lives.pod(f"w-{index}"))
    changes = list(itertools.islice(seen, 5))
    assert all(isinstance(one, Changed) for one in changes)
    assert [f"w-{index}" for index in range(5)] == [one.object["metadata"]["name"] for one in changes]
    assert 3 == api.n_watches("pods")
    assert 1 == sum("watch" not in one for one in api.asked)


def test_after_410_gone_everything_is_listed_again_and_who_went_meanwhile_is_named(api, news):
    """With what events still tell of it."""
    api.put("pods", lives.pod("w-1"))
    api.put("pods", lives.pod("w-2"))
    api.put("events", lives.event("Evicted", "The node had condition: [MemoryPressure].", "w-1"))
    api.gone["pods"] = lambda: api.forget("pods", "w-1")
    died = next(news)
    assert "pod w-1 of tier mem4 is gone (Evicted: The node had condition: [MemoryPressure])" == died.sentence
    assert Cause.EVICTED == died.cause
    api.put("pods", {**lives.oom_killed(), "metadata": lives.pod("w-2")["metadata"]})
    assert ("w-2", Cause.OUT_OF_MEMORY) == ((last := next(news)).pod, last.cause)


def test_what_is_forbidden_is_said_with_the_rights_that_are_wanted(api, news):
    """Once, and it is not asked again."""
    api.refused["pods"] = 403
    with pytest.raises(KubeError, match=r"^Kubernetes forbids it in namespace studies: .* bind a role .*$"):
        next(news)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "log in again"), (404, "is KubeRay installed"), (400, "Kubernetes refuses")]
)
def test_every_other_refusal_has_its_remedy(api, kube, status, words):
    """In one line."""
    api.refused["rayjobs"] = status
    with pytest.raises(KubeError, match=words):
        next(kube.watch(kube.rayjobs("study")))


def test_a_server_in_trouble_is_asked_again(api, kube):
    """It is said why, and what comes then is taken in."""
    api.refused["pods"] = 503
    seen = kube.watch(kube.pods(lives.CLUSTER))
    interrupted = next(seen)
    assert isinstance(interrupted, Interrupted)
    assert "pods is forbidden to nobody" in interrupted.reason
    api.refused.clear()
    assert Listed([]) == next(one for one in seen if isinstance(one, Listed))


def test_a_server_that_is_not_there_is_said_to_be_so(tmp_path, monkeypatch):
    """Under each name that the library has for it."""
    known(monkeypatch, kubeconfig(tmp_path / "config", "http://127.0.0.1:1"))
    kube = connect()
    interrupted = next(kube.watch(kube.pods(lives.CLUSTER)))
    assert interrupted.reason.startswith("Kubernetes does not answer: ")
    assert "\n" not in interrupted.reason


def test_without_any_kubernetes_one_line_says_how_to_name_one(tmp_path, monkeypatch):
    """Neither a pod nor a kubeconfig."""
    known(monkeypatch, tmp_path / "none")
    with pytest.raises(BackendError, match=r"^no Kubernetes is known here: .* set KUBECONFIG, .*$"):
        connect()


# The driver in a pod


@pytest.fixture
def account(tmp_path):
    """What a pod finds of its service account."""
    folder = tmp_path / "account"
    folder.mkdir()
    for name, text in {"token": "t", "namespace": "studies"}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def inside(account, monkeypatch):
    """The API server as a pod of the cluster sees it: `observed` with what such a pod has in its environment."""
    with kube_api(account) as (api, url):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", url.rpartition(":")[2])
        yield api, functools.partial(observed, {"RAY_CLUSTER_NAME": lives.CLUSTER}, account=account)


def test_a_driver_in_a_pod_finds_its_api_server_by_its_account(inside):
    """With the namespace, the token and the certificate that every pod has."""
    api, observing = inside
    notes = []
    with observing(notes.append) as observer:
        api.put("pods", lives.preempted())
        [died] = take(lambda: observer.poll(1.0), 1)
    assert "was preempted" in died.sentence
    assert [] == notes
    assert all(one.startswith("/api") and "/namespaces/studies/" in one for one in api.asked)


@pytest.mark.long
def test_a_run_in_a_pod_tells_what_became_of_other_pods(inside, tmp_path):
    """A line among the others; nothing else changes."""
    api, observing = inside
    (tmp_path / "model.py").write_text(
        "import time\ndef simulate(params, seed):\n    time.sleep(1); return {'r': {'s': seed}}"
    )
    config = RunConfig(out=tmp_path / "run", limit_memory="2Gi", limit_cpus=1)
    question = ask(Study.grid({"a": [1]}, replicates=8), f"{tmp_path}/model.py:simulate", config, "study")
    notes = []
    watcher = SimpleNamespace(note=notes.append, update=lambda _: None, planned=lambda _: None)
    after(lambda: api.n_watches("pods"), lambda: api.put("pods", lives.oom_killed()))
    outcome = execute(question, watcher, observing)
    assert (Ending.COMPLETE, 8) == (outcome.finish.ending, outcome.summary.completed)
    assert "pod study-7xk2p-mem4-worker-abcde of tier mem4 was OOMKilled at its limit of 4 Gi" in notes


def usage(memory):
    """What a metrics server tells of a pod."""
    metadata = {"name": "w-1", "labels": {"ray.io/cluster": lives.CLUSTER}}
    return {"metadata": metadata, "containers": [{"name": "ray-worker", "usage": {"cpu": "1", "memory": memory}}]}


def test_a_driver_hears_of_deaths_with_what_the_pod_was_seen_to_use(api, kube):
    """By a metrics server, where there is one; the pod's address is that of Ray's node."""
    api.put("pods", lives.pod("w-1"))
    api.put("metrics", usage("4089446Ki"))
    follower = Follower(kube, lives.CLUSTER)
    observer = PodObserver(follower)
    try:
        wait_for(lambda: follower.watch.readings)
        api.put("pods", {**lives.oom_killed(), "metadata": lives.pod("w-1")["metadata"]})
        [died] = take(lambda: observer.poll(7.0), 1)
    finally:
        observer.close()
    assert PodDied(7.0, "10.244.1.7", "pod w-1 of tier mem4 was OOMKilled at 3.9 of 4 Gi", is_memory=True) == died


def test_what_pods_use_is_read_from_a_metrics_server(api, kube):
    """And where there is none, nothing is measured."""
    follower = Follower(kube, lives.CLUSTER)
    api.put("metrics", usage("1Gi"))
    assert follower.measure()
    assert {"w-1": 2**30} == follower.watch.readings
    api.refused["metrics"] = 404
    assert not follower.measure()


def test_a_driver_knows_tiers_that_have_no_pod_yet(api, kube):
    """From the RayCluster, of which nothing is in Ray's own books."""
    api.put("rayclusters", lives.raycluster())
    observer = PodObserver(Follower(kube, lives.CLUSTER))
    observer.close()
    assert (Node(8.0, 25 * 2**30),) * 2 + (Node(8.0, 110 * 2**30),) == observer.reachable()


def test_a_driver_without_rights_says_so_once_and_goes_on(api, kube):
    """The run does not depend on it."""
    api.refused["pods"] = 403
    observer = PodObserver(Follower(kube, lives.CLUSTER))
    [said] = take(lambda: observer.poll(1.0), 1)
    observer.close()
    assert isinstance(said, ClusterSaid)
    assert said.text.startswith("pods are not watched: Kubernetes forbids it")
    assert not said.hinders


def test_a_driver_that_is_in_no_pod_of_a_cluster_is_silent(account):
    """On a laptop Kubernetes is of no interest."""
    notes = []
    for environ, folder in [({}, account), ({"RAY_CLUSTER_NAME": "c"}, account / "none")]:
        with observed(environ, notes.append, account=folder) as found:
            assert found is None
    assert [] == notes


def test_a_driver_in_a_pod_without_an_api_server_says_so_once(account, monkeypatch):
    """As where the service account is mounted and the environment was cut down."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    notes = []
    with observed({"RAY_CLUSTER_NAME": "c"}, notes.append, account=account) as found:
        assert found is None
    assert 1 == len(notes)
    assert notes[0].startswith("pods are not watched: no Kubernetes is known here")


# modelops-ray kuberay watch


def after(condition, *acts):
    """Do something in another thread once a condition holds."""

    def act():
        wait_for(condition)
        for one in acts:
            one()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_watch_tells_the_life_of_a_job_and_its_pods_and_succeeds_with_it(api):
    """A line each, as it happens."""
    api.put("rayjobs", lives.rayjob("Initializing", cluster=""))
    after(lambda: api.n_watches("rayjobs"), lambda: api.put("rayjobs", lives.rayjob("Running", "RUNNING")))
    after(lambda: api.n_watches("pods"), lambda: api.put("pods", lives.oom_killed()))
    after(
        lambda: "pods" in api.objects,
        lambda: time.sleep(0.3),
        lambda: api.put("rayjobs", lives.rayjob("Complete", "SUCCEEDED")),
    )
    result = invoke("kuberay", "watch", "study")
    assert 0 == result.exit_code, result.output
    assert [
        "RayJob study: Initializing",
        "RayJob study: Running, job RUNNING",
        "pod study-7xk2p-mem4-worker-abcde of tier mem4 was OOMKilled at its limit of 4 Gi",
        "RayJob study: Complete, job SUCCEEDED",
    ] == result.stdout.splitlines()


def test_watch_of_a_job_that_failed_exits_1_and_says_why_as_json(api):
    """One object on stdout; the lines are on stderr."""
    api.put("rayjobs", lives.rayjob("Failed", "FAILED", reason="AppFailed", message="exit code 1"))
    result = invoke("kuberay", "watch", "study", "--json", "--namespace", "studies")
    assert 1 == result.exit_code
    found = json.loads(result.stdout)
    assert ("study", False, "FAILED", "AppFailed", []) == (
        found["name"], found["succeeded"], found["job_status"], found["reason"], found["pods_died"],
    )  # fmt: skip
    assert "RayJob study: Failed, job FAILED (AppFailed: exit code 1)" == result.stderr.strip()


def test_watch_of_a_job_that_is_not_there_ends_in_one_line(api):
    """With the command that lists them."""
    result = invoke("kuberay", "watch", "nothing")
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "there is no RayJob nothing in namespace studies" in result.stderr


def test_watch_of_a_job_that_is_deleted_ends_in_one_line(api):
    """It will never end by itself."""
    api.put("rayjobs", lives.rayjob("Running", "RUNNING", cluster=""))
    after(lambda: api.n_watches("rayjobs"), lambda: api.delete("rayjobs", lives.rayjob("Running", "RUNNING")))
    result = invoke("kuberay", "watch", "study")
    assert (1, "RayJob study was deleted before it ended") == (result.exit_code, result.stderr.strip()[14:])


def test_watch_of_a_server_that_never_answers_ends_in_one_line(tmp_path, monkeypatch):
    """Or the user would find that out the next morning."""
    known(monkeypatch, kubeconfig(tmp_path / "config", "http://127.0.0.1:1"))
    result = invoke("kuberay", "watch", "study")
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "can it be reached from here" in result.stderr


def test_watch_says_once_that_a_server_does_not_answer_and_goes_on(api, kube):
    """Until it does."""
    api.dropping["rayjobs"] = 1
    api.put("rayjobs", lives.rayjob("Initializing", cluster=""))

    def break_down():
        api.refused["rayjobs"] = 503
        api.put("rayjobs", lives.rayjob("Running", "RUNNING", cluster=""))

    def recover():
        api.refused.clear()
        api.put("rayjobs", lives.rayjob("Complete", "SUCCEEDED", cluster=""))

    after(lambda: api.n_watches("rayjobs"), break_down)
    after(lambda: api.n_watches("rayjobs") > 3, recover)
    said = []
    assert follow(kube, "study", said.append).job.has_succeeded
    [trouble] = [line for line in said if "RayJob" not in line]
    assert trouble.endswith("rayjobs is forbidden to nobody; it is asked again until it answers")


@pytest.mark.long
def test_a_command_that_ends_takes_its_watches_along(api, tmp_path):
    """A thread that still waits for an answer could abort the interpreter on its way out."""
    kubeconfig(tmp_path / "config", api.url)
    command = [sys.executable, "-m", "modelops_ray", "kuberay", "watch", "nothing"]
    environ = os.environ | {"KUBECONFIG": str(tmp_path / "config")}
    for _ in range(8):
        ended = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60, text=True)
        assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines()))


def test_watch_without_rights_or_kubernetes_ends_in_one_line(api, tmp_path, monkeypatch):
    """And exit code 1."""
    api.refused["rayjobs"] = 403
    result = invoke("kuberay", "watch", "study")
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "bind a role" in result.stderr
    known(monkeypatch, tmp_path / "none")
    result = invoke("kuberay", "watch", "study")
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "set KUBECONFIG" in result.stderr
