"""Runs in real object stores: the commands by URI, and what a store says that refuses, lies or does not answer."""

import json
import socket

import pyarrow.dataset as ds
import pytest
from support.commands import enter, invoke, run_locally, summary_of, write_study
from support.object_servers import Meddler
from support.stores import Clock, grid, open_store, payload
from support.studies import assert_equal_datasets, wait_for_commits

import modelops_ray as mr
from modelops_ray.errors import RunInUseError, StorageError
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage import objects
from modelops_ray.store.storage.base import UncertainError
from modelops_ray.store.storage.places import open_folder

STUDY = grid(4, 5)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a good model and a good study."""
    return enter(monkeypatch, tmp_path / "work")


@pytest.fixture
def bucket(s3, monkeypatch):
    """An empty bucket, and the environment that leads to it."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "PATIENT_RETRIES", 2)
    return s3.new_bucket()


@pytest.fixture
def meddler(bucket, s3, monkeypatch):
    """The way to the bucket leads through a proxy that can spoil requests."""
    with Meddler(s3.port) as meddler:
        monkeypatch.setenv("AWS_ENDPOINT_URL", meddler.url)
        yield meddler


# Commands


def test_a_study_runs_into_a_bucket_and_goes_on_there(work, bucket, s3):
    """`run`, `status`, `results` and `open_run` take the URI as they take a path; the tables are equal to the bit."""
    out = f"{bucket}/studies/sir"
    assert [out, 2, 2, 0] == list(summary_of(run_locally("--out", out)).values())[:4]
    write_study(work, [{"beta": 0.5}, {"beta": 1.5}, {"beta": 2.5}])
    assert {"resumed": 2, "completed": 3}.items() <= summary_of(run_locally("--out", out)).items()

    assert 3 == json.loads(invoke("status", out, "--json").stdout)["completed"]
    assert "3 of 3 simulations (100%) committed" in invoke("status", f"{out}/").stdout
    assert "3 rows written to x.csv" in invoke("results", out, "--output", "doubled", "--to", "x.csv").stdout
    run_locally("--out", "local")
    there, here = mr.open_run(out), mr.open_run("local")
    assert out == there.path
    assert here.output("doubled").equals(there.output("doubled"))
    assert not (work / "s3:").exists()
    other_library = ds.dataset(f"{out.removeprefix('s3://')}/outputs/doubled", filesystem=s3.file_system())
    assert 3 == other_library.count_rows()


def test_fresh_moves_a_run_aside_in_its_bucket(work, bucket):
    """It is a run there, under a name that says when."""
    out = f"{bucket}/studies/sir"
    run_locally("--out", out)
    write_study(work, [{"beta": 7.0}])
    assert "which study" in run_locally("--out", out).stderr
    run_locally("--out", out, "--fresh")

    old, new = sorted(open_folder(f"{bucket}/studies").names(), reverse=True)
    assert ("sir", "sir.old-") == (new, old[:8])
    assert [2, 1] == [mr.open_run(f"{bucket}/studies/{name}").simulations().num_rows for name in (old, new)]


@pytest.mark.parametrize("spoiled", ["copy", "exchange"])
def test_a_move_that_breaks_in_the_middle_can_be_made_again(bucket, meddler, spoiled):
    """What was there is complete, and a run, until all of it has been copied."""
    store = open_store(f"{bucket}/sir", STUDY)
    store.commit([payload(STUDY, range(20))], [])
    store.close("complete")

    def spoil(method, path, headers):
        names = {name.lower() for name in headers}
        is_copy, is_exchange = "x-amz-copy-source" in names, "if-match" in names and path.endswith("/run.json")
        is_spoiled = is_copy and "part-" in path if spoiled == "copy" else is_exchange
        return "refuse" if is_spoiled else "pass"

    meddler.spoil = spoil
    with pytest.raises(StorageError, match=f"{bucket}/sir.*: access denied"):
        open_store(f"{bucket}/sir", STUDY, fresh=True)
    assert 20 == RunReader(f"{bucket}/sir").simulations().num_rows

    meddler.spoil = lambda *_: "pass"
    assert 0 == open_store(f"{bucket}/sir", STUDY, fresh=True, clock=Clock()).completed
    assert 20 == RunReader(f"{bucket}/sir.old-20250301T120000Z").output("incidence").num_rows / 3


def test_a_file_uri_is_a_path(work):
    """Two ways to write one place."""
    run_locally("--out", f"file://{work}/a%20run")

    assert 2 == mr.open_run(work / "a run").simulations().num_rows


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("hdfs://host/runs", "no storage is reached by hdfs://; give a path, or a URI that begins with s3://, gs://"),
        ("s3://bucket", "names no folder in a bucket; write it as s3://BUCKET/FOLDER"),
        ("s3:///folder", "names no folder in a bucket"),
        ("az://box/a/../b", "a folder is called '', '.' or '..'"),
        ("file://elsewhere/a", "not the URI of a file of this machine; write it as file:///PATH"),
    ],
)
def test_a_uri_that_leads_nowhere_is_wrong_usage(work, out, words):
    """Before anything is asked of a network."""
    for result in (run_locally("--out", out), invoke("status", out)):
        assert (2, "") == (result.exit_code, result.stdout)
        assert words in result.stderr
        assert 1 == len(result.stderr.splitlines())


# Refusals


def refused(*arguments):
    """The one line that a command ends with."""
    result = invoke(*arguments)
    assert (1, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines())), result.stderr
    return result.stderr


@pytest.mark.parametrize("command", [("run", "study.json", "--backend", "local", "--out"), ("status",), ("results",)])
def test_a_bucket_that_is_not_there_is_no_empty_run(work, bucket, command):
    """Only objects may be missing."""
    assert "there is no bucket nowhere; create it, or give the URI of another one" in refused(
        *command, "s3://nowhere/a"
    )


def test_a_container_that_is_not_there_is_named(work, azure, monkeypatch):
    """Azure's word for it."""
    for name, value in azure.environ.items():
        monkeypatch.setenv(name, value)

    assert "az://nowhere/a: there is no container nowhere; create it" in refused("status", "az://nowhere/a")


def test_a_key_that_does_not_fit_is_named_as_the_variables_that_hold_it(work, azure, monkeypatch):
    """Azurite looks at signatures."""
    connection = azure.environ["AZURE_STORAGE_CONNECTION_STRING"].replace("Eby8", "AAAA")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)

    line = refused("status", f"{azure.new_bucket()}/run")
    assert "access denied (AuthorizationFailure); check AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACC" in line


def test_a_refusal_is_not_taken_for_a_missing_run(work, bucket, meddler):
    """Nor for a bucket that is not there."""
    meddler.spoil = lambda *_: "refuse"

    line = refused("status", f"{bucket}/run")
    assert f"{bucket}/run: access denied (AccessDenied); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in line


def test_a_server_that_is_not_there_is_named(work, bucket, monkeypatch):
    """With the variable that leads to it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        line = refused("status", f"{bucket}/run")

    assert (
        "cannot be reached; check AWS_ENDPOINT_URL and AWS_REGION, and start again, nothing committed is lost" in line
    )


def test_a_store_that_lets_every_writer_in_is_refused(bucket, meddler):
    """Some servers do not know the condition; two sessions would both believe to be alone."""
    meddler.spoil = lambda *_: "ignore condition"
    with pytest.raises(StorageError, match=r"overwrites what it was told not to.*If-None-Match"):
        open_store(f"{bucket}/run", STUDY)

    assert [] == open_folder(f"{bucket}/run").names()


def test_a_probe_that_was_left_is_no_run_and_is_removed(bucket):
    """A session was killed before it had written anything else."""
    open_folder(f"{bucket}/run").replace(".probe-0a1b", b"first")
    open_store(f"{bucket}/run", STUDY)

    assert [] == open_folder(f"{bucket}/run").leftovers()
    assert ["_commits", "progress.json", "run.json"] == open_folder(f"{bucket}/run").names()


# Answers that are lost


def conditional(method, path, headers, name):
    """Whether a request is the one that creates a file of this name."""
    return method == "PUT" and "if-none-match" in {key.lower() for key in headers} and path.endswith(name)


def test_a_commit_whose_answer_was_lost_is_ours(bucket, meddler):
    """It is repeated, and its own first attempt is not taken for another session."""
    store = open_store(f"{bucket}/run", STUDY)
    lost = []

    def lose_once(method, path, headers):
        if conditional(method, path, headers, "000002.json") and not lost:
            lost.append(path)
            return "lose answer"
        return "pass"

    meddler.spoil = lose_once
    store.commit([payload(STUDY, range(5))], [])
    store.commit([payload(STUDY, range(5, 20))], [])
    store.close("complete")

    assert 1 == len(lost)
    assert 20 == RunReader(f"{bucket}/run").simulations().num_rows


@pytest.mark.parametrize("how", ["conflict", "throttle", "slow down", "break"])
def test_a_commit_that_is_refused_for_the_moment_is_repeated(bucket, meddler, how):
    """S3 answers a conflict where another creation is under way that may fail, and is busy at times."""
    store = open_store(f"{bucket}/run", STUDY)
    refused = []

    def refuse_twice(method, path, headers):
        if conditional(method, path, headers, "000002.json") and len(refused) < 2:
            refused.append(path)
            return how
        return "pass"

    meddler.spoil = refuse_twice
    store.commit([payload(STUDY, range(20))], [])
    store.close("complete")

    assert 2 == len(refused)
    assert 20 == RunReader(f"{bucket}/run").simulations().num_rows


def test_a_conflict_that_does_not_end_is_told_as_one(bucket, meddler, monkeypatch):
    """The run can go on once it is over; its parts stay, since the commit may come to be."""
    monkeypatch.setattr(objects, "CONFLICT_PAUSES_S", (0.01, 0.01))
    store = open_store(f"{bucket}/run", STUDY)
    meddler.spoil = lambda *request: "conflict" if conditional(*request, "000002.json") else "pass"
    with pytest.raises(UncertainError, match="answered 409 ConditionalRequestConflict; start again later"):
        store.commit([payload(STUDY, range(5))], [])

    meddler.spoil = lambda *_: "pass"
    assert 0 == open_store(f"{bucket}/run", STUDY, take_over=True).completed


def test_a_conflict_with_a_session_that_took_over_ends_this_one(bucket, meddler):
    """The other creation has succeeded."""
    store = open_store(f"{bucket}/run", STUDY)
    open_store(f"{bucket}/run", STUDY, take_over=True)
    meddler.spoil = lambda *request: "conflict" if conditional(*request, "000002.json") else "pass"

    with pytest.raises(RunInUseError, match="has taken over this run directory"):
        store.commit([payload(STUDY, range(5))], [])


@pytest.mark.parametrize("how", ["lose answer", "conflict"])
def test_a_run_is_moved_aside_once_although_answers_are_lost(bucket, meddler, how):
    """The exchange of its `run.json` is repeated, and may find itself."""
    store = open_store(f"{bucket}/sir", STUDY)
    store.commit([payload(STUDY, range(20))], [])
    store.close("complete")
    spoiled = []

    def spoil_once(method, path, headers):
        if "if-match" in {key.lower() for key in headers} and path.endswith("/run.json") and not spoiled:
            spoiled.append(path)
            return how
        return "pass"

    meddler.spoil = spoil_once
    open_store(f"{bucket}/sir", STUDY, fresh=True, clock=Clock()).commit([payload(STUDY, [3])], [])

    names = ["sir", "sir.old-20250301T120000Z"]
    assert [1, 20] == [RunReader(f"{bucket}/{name}").simulations().num_rows for name in names]
    assert 1 == len(spoiled)


def test_parts_stay_where_it_is_not_known_whether_their_commit_is_there(bucket, meddler):
    """It is there, in this case; had they been removed, the run would be damaged."""
    store = open_store(f"{bucket}/run", STUDY)
    meddler.spoil = lambda *request: "lose answer" if conditional(*request, "000002.json") else "pass"
    with pytest.raises(UncertainError, match="cannot be reached"):
        store.commit([payload(STUDY, range(5))], [])

    meddler.spoil = lambda *_: "pass"
    assert 5 == open_store(f"{bucket}/run", STUDY, take_over=True).completed
    assert 5 == RunReader(f"{bucket}/run").simulations().num_rows


def test_parts_of_a_commit_that_never_came_are_removed_by_the_next_start(bucket, meddler):
    """Which settles it by a commit of its own under the same number."""
    store = open_store(f"{bucket}/run", STUDY)
    meddler.spoil = lambda *request: "break" if conditional(*request, "000002.json") else "pass"
    with pytest.raises(UncertainError, match="the object store answered 500 InternalError; start again later"):
        store.commit([payload(STUDY, range(5))], [])
    assert 1 == len(open_folder(f"{bucket}/run").names("simulations"))

    meddler.spoil = lambda *_: "pass"
    assert 0 == open_store(f"{bucket}/run", STUDY, take_over=True).completed
    assert [] == open_folder(f"{bucket}/run").names("simulations")


def test_parts_are_removed_where_the_commit_was_refused_for_good(bucket, meddler):
    """A refusal is no doubt."""
    store = open_store(f"{bucket}/run", STUDY)
    meddler.spoil = lambda *request: "refuse" if conditional(*request, "000002.json") else "pass"
    with pytest.raises(StorageError, match="access denied"):
        store.commit([payload(STUDY, range(5))], [])

    assert [] == open_folder(f"{bucket}/run").names("simulations")


# Real Ray


@pytest.mark.long
@pytest.mark.parametrize("new_place", ["s3", "azure"], indirect=True)
def test_a_run_on_ray_into_an_object_store_survives_the_death_of_its_driver(place, new_place):
    """SIGKILL in the middle, the same command again; equal to the bit to the run on a disk."""
    study = place.study([{"weight": weight, "sleep_s": 0.2} for weight in range(8)], replicates=8)
    out = new_place("run")
    small = {"limit_memory": "1Gi", "limit_cpus": "2"}
    command = place.start(study, out, "--chunk", "2", **small)
    wait_for_commits(command, out, 1)
    command.kill_alone()
    assert 0 < mr.open_run(out).status().completed < 64
    ended = place.run(study, out, **small)
    assert (0, 64, out) == (ended.code, ended.summary["completed"], ended.summary["run_dir"])
    assert ended.summary["resumed"] > 0
    assert 0 == place.run(study, place.folder / "here", "--backend", "local").code

    assert_equal_datasets(place.folder / "here", out)
