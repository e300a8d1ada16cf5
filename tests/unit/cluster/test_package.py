"""What a study becomes as a Ray job, from facts alone."""

import shlex

import pytest

from modelops_ray.cluster.jobs import package
from modelops_ray.cluster.jobs.package import (
    Lack,
    commands,
    dashboard_address,
    entrypoint,
    exit_code,
    installer,
    lacking,
    run_arguments,
    run_directory,
    runtime_env,
    shown,
    submission_ids,
)
from modelops_ray.errors import BackendError, UsageError


@pytest.mark.parametrize(
    ("given", "environ", "address"),
    [
        ("http://head:8265", {}, "http://head:8265"),
        ("https://head/", {"RAY_ADDRESS": "http://other:8265"}, "https://head"),
        (None, {"RAY_ADDRESS": "http://other:8265"}, "http://other:8265"),
    ],
)
def test_jobs_go_to_the_address_that_is_given_or_to_that_of_the_environment(given, environ, address):
    """The option comes first, which Ray's own client would not let it."""
    assert address == dashboard_address(given, environ)


@pytest.mark.parametrize(
    ("given", "environ", "message"),
    [
        (None, {}, "no cluster is named; give --address http://HOST:8265"),
        ("ray://head:10001", {}, "--address ray://head:10001 is Ray Client's; .* http://head:8265"),
        (None, {"RAY_ADDRESS": "ray://head:10001"}, "RAY_ADDRESS ray://head:10001 is Ray Client's"),
        ("auto", {}, "--address auto is not a dashboard's.*modelops-ray run --address auto"),
        ("head:6379", {}, "--address head:6379 is not a dashboard's"),
        ("http://", {}, "--address http:// names no host"),
    ],
)
def test_an_address_that_is_no_dashboards_is_refused_with_one_that_would_be(given, environ, message):
    """One line with the remedy."""
    with pytest.raises(UsageError, match=f"^{message}"):
        dashboard_address(given, environ)


@pytest.mark.parametrize("out", ["/mnt/runs/a b", "s3://bucket/runs/x"])
def test_results_go_where_the_user_says_if_that_outlives_the_head(out):
    """Absolute paths and URIs, quoted for a shell."""
    found = run_directory(out, "runs/study-1", is_ephemeral=False)
    assert [out] == shlex.split(found)
    assert out == shown(found)


@pytest.mark.parametrize("out", ["runs/x", None])
def test_results_that_would_die_with_the_head_are_refused_unless_that_is_asked_for(out):
    """A relative path is somewhere in the head's own files."""
    with pytest.raises(
        UsageError, match=r"would be lost with the cluster's head; give an absolute path .* --ephemeral"
    ):
        run_directory(out, "runs/x", is_ephemeral=False)
    found = run_directory(out, "runs/x", is_ephemeral=True)
    assert f"{package.EPHEMERAL}/runs/x" == shown(found)


@pytest.mark.parametrize(
    ("name", "shards", "ids"),
    [
        ("sir_grid", 1, ("sir_grid-1a2b3c4d",)),
        ("my study (2)", 1, ("my-study-2-1a2b3c4d",)),
        ("§§", 1, ("study-1a2b3c4d",)),
        ("x" * 90, 1, (f"{'x' * 40}-1a2b3c4d",)),
        ("a", 3, ("a-1a2b3c4d-1-of-3", "a-1a2b3c4d-2-of-3", "a-1a2b3c4d-3-of-3")),
    ],
)
def test_jobs_are_named_after_their_study(name, shards, ids):
    """By letters that are safe in a shell and in a URL."""
    assert ids == submission_ids(name, "1a2b3c4d", shards)


def test_options_arrive_as_they_were_given_and_those_that_were_not_stay_away():
    """A shell reads the command line, and the program sees these."""
    options = {
        "memory": "4Gi", "max_failures": "5%", "retry_failed": True, "fresh": False, "window": None, "cpus": 0.5,
        "only": "-x; rm $HOME 'y'", "model": "m.py:f", "out": "/o",
    }  # fmt: skip
    command = entrypoint('"${TMPDIR:-/tmp}/a"/b', run_arguments(options))
    start = "exec python -m modelops_ray run study.json --out ${TMPDIR:-/tmp}/a/b --cpus=0.5 --max-failures=5%"
    assert [*start.split(), "--memory=4Gi", "--only=-x; rm $HOME 'y'", "--retry-failed"] == shlex.split(command)
    assert "exec python -m modelops_ray run study.json --out /o" == entrypoint("/o", [])


def test_each_job_of_a_sharded_run_does_its_part_of_the_same_run():
    """One job is the whole study, and needs no option for that."""
    start = "exec python -m modelops_ray run study.json --out /o --cpus=2"
    assert {"a-12": start} == commands("a", "12", 1, "/o", {"cpus": 2})
    parts = {"a-12-1-of-2": f"{start} --shard=1/2", "a-12-2-of-2": f"{start} --shard=2/2"}
    assert parts == commands("a", "12", 2, "/o", {"cpus": 2})


NEEDED = ("click>=8.2", "ray[default]>=2.56", "starsim>=3.0; extra == 'starsim'", "rich>=14")


def test_what_the_cluster_lacks_is_installed_as_it_is_here():
    """Our own by what we need, the model's by its version here; Ray and extras never."""
    lack = lacking(NEEDED, {"starsim": "3.0.1", "ray": "2.60", "numpy": "2.1"}, {"click": "8.3", "numpy": "2.1"})
    assert Lack(install=("rich>=14", "starsim==3.0.1")) == lack


def test_one_of_ours_that_is_too_old_there_is_installed_as_well():
    """It would not work otherwise."""
    assert ("click>=8.2", "rich>=14") == lacking(NEEDED, {}, {"click": "8.1", "RICH": "13"}).install


def test_a_package_of_the_model_that_differs_there_is_said_and_left_alone():
    """What an image has is its maker's choice; the user's is --install."""
    versions, there = {"Star.Sim": "3.0.1"}, {"star-sim": "3.1"}
    assert Lack(differ=(("Star.Sim", "3.1", "3.0.1"),)) == lacking((), versions, there)
    assert Lack(install=("star_sim==3.0.1",)) == lacking((), versions, there, ["star_sim==3.0.1"])
    assert Lack() == lacking((), {}, there, ["star-sim>=3"])


def test_a_requirement_of_the_user_comes_before_what_was_found_out():
    """Two of one distribution would not install."""
    assert ("starsim==2.0",) == lacking((), {"starsim": "3.0.1"}, {}, ["starsim==2.0"]).install


def test_a_requirement_that_is_none_is_refused():
    """Before anything is uploaded."""
    with pytest.raises(UsageError, match=r"^--install 'star sim' is not a requirement such as"):
        lacking((), {}, {}, ["star sim"])


def test_a_job_may_take_its_time_to_commit_and_installs_only_what_is_lacking():
    """Ray's own three seconds are too few for a large commit, and an empty list would still make an environment."""
    env = runtime_env("/job", "/ours/modelops_ray", Lack())
    assert {"working_dir", "py_modules", "env_vars"} == env.keys()
    assert 60 <= int(env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert ["rich>=14"] == runtime_env("/job", "/ours", Lack(install=("rich>=14",)), "uv")["uv"]


def test_what_is_lacking_is_installed_by_what_the_cluster_has():
    """Where it has nothing that installs, that is said at once and not after minutes."""
    lack = Lack(install=("rich>=14",))
    assert ("pip", "uv", "") == (
        installer(lack, {"pip": "1", "uv": "1"}),
        installer(lack, {"uv": "1"}),
        installer(Lack(), {}),
    )
    with pytest.raises(BackendError, match=r"^the cluster lacks rich>=14, and its Python has neither pip nor uv; put"):
        installer(lack, {})


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", 1, 1), ("FAILED", -9, 137), ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)  # fmt: skip
def test_a_job_ends_with_the_code_of_its_run(status, driver, code):
    """Ray only says that it failed; a driver that was killed counts as in a shell."""
    assert code == exit_code(status, driver)
