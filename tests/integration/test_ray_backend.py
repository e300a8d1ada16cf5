"""What a real Ray does to chunks, and what the driver gets to hear of it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from support.ray_workers import importable_tests
from support.toy_chunks import MIB, chunk, run_chunk

import modelops_ray as mr
from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect
from modelops_ray.backends.ray.embedded import embedded_addresses
from modelops_ray.backends.ray.task import NAMESPACE
from modelops_ray.core.events import ChunkFailed, ChunkFinished, ChunkStarted, ClusterSaid, Node
from modelops_ray.core.report import Cause
from modelops_ray.errors import BackendError, PayloadLostError

CPUS = 2
STUDY = Path(mr.__file__).parent / "examples" / "sir_grid.json"


@pytest.fixture(scope="module")
def cluster():
    """One small embedded Ray for all tests of this file; its object store is about 100 MiB.

    Its agent cannot have the port that it always takes by default.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another Ray has it
            stack.enter_context(socket.create_server(("", 52365)))
        stack.enter_context(importable_tests())
        with connect(None, environ={}, limit_memory_bytes=2048 * MIB, limit_cpus=CPUS) as cluster:
            yield cluster
        assert cluster.address not in embedded_addresses()


@pytest.fixture
def backend(cluster):
    """A backend of its own for each test."""
    backend = RayBackend(run_chunk, cluster)
    yield backend
    backend.close()


def wait_until(backend, done, patience_s=60.0):
    """Collect events until they are what is waited for."""
    events = []
    deadline_s = time.monotonic() + patience_s
    while not done(events) and time.monotonic() < deadline_s:
        events += backend.wait(1.0)
    assert done(events), events
    return events


def ended(n_chunks):
    """Make the condition that this number of chunks has ended."""
    return lambda events: sum(isinstance(event, ChunkFinished | ChunkFailed) for event in events) == n_chunks


@pytest.mark.usefixtures("cluster")
def test_a_port_that_another_ray_has_does_not_hold_up_an_embedded_one():
    """By default Ray's agent would try for seconds to get the one it always takes."""
    import ray

    log = Path(ray._private.worker.global_worker.node.get_logs_dir_path()) / "dashboard_agent.log"
    assert "Dashboard agent http address" in log.read_text()
    assert "Failed to bind" not in log.read_text()


def test_an_embedded_ray_is_joined_by_no_other_run(cluster):
    """`auto` does not find it, of Ray itself or of ours, and by its address no other run joins it."""
    from ray._private.services import find_gcs_addresses

    find_gcs_addresses.cache_clear()
    assert cluster.address not in find_gcs_addresses()
    assert cluster.address in embedded_addresses()
    command = [sys.executable, "-m", "modelops_ray", "plan", str(STUDY), "--address", cluster.address]
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (1, "", 1) == (ended.returncode, ended.stdout, len(ended.stderr.splitlines())), ended.stderr
    assert f"the Ray at {cluster.address} is one that another modelops-ray run started" in ended.stderr


def test_a_killed_worker_is_a_crash_and_the_next_chunk_runs(backend):
    """The message says what a modeller can make of it, and that the kernel did not do it."""
    backend.submit(chunk(1, kill=True))
    [event] = wait_until(backend, ended(1))
    assert (event.cause, event.error_type, event.kernel_killed) == (Cause.CRASHED, "WorkerCrashedError", False)
    assert event.message == "the worker process died: killed from outside, or a crash in native code"
    backend.submit(chunk(2))
    assert isinstance(wait_until(backend, ended(1))[0], ChunkFinished)


def test_a_node_that_cannot_run_a_chunk_says_why_and_the_chunk_is_repeated(backend):
    """The user, who waits meanwhile, is told for what."""
    backend.submit(chunk(1, **{"raise": "NodeError"}))
    said, event = wait_until(backend, ended(1))
    assert (ClusterSaid, "as told", True) == (type(said), said.text, said.hinders)
    assert (Cause.WORKER_LOST, "as told") == (event.cause, event.message)


def test_a_failed_chunk_has_no_payload(backend):
    """Nothing is kept of it."""
    backend.submit(chunk(1, kill=True))
    wait_until(backend, ended(1))
    with pytest.raises(PayloadLostError):
        backend.take(1)


def test_our_own_mistake_in_a_worker_ends_the_run(backend):
    """It names the exception, in one line."""
    backend.submit(chunk(1, **{"raise": "KeyError"}))
    with pytest.raises(BackendError, match=r"^a Ray worker failed before it could simulate: KeyError: 'as told'$"):
        wait_until(backend, ended(1))


def test_running_out_of_memory_around_a_simulation_is_out_of_memory(backend):
    """A MemoryError in the supervising code needs a larger request as well."""
    backend.submit(chunk(1, **{"raise": "MemoryError"}))
    assert wait_until(backend, ended(1))[0].cause == Cause.OUT_OF_MEMORY


@pytest.mark.long
def test_outputs_ten_times_the_object_store_are_spilled_and_come_back(backend):
    """All of them, and the number of bytes that went to disk is Ray's own."""
    for chunk_id in range(20):
        backend.submit(chunk(chunk_id, payload_mib=50))
    wait_until(backend, ended(20))
    assert backend.spilled_bytes() > 500 * MIB
    for chunk_id in range(20):
        table = backend.take(chunk_id).outputs["result"][0].table
        assert table["x"][-1].as_py() == float(chunk_id)


def test_a_later_backend_counts_its_own_spilled_bytes_only(cluster, backend):
    """The cluster may have spilled for others before, and may be doing so yet."""
    for chunk_id in range(6):
        backend.submit(chunk(chunk_id, payload_mib=50))
    wait_until(backend, ended(6))
    before_bytes = backend.spilled_bytes()
    later = RayBackend(run_chunk, cluster)
    assert before_bytes > 0
    assert later.spilled_bytes() <= backend.spilled_bytes() - before_bytes


def test_a_payload_is_read_from_the_object_store_without_a_copy(backend):
    """Arrow allocates nothing for 32 MiB of outputs."""
    backend.submit(chunk(1, payload_mib=32))
    wait_until(backend, ended(1))
    before_bytes = pa.total_allocated_bytes()
    payload = backend.take(1)
    assert payload.outputs["result"][0].table.nbytes == 32 * MIB
    assert pa.total_allocated_bytes() - before_bytes < MIB


def test_a_request_for_most_of_the_node_tells_when_it_starts(backend):
    """It waits for the small ones, is announced once while it runs, and leaves no mark behind."""
    from ray.experimental.internal_kv import _internal_kv_list

    [node] = backend.capacity().nodes
    for chunk_id in range(6):
        backend.submit(chunk(chunk_id, sleep_s=0.3))
    backend.submit(chunk(9, request_bytes=node.memory_bytes * 9 // 10, sleep_s=2.0, announce=True))
    events = wait_until(backend, ended(7))
    assert [type(event) for event in events if event.chunk_id == 9] == [ChunkStarted, ChunkFinished]
    assert not [event for event in events if isinstance(event, ChunkStarted) and event.chunk_id != 9]
    assert _internal_kv_list(backend._run, namespace=NAMESPACE) == []


def test_a_start_is_told_at_once_and_not_at_the_end_of_the_wait(backend):
    """However patient the driver is, and although nothing ends meanwhile."""
    backend.submit(chunk(1, sleep_s=60.0, announce=True))
    started_s = time.monotonic()
    assert [type(event) for event in backend.wait(50.0)] == [ChunkStarted]
    assert time.monotonic() - started_s < 40


def test_a_request_for_more_than_the_node_never_starts_and_can_be_cancelled(backend):
    """Ray waits for ever without a word: what is larger than every node must not be submitted."""
    [node] = backend.capacity().nodes
    backend.submit(chunk(1, request_bytes=2 * node.memory_bytes, announce=True))
    backend.submit(chunk(2))
    events = wait_until(backend, ended(1))
    assert [event.chunk_id for event in events] == [2]
    backend.cancel(1)
    assert backend.wait(0.0) == []


def test_cancelling_frees_the_slots_of_chunks_that_would_never_end(backend, tmp_path):
    """As many as there are CPUs hang; after their cancellation another one runs."""
    for chunk_id in range(CPUS):
        backend.submit(chunk(chunk_id, wait_for=str(tmp_path / "never")))
    backend.submit(chunk(7))
    assert backend.wait(1.0) == []
    for chunk_id in range(CPUS):
        backend.cancel(chunk_id)
    assert [event.chunk_id for event in wait_until(backend, ended(1))] == [7]


def test_what_every_chunk_shares_is_unpickled_once_per_worker(cluster, tmp_path):
    """Forty chunks, and no more readings of it than workers took part."""
    backend = RayBackend(Shared(tmp_path / "unpickled"), cluster)
    for chunk_id in range(40):
        backend.submit(chunk(chunk_id))
    events = wait_until(backend, ended(40))
    workers = {event.report.node for event in events}
    assert len((tmp_path / "unpickled").read_text().split()) == len(workers)
    backend.close()


class Shared:
    """Runs chunks and writes down where it was unpickled."""

    def __init__(self, log):
        self.log = log

    def __call__(self, chunk):
        """Run a chunk."""
        return run_chunk(chunk)

    def __reduce__(self):
        return _unpickle_shared, (self.log,)


def _unpickle_shared(log):
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return Shared(log)


def test_capacity_is_what_the_nodes_declare_and_is_read_again_after_five_seconds(cluster, monkeypatch):
    """Between two readings the driver may ask as often as it likes."""
    import ray

    now_s, readings = [100.0], []
    backend = RayBackend(run_chunk, cluster, clock=lambda: now_s[0])
    [node] = backend.capacity().nodes
    assert node == Node(CPUS, int(ray.cluster_resources()["memory"]))
    real_nodes = ray.nodes
    monkeypatch.setattr(ray, "nodes", lambda: readings.append(now_s[0]) or real_nodes())
    for at_s in (101.0, 104.9, 105.0, 106.0):
        now_s[0] = at_s
        backend.capacity()
    assert readings == [105.0]


def test_nodes_the_autoscaler_could_add_are_reachable(cluster):
    """Where an autoscaler has told Ray its groups; one without CPUs holds no simulation."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import autoscaler_pb2, autoscaler_pb2_grpc

    before = RayBackend(run_chunk, cluster).capacity().reachable
    config = autoscaler_pb2.ClusterConfig()
    for name, cpus in (("large", 8), ("gpu", 0)):
        group = config.node_group_configs.add(name=name, max_count=3)
        group.resources.update({"CPU": cpus, "memory": 2**34})
    with init_grpc_channel(cluster.address) as channel:
        stub = autoscaler_pb2_grpc.AutoscalerStateServiceStub(channel)
        for each in (config, autoscaler_pb2.ClusterConfig()):
            stub.ReportClusterConfig(autoscaler_pb2.ReportClusterConfigRequest(cluster_config=each))
            if each is config:
                reachable = RayBackend(run_chunk, cluster).capacity().reachable
    assert before == ()
    assert reachable == (Node(8.0, 2**34),) * 3


def test_closing_ends_running_chunks_and_removes_the_marks(cluster, tmp_path):
    """The worker of a chunk that would never end is free again for another backend."""
    from ray.experimental.internal_kv import _internal_kv_list

    backend = RayBackend(run_chunk, cluster)
    for chunk_id in range(CPUS):
        backend.submit(chunk(chunk_id, wait_for=str(tmp_path / "never"), announce=True))
    wait_until(backend, lambda events: len(events) == CPUS)
    backend.close()
    assert _internal_kv_list(backend._run, namespace=NAMESPACE) == []
    other = RayBackend(run_chunk, cluster)
    other.submit(chunk(1))
    wait_until(other, ended(1))
    other.close()


DEADLY = """
import os
import signal


def simulate(params, seed):
    if params["kills"] and not os.path.exists(params["mark"] + str(params["kills"])):
        open(params["mark"] + str(params["kills"]), "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"echo": {"x": seed}}
"""


def test_an_attempt_that_took_its_worker_along_has_a_row_of_what_the_run_heard(cluster, tmp_path):
    """Neither when it began nor what it used; when it ended is when the run heard of it."""
    (tmp_path / "model.py").write_text(DEADLY)
    study = mr.Study.grid({"kills": [0, 1], "mark": [str(tmp_path / "mark")]}, replicates=1)
    began = datetime.now(UTC)
    run = mr.run(
        study, model=f"{tmp_path}/model.py:simulate", out=tmp_path / "run", isolation="none", memory="100Mi",
        progress=False,
    )  # fmt: skip

    [row] = run.attempts().to_pylist()
    task_ids, limits = run.simulations()["task_id"].to_pylist(), (row.pop("request_bytes"), row.pop("limit_bytes"))
    assert 0 < limits[1] <= limits[0]
    assert began < row.pop("ended_at") < datetime.now(UTC)
    assert {
        "task_id": task_ids[1],
        "attempt": 1,
        "started_at": None,
        "node": None,
        "peak_bytes": None,
        "cause": "crashed",
        "error_type": "WorkerCrashedError",
        # Of a Ray that it did not start, it does not know what the kernel did.
        "error_message": "the worker process died: killed, perhaps because memory ran out, or a crash in native code",
        "killed_by": None,
        "follows": "raised",
        "printed": None,
    } == row
    assert [1, 2] == run.simulations()["attempts"].to_pylist()
    assert 3 == run.summary["attempts"]
