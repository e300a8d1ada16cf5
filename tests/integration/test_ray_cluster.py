"""Rays that are started, joined, refused, killed, and gone without a trace."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from support.ray_workers import importable_tests
from support.shared_memory import left_behind, shared_files
from support.toy_chunks import MIB, chunk, run_chunk

import modelops_ray as mr
from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect
from modelops_ray.backends.ray.embedded import _private_folder
from modelops_ray.core.report import Cause
from modelops_ray.errors import BackendError, PayloadLostError, UsageError
from modelops_ray.sandbox.machine import available_memory_bytes

STUDY = Path(mr.__file__).parent / "examples" / "sir_grid.json"
CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.fixture(autouse=True)
def workers_import_tests():
    """Every Ray that a test starts can run the chunks of tests."""
    with importable_tests() as patch:
        yield patch


@pytest.fixture
def folder():
    """A temporary folder with a path short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


def processes(word):
    """The ids of the processes whose command line has a word in it."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word in path.read_text().replace("\0", " "):
                found.add(int(path.parent.name))
    return found


def wait_for(condition, patience_s=90.0):
    """Look ten times a second until something holds."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def driver(action, folder, **environ):
    """The command and the environment of a driver process of its own."""
    return {
        "args": [sys.executable, "-W", "error", "-m", "support.ray_driver", action],
        "env": {**os.environ, "TMPDIR": str(folder), **environ},
        "text": True,
    }


def test_an_embedded_ray_keeps_to_its_limits_and_leaves_nothing_behind(folder, monkeypatch):
    """No process, no session or spilled file, nothing in shared memory, although a chunk was running."""
    import ray

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    shared = shared_files()
    with connect(None, environ={}, limit_memory_bytes=2048 * MIB, limit_cpus=3) as cluster:
        assert (cluster.owned, ray.cluster_resources()["CPU"]) == (True, 3.0)
        assert 64 * MIB <= ray.cluster_resources()["memory"] < 2048 * MIB
        backend = RayBackend(run_chunk, cluster)
        for chunk_id in range(6):
            backend.submit(chunk(chunk_id, payload_mib=50))
        seen = 0
        while seen < 6:
            seen += len(backend.wait(10.0))
        backend.submit(chunk(9, sleep_s=600.0))
        [ours] = folder.iterdir()
        assert ours.stat().st_mode & 0o777 == 0o700
        assert any(path.is_file() for path in ours.glob("spill/*/*"))
        assert processes(str(folder))
    wait_for(lambda: not processes(str(folder)), patience_s=5.0)
    assert list(folder.iterdir()) == []
    wait_for(lambda: not left_behind(shared), patience_s=5.0)


def test_a_ray_that_is_not_up_in_time_is_one_line_and_leaves_nothing(folder, monkeypatch):
    """Ray says so by a plain exception, after its first processes have started."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr("ray._private.node.Node.start_raylet", late)
    why = r"^Ray does not start on this machine: The current node timed out"
    with pytest.raises(BackendError, match=why), connect(None, environ={}, limit_memory_bytes=1536 * MIB, limit_cpus=1):
        pass
    wait_for(lambda: not processes(str(folder)), patience_s=5.0)
    assert [] == list(folder.iterdir())


def late(_node, *_arguments, **_options):
    """Give up as Ray does."""
    raise Exception("The current node timed out during startup.\nThis could happen")  # noqa: TRY002 (as Ray does)


def test_a_killed_driver_takes_its_ray_along_and_the_next_start_removes_its_files(folder, monkeypatch):
    """SIGKILL leaves the driver no time to tidy up."""
    with subprocess.Popen(**driver("hang", folder), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    wait_for(lambda: not processes(str(folder)))
    [left] = folder.iterdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with _private_folder():
        assert not left.exists()


@pytest.mark.alone
def test_a_kill_by_the_memory_monitor_of_ray_is_out_of_memory(folder):
    """The driver learns how much the simulation had; of Ray itself not a word is on stdout or stderr."""
    if available_memory_bytes() < 4096 * MIB:
        pytest.skip("needs 4 GiB of free memory")
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(meminfo[key].split()[0]) // 1024 for key in ("MemTotal", "MemAvailable"))
    threshold = (total - available + 1536) / total
    environ = {"RAY_memory_usage_threshold": f"{threshold:.4f}", "RAY_memory_monitor_refresh_ms": "50"}
    result = subprocess.run(**driver("eat", folder, **environ), capture_output=True, check=True, timeout=120)
    ended = json.loads(result.stdout)
    assert (ended["cause"], ended["kernel_killed"]) == ("out_of_memory", None)
    assert 100 * MIB < ended["used_bytes"] < 6000 * MIB
    assert result.stderr == ""


@pytest.mark.cgroup
def test_a_kill_by_the_kernel_is_a_crash_that_says_so(folder):
    """In a cgroup of 1.5 GiB inside a larger one, whose limit Ray's monitor does not see."""
    group = CGROUP / f"modelops-ray-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs root and a writable memory cgroup of version 1")
    try:
        (group / "memory.limit_in_bytes").write_text(str(1536 * MIB))
        arguments = driver("eat", folder)
        arguments["args"] = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *arguments["args"]]
        result = subprocess.run(**arguments, capture_output=True, check=True, timeout=120)
        ended = json.loads(result.stdout)
        assert (ended["cause"], ended["kernel_killed"]) == ("crashed", True)
        wait_for(lambda: not (group / "cgroup.procs").read_text())
    finally:
        group.rmdir()


@contextlib.contextmanager
def ray_start(folder, *arguments):
    """Run `ray start` until the end of the context, then end its process group by force."""
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "start", "--block", "--num-cpus=1", f"--object-store-memory={80 * MIB}", *arguments]
    with (folder / f"{uuid.uuid4().hex}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not processes(str(folder)))


@pytest.mark.long
def test_a_ray_that_wants_a_token_is_joined_by_it_or_says_so(place, tmp_path):
    """`auto` takes the one in the home directory, an address needs to be told to; else one line names the remedy."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("1" * 64)
    place.environ |= {"HOME": str(tmp_path), "RAY_TMPDIR": str(place.tmp)}
    study = place.study([{"set": 1}])
    head = ("ray", "start", "--head", "--block", "--num-cpus=1", "--port=0", "--include-dashboard=false")
    ray = place.spawn([str(Path(sys.executable).with_name(head[0])), *head[1:], f"--temp-dir={place.tmp}"])
    wait_for((place.tmp / "ray_current_cluster").exists)
    address = (place.tmp / "ray_current_cluster").read_text()

    def join(to, **environ):
        place.environ |= environ
        command = [sys.executable, "-m", "modelops_ray", "run", str(study), "--fresh", "--out", str(tmp_path / "run")]
        return place.spawn([*command, "--address", to]).wait()

    assert 0 == join("auto").code
    refused = join(address)
    assert (1, True) == (refused.code, "set RAY_AUTH_MODE=token" in refused.stderr.splitlines()[-1])
    assert 0 == join(address, RAY_AUTH_MODE="token").code
    wrong = join(address, RAY_AUTH_TOKEN="0" * 64)
    assert (1, True) == (wrong.code, "wants a token" in wrong.stderr.splitlines()[-1])
    ray.signal_group(signal.SIGKILL)
    ray.process.wait()


@pytest.mark.long
def test_what_ran_on_a_node_that_died_is_lost_with_its_payloads(folder, monkeypatch):
    """The chunk that ran there is repeated elsewhere, the one that had finished there as well."""
    monkeypatch.setenv("RAY_health_check_period_ms", "300")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "2")
    large_bytes = 2048 * MIB
    with connect(None, environ={}, limit_memory_bytes=1536 * MIB, limit_cpus=1) as cluster:
        backend = RayBackend(run_chunk, cluster)
        with ray_start(folder, f"--address={cluster.address}", f"--memory={large_bytes}") as node:
            backend.submit(chunk(1, request_bytes=large_bytes, payload_mib=1))
            assert [event.chunk_id for event in backend.wait(60.0)] == [1]
            backend.submit(chunk(2, request_bytes=large_bytes, sleep_s=600.0, announce=True))
            assert [event.chunk_id for event in backend.wait(60.0)] == [2]
            os.killpg(node.pid, signal.SIGKILL)
            [event] = backend.wait(60.0)
            assert event.cause in {Cause.NODE_LOST, Cause.CRASHED}
            with pytest.raises(PayloadLostError, match="chunk 1"):
                backend.take(1)
            wait_for(lambda: len(backend.capacity().nodes) == 1)
        backend.close()


@pytest.mark.long
def test_a_ray_whose_node_process_died_ends_the_run_in_one_line(folder, monkeypatch):
    """Nothing can go on without the raylet of the driver itself; the next chunk in the queue finds that out."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with connect(None, environ={}, limit_memory_bytes=1536 * MIB, limit_cpus=1) as cluster:
        backend = RayBackend(run_chunk, cluster)
        backend.submit(chunk(1, sleep_s=600.0, announce=True))
        backend.submit(chunk(2))
        assert [event.chunk_id for event in backend.wait(60.0)] == [1]
        [raylet] = processes(f"--raylet_socket_name={folder}")
        os.kill(raylet, signal.SIGKILL)
        assert 0 == backend.spilled_bytes()
        with pytest.raises(BackendError, match=r"^Ray failed: LocalRayletDiedError: .*$"):
            backend.wait(60.0)


def test_an_own_ray_whose_gcs_is_killed_is_one_line_and_ends_within_seconds(folder, monkeypatch):
    """Ray itself would wait a minute for it and then end this process, with what had finished not committed."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with connect(None, environ={}, limit_memory_bytes=1536 * MIB, limit_cpus=1) as cluster:
        backend = RayBackend(run_chunk, cluster)
        backend.submit(chunk(1))
        assert [1] == [event.chunk_id for event in backend.wait(60.0)]
        backend.submit(chunk(2, sleep_s=600.0))
        [gcs] = [pid for pid in processes(str(folder)) if "gcs_server" == comm_of(pid)]
        os.kill(gcs, signal.SIGKILL)
        killed_s = time.monotonic()
        with pytest.raises(BackendError, match=r"^Ray failed: its GCS at .* is gone: .*; start the same command again"):
            wait_for(lambda: backend.wait(0.2))
        assert backend.take(1) is not None
        assert 0 == backend.spilled_bytes()
        backend.close()
    assert time.monotonic() - killed_s < 15
    wait_for(lambda: not processes(str(folder)), patience_s=15.0)


def comm_of(pid):
    """The name of a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "no-such-host.invalid:6379"])
def test_an_address_where_no_ray_is_ends_in_one_line_within_seconds(address):
    """It is named as it was given; Ray itself would try for two minutes and then end the process."""
    started_s = time.monotonic()
    with (
        pytest.raises(BackendError, match=rf"^no Ray answers at {re.escape(address)}; .*$"),
        connect(address, environ={}),
    ):
        pass
    assert time.monotonic() - started_s < 10


def test_auto_without_a_ray_says_how_to_get_one(folder, monkeypatch):
    """It neither starts one nor hangs."""
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    with pytest.raises(BackendError, match="no Ray runs on this machine"), connect("auto", environ={}):
        pass


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "https://head"])
@pytest.mark.parametrize("where", ["option", "environment"])
def test_an_address_for_jobs_is_refused_with_the_command_that_takes_it(address, where):
    """A driver far away from the cluster would lose it with its connection."""
    option, environ = (address, {}) if where == "option" else (None, {"RAY_ADDRESS": address})
    with (
        pytest.raises(UsageError, match="use modelops-ray submit STUDY --address http://head:8265"),
        connect(option, environ=environ),
    ):
        pass


@pytest.mark.parametrize(
    "address", ["ftp://head:21", "nonsense", "head:0", "head:65536", "head:²", "a\nb:1", "::1:6379", " "]
)
def test_an_address_that_is_none_is_refused(address):
    """Both forms that would do are named or implied."""
    with pytest.raises((UsageError, BackendError), match="HOST:PORT"), connect(address, environ={}):
        pass


def test_too_small_a_limit_is_refused_before_anything_starts(folder, monkeypatch):
    """With what Ray needs at least."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(BackendError, match="too little for Ray"), connect(None, environ={}, limit_memory_bytes=MIB):
        pass
    assert list(folder.iterdir()) == []
