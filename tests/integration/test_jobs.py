"""Studies sent to a real cluster as Ray jobs: through its dashboard, over HTTP, with nodes as processes."""

import contextlib
import ensurepip
import http.server
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from support.commands import invoke, summary_of
from support.ray_cluster import MIB, PATIENCE_S, ray_cluster
from support.ray_workers import TESTS
from support.studies import MODEL, Place, assert_equal_datasets, n_committed, rows, wait_until
from support.toy_chunks import chunk, run_chunk

import modelops_ray as mr
from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect
from modelops_ray.cluster.jobs.dashboard import Dashboard
from modelops_ray.cluster.jobs.package import Lack, runtime_env
from modelops_ray.core.events import ChunkFinished
from modelops_ray.errors import BackendError, UsageError

ONE_NODE = ("--num-cpus=1", f"--memory={600 * MIB}")
pytestmark = pytest.mark.timeout(900)

TOKEN = "5" * 64
NO_JOB = "modelops-ray: there is no job study-0"


@pytest.fixture
def folder():
    """A temporary folder with a path short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="j-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def cluster():
    """A Ray that another user has started: a head with its dashboard, whose workers can run the chunks of tests."""
    with (
        tempfile.TemporaryDirectory(prefix="j-", dir="/tmp", ignore_cleanup_errors=True) as path,
        ray_cluster(Path(path), *ONE_NODE, PYTHONPATH=str(TESTS)) as found,
    ):
        yield found


@pytest.fixture
def here(tmp_path, folder):
    """Where the user who submits works: a folder with a model and studies."""
    return Place(tmp_path, folder / "at-home")


def call(here, *arguments, cwd=None):
    """Start `modelops-ray` with these arguments in a process of its own."""
    here.tmp.mkdir(exist_ok=True)
    return here.spawn([sys.executable, "-m", "modelops_ray", *map(str, arguments)], cwd)


def submit(here, cluster, study, *options):
    """Submit a study and return the name of its job."""
    ended = call(here, "submit", study, "--address", cluster.address, *options).wait()
    assert 0 == ended.code, ended.stderr
    return ended.stdout.strip()


def jobs(here, cluster, *arguments):
    """Call `modelops-ray jobs`."""
    return call(here, "jobs", *arguments, "--address", cluster.address).wait()


def drivers(cluster):
    """The processes on the cluster that are drivers of a run."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (place / "cmdline").read_bytes().split(b"\0")
            marked = f"TMPDIR={cluster.folder}/head".encode() in (place / "environ").read_bytes()
            if marked and command[1:4] == [b"-m", b"modelops_ray", b"run"]:
                found.append(int(place.name))
    return found


def test_a_submitted_study_ends_with_the_code_of_its_run_and_can_be_looked_at(here, cluster):
    """One head, one job, and all that can be asked about it."""
    study = here.study([{"set": 1}, {"set": 2}])
    out = here.folder / "out"
    to = ("--address", cluster.address)
    ended = invoke("submit", study, *to, "--out", out, "--wait", "--json")
    assert 0 == ended.exit_code, ended.stderr
    assert "found there  Python 3" in ended.stderr
    assert "uploads      model model.py:simulate (1 file" in ended.stderr
    found = summary_of(ended)
    assert (0, str(out)) == (found["exit_code"], found["run_dir"])
    [job] = [each["id"] for each in found["jobs"]]
    assert job.startswith("study-")
    assert {"completed"} == {row["status"] for row in rows(out)}

    listed = summary_of(invoke("jobs", "list", *to, "--json"))["jobs"]
    assert (job, "SUCCEEDED", str(out)) in [(each["id"], each["status"], each["run_dir"]) for each in listed]
    assert job in invoke("jobs", "list", *to).stdout
    assert "state          succeeded" in invoke("jobs", "status", job, *to).stdout
    assert "results        2 of 2 simulations" in invoke("jobs", "logs", job, *to).stdout
    assert f"{job} had ended before: succeeded" in invoke("jobs", "stop", job, *to).stderr
    for command in ("status", "logs", "stop"):
        unknown = invoke("jobs", command, "study-0", *to)
        assert (2, f"{NO_JOB} at {cluster.address}; modelops-ray jobs list names all\n") == (
            unknown.exit_code, unknown.stderr
        )  # fmt: skip


def test_what_a_model_reads_travels_with_it(here, cluster, monkeypatch):
    """At its import, in simulations, beside its folder, and what is declared relative to where the command is typed."""
    models = here.folder / "models"
    (models / "data").mkdir(parents=True)
    for name in ("models/table.csv", "models/data/late.csv", "shared.csv", "deep.bin"):
        (here.folder / name).write_text("1")
    (models / "reads.py").write_text(
        "import os\nfrom pathlib import Path\nTABLE = Path('table.csv').read_text()\n"
        "def simulate(params, seed):\n"
        "    deep = os.popen('cat ../deep' + '.bin').read()\n"
        "    late = Path('data/late.csv').read_text() + Path('../shared.csv').read_text()\n"
        "    return {'r': {'x': TABLE + late + deep}}\n"
    )
    study = here.study([{"set": 1}, {"set": 2}])
    out = here.folder / "out"
    monkeypatch.chdir(models)
    asked = ("submit", study, "--address", cluster.address, "--model", "reads.py:simulate")
    missing = invoke(*asked, "--out", out, "--include", "../no.bin")
    assert (2, True) == (missing.exit_code, "--include: ../no.bin does not exist in " in missing.stderr)
    ended = invoke(*asked, "--out", out, "--include", "../deep.bin", "--wait")
    assert 0 == ended.exit_code, ended.stderr
    assert ["1111", "1111"] == mr.open_run(out).output("r")["x"].to_pylist()
    (here.folder / "deep.bin").write_text("2")
    local = invoke("run", study, "--backend", "local", "--out", out, "--model", "reads.py:simulate")
    assert "../deep.bin has changed since 2 results used it" in local.stderr


def run_one(joined):
    """Run one chunk and return how it ended."""
    backend = RayBackend(run_chunk, joined)
    backend.submit(chunk(1))
    [event] = backend.wait(60.0)
    backend.close()
    return event


def test_a_running_ray_is_joined_in_every_way_and_stays(cluster, monkeypatch):
    """By `auto`, by its address, by RAY_ADDRESS, or because this process is connected already."""
    import ray

    monkeypatch.setenv("RAY_TMPDIR", str(cluster.folder / "head"))
    running = cluster.gcs_address
    for address, environ in [("auto", {}), (None, {"RAY_ADDRESS": running})]:
        with connect(address, environ=environ) as joined:
            assert (joined.address, joined.owned) == (running, False)
            assert isinstance(run_one(joined), ChunkFinished)
        assert not ray.is_initialized()
    with connect(running, environ={}), connect(None, environ={"RAY_ADDRESS": "10.0.0.1:1"}) as joined:
        assert joined.address == running
        with pytest.raises(UsageError, match="connected to the Ray at"), connect("10.0.0.1:1", environ={}):
            pass
        with pytest.raises(UsageError, match="--limit-memory"), connect(None, environ={}, limit_memory_bytes=MIB):
            pass
    assert cluster.is_alive


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--address", "http://127.0.0.1:1"],
            2,
            "no --out: the results would be lost with the cluster's head; give an ",
        ),
        (
            ["--address", "http://127.0.0.1:1", "--out", "runs/x"],
            2,
            "--out runs/x: the results would be lost with the ",
        ),
        (["--out", "/x"], 2, "no cluster is named; give --address http://HOST:8265"),
        (["--out", "/x", "--address", "ray://head:10001"], 2, "--address ray://head:10001 is Ray Client's; "),
        (["--out", "/x", "--address", "http://127.0.0.1:1"], 1, "no dashboard of Ray answers at http://127.0.0.1:1; "),
        (["--out", "/x", "--address", "http://h", "--cpus", "0"], 2, "--cpus 0 is out of range"),
        (["--out", "/x", "--address", "http://h", "--follow", "--shards", "2"], 2, "--follow shows one job; give "),
        (["--out", "/x", "--address", "http://h", "--shards", "0"], 2, "Invalid value for '--shards': 0 is not in "),
        (["--out", "/x", "--address", "http://h", "--limit-memory", "1Gi"], 2, "No such option '--limit-memory'"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_line(here, monkeypatch, arguments, code, message):
    """Before anything is sent anywhere."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ended = invoke("submit", here.study([{"set": 1}]), *arguments)
    assert (code, "", f"modelops-ray: {message}") == (
        ended.exit_code, ended.stdout, ended.stderr[: len(message) + len("modelops-ray: ")]
    )  # fmt: skip
    assert 1 == ended.stderr.count("\n")


@pytest.mark.parametrize(("status", "body"), [(404, b"what?"), (200, b"<html>a shop</html>")])
def test_a_server_that_is_no_dashboard_is_told_apart(status, body):
    """By its status or by its body."""

    class Shop(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(BackendError, match=r"^no dashboard of Ray answers at .*; is the head running"):
            Dashboard(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.long
def test_what_a_job_prints_is_followed_to_its_end_and_its_code_arrives(here, folder):
    """Everything once and in order, whether from the beginning or by attaching again after Ctrl-C."""
    model = (here.folder / "model.py").read_text()
    (here.folder / "model.py").write_text(model + "\n\ndef bad(params, seed):\n    raise ValueError('no luck')\n")
    study = here.study([{"sleep_s": 0.5 + i / 1000} for i in range(40)])
    with ray_cluster(folder, *ONE_NODE) as cluster:
        arguments = ("submit", study, "--address", cluster.address, "--out", here.folder / "out", "--follow")
        first = call(here, *arguments)
        wait_until(lambda: "of 40 done" in first.stdout.read_text(), "a line of progress")
        first.signal_group(signal.SIGINT)
        detached = first.wait()
        assert 130 == detached.code
        hint = detached.stderr.splitlines()[-1]
        assert hint.startswith("modelops-ray: the job goes on; see it again: modelops-ray jobs logs study-")
        job = hint.split("jobs logs ")[1].split()[0]
        followed = jobs(here, cluster, "logs", job, "--follow")
        assert (0, Dashboard(cluster.address).log(job)) == (followed.code, followed.stdout)
        assert followed.stdout.startswith(detached.stdout[:200])
        bad = call(
            here, "submit", study, "--model", "model.py:bad", "--address", cluster.address,
            "--out", "runs/bad one", "--ephemeral", "--follow",
        ).wait()  # fmt: skip
        assert (folder / "head" / "modelops-ray-ephemeral" / "runs" / "bad one" / "run.json").exists()
        assert (1, True) == (bad.code, "no luck" in bad.stdout), bad.stdout


@pytest.mark.long
def test_a_stopped_job_has_committed_what_it_finished_and_the_same_submission_goes_on(here, folder):
    """SIGTERM through the dashboard is Ctrl-C from afar."""
    study = here.study([{"sleep_s": 0.5 + i / 1000} for i in range(40)])
    out = here.folder / "out"
    with ray_cluster(folder, *ONE_NODE) as cluster:
        job = submit(here, cluster, study, "--out", out)
        wait_until(lambda: 4 <= n_committed(out) < 40, "commits")
        stopped = jobs(here, cluster, "stop", job)
        assert (0, f"modelops-ray: {job}: stopped; submit the study again to go on\n") == (stopped.code, stopped.stderr)
        assert "stopped by SIGTERM" in jobs(here, cluster, "logs", job).stdout
        assert json.loads(jobs(here, cluster, "status", job, "--json").stdout)["exit_code"] == 130
        before = n_committed(out)
        assert 4 <= before < 40
        rest = mr.submit(study, address=cluster.address, out=str(out), progress=False)
        assert 0 == rest.wait()
        assert f"already there  {before}" in rest.logs()
        assert 40 == n_committed(out)
        rest.stop()
        assert ["SUCCEEDED"] == [state.status for state in rest.states()]


@pytest.mark.long
def test_a_job_that_takes_longer_than_rays_three_seconds_to_end_is_waited_for(here, folder):
    """A large commit on slow storage does."""
    slow = "trap 'sleep 6; echo committed; exit 130' TERM; echo ready; while :; do sleep 0.1; done"
    with ray_cluster(folder, *ONE_NODE) as cluster:
        dashboard = Dashboard(cluster.address)
        env = runtime_env(str(here.folder), str(Path(mr.__file__).parent), Lack())
        dashboard.submit("slow", slow, env, {})
        wait_until(lambda: "ready" in dashboard.log("slow"), "the job")
        assert 0 == jobs(here, cluster, "stop", "slow").code
        assert "committed" in dashboard.log("slow").splitlines()


@pytest.mark.long
def test_what_the_image_lacks_is_installed_or_the_job_says_what_is_not_to_be_had(here, folder, monkeypatch):
    """A distribution that is here, that the model imports, and that the cluster has not."""
    bundled = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    if not bundled:
        pytest.skip("needs the pip that comes with Python")
    for name in ("wheels", "site"):
        (folder / name).mkdir()
    make_wheel(folder / "wheels", "epi_numbers", "1.0")
    make_installed(folder / "site", "epi_numbers", "1.0")
    monkeypatch.setitem(here.environ, "PYTHONPATH", str(folder / "site"))
    (here.folder / "model.py").write_text(
        "import epi_numbers\n\n\ndef simulate(params, seed):\n    return {'x': {'y': epi_numbers.SEVEN}}\n"
    )
    study, out = here.study([{"set": 1}]), here.folder / "out"
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels"), "PYTHONPATH": str(bundled[-1])}
    with ray_cluster(folder, *ONE_NODE, **pip) as cluster:
        arguments = ("submit", study, "--address", cluster.address, "--out", out, "--wait")
        ended = call(here, *arguments).wait()
        assert "installs     epi_numbers==1.0" in ended.stderr
        assert 0 == ended.code, ended.stderr
        assert [7] == mr.open_run(out).output("x")["y"].to_pylist()
        missing = call(here, *arguments, "--install", "epi-unknown==2").wait()
        assert (1, True) == (missing.code, "epi-unknown==2" in missing.stderr.splitlines()[-1]), missing.stderr


@pytest.mark.long
def test_a_cluster_that_wants_a_token_takes_jobs_with_it_and_says_so_without(here, folder, monkeypatch):
    """By the variables that Ray's own tools read; nothing is written to a home folder."""
    monkeypatch.setitem(here.environ, "HOME", str(here.folder))
    study = here.study([{"set": 1}])
    with ray_cluster(folder, *ONE_NODE, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as cluster:
        refusal = f"modelops-ray: the dashboard at {cluster.address} wants another token; set RAY_AUTH_MODE=token"
        arguments = ("submit", study, "--address", cluster.address, "--out", here.folder / "out", "--follow")

        def refused(**environ):
            here.environ |= environ
            ended = call(here, *arguments).wait()
            return (1, refusal) == (ended.code, ended.stderr.splitlines()[-1][: len(refusal)])

        assert refused()
        assert refused(RAY_AUTH_MODE="token")
        assert refused(RAY_AUTH_TOKEN="6" * 64)
        del here.environ["RAY_AUTH_TOKEN"]
        (here.folder / "token").write_text(TOKEN)
        here.environ["RAY_AUTH_TOKEN_PATH"] = str(here.folder / "token")
        ended = call(here, *arguments).wait()
        assert (0, True) == (ended.code, "results        1 of 1" in ended.stdout), ended.stderr
    assert not (here.folder / ".ray").exists()


@pytest.mark.long
def test_a_cluster_whose_python_does_not_run_is_found_out_before_anything_is_uploaded(folder, monkeypatch):
    """As where the image has Ray in an environment that is not on the path; or where no job ever starts."""
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text("#!/bin/sh\necho python is for members only >&2; exit 3\n")
    python.chmod(0o755)
    with ray_cluster(folder, *ONE_NODE, PATH=f"{folder}/bin:{os.environ['PATH']}") as cluster:
        dashboard = Dashboard(cluster.address)
        with pytest.raises(
            BackendError, match=r"^`python` does not work on the head of .*: python is for members only; "
        ):
            dashboard.look()
        monkeypatch.setattr("modelops_ray.cluster.jobs.dashboard.LOOK_TIMEOUT_S", 0.0)
        with pytest.raises(BackendError, match=r"has not started a job within 0 s; `ray job list --address .* shows"):
            dashboard.look()


@pytest.mark.long
def test_a_head_that_is_gone_while_a_job_is_looked_at_is_said(here, folder, monkeypatch):
    """After a while, for port forwards and heads come back."""
    monkeypatch.setattr("modelops_ray.cluster.jobs.dashboard.LOST_S", 2.0)
    study = here.study([{"sleep_s": 600}])
    with ray_cluster(folder, *ONE_NODE) as cluster:
        sent = mr.submit(study, address=cluster.address, out=str(here.folder / "out"), progress=False)
        followed = sent.follow()
        next(followed)
        cluster.close()
        with pytest.raises(BackendError, match="no dashboard of Ray answers"):
            list(followed)
        with pytest.raises(BackendError, match="no dashboard of Ray answers"):
            sent.wait()


@pytest.mark.long
def test_a_study_uses_nodes_of_three_sizes_and_survives_the_loss_of_a_node_and_of_its_driver(here, folder):
    """Large simulations run where there is room; after all that the results are those of an undisturbed run."""
    # The time they take is the cluster's matter and not part of their identity.
    at_home, slowly = 'params.get("sleep_s", 0)', 'float(os.environ.get("TEST_SLEEP_S", 0))'
    (here.folder / "model.py").write_text(MODEL.replace(at_home, slowly))
    sizes_mb = [20] * 60 + [120] * 12 + [420] * 6
    sets = [{"touch_mb": mb, "weight": i} for i, mb in enumerate(sizes_mb)]
    study, calm, out = here.study(sets), here.folder / "calm", here.folder / "out"
    here.tmp.mkdir(exist_ok=True)
    assert 0 == here.run(study, calm, "--backend", "local").code
    with ray_cluster(folder, TEST_SLEEP_S="1.5") as cluster:
        cluster.start_node("mem1", 400 * MIB)
        middle = cluster.start_node("mem2", 500 * MIB)
        cluster.start_node("mem3", 1200 * MIB)
        # Given by the user it is enforced; this machine has room for what a learned one only asks for.
        options = ("--out", out, "--memory", "120Mi", "--attempts", "8")
        job = submit(here, cluster, study, *options)
        wait_until(lambda: 6 <= n_committed(out), "commits")
        cluster.kill_node(middle)
        before = n_committed(out)
        wait_until(lambda: before + 4 <= n_committed(out), "commits after the loss of a node")
        [driver] = drivers(cluster)
        os.kill(driver, signal.SIGKILL)
        killed = Dashboard(cluster.address).wait(job, PATIENCE_S)
        assert ("FAILED", 137) == (killed.status, killed.exit_code)
        before = n_committed(out)
        assert before < len(sets)
        cluster.start_node("mem2b", 500 * MIB)
        again = call(here, "submit", study, "--address", cluster.address, *options, "--follow").wait(400.0)
        assert 0 == again.code, again.stdout + again.stderr
    assert_equal_datasets(calm, out)
    found = rows(out)
    large = [row for row in found if row["param_touch_mb"] == 420]
    assert all(500 * MIB < row["request_bytes"] <= 1200 * MIB for row in large)
    nodes = {row["node"] for row in found}
    if "mem3" in nodes:
        assert {"mem3"} == {row["node"] for row in large}
        assert {"mem1", "mem3"} < nodes


def make_wheel(folder, name, version):
    """Write a wheel of one module."""
    import zipfile

    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files_of_distribution(name, version).items():
            wheel.writestr(path, text)


def make_installed(folder, name, version):
    """Lay a distribution out as if it were installed."""
    for path, text in files_of_distribution(name, version).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def files_of_distribution(name, version):
    """The files of a distribution of one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "SEVEN = 7\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/top_level.txt": f"{name}\n",
    }
    return files | {f"{info}/RECORD": "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])}
