"""Failures made to happen on a real Ray: memory, kills, signals, spilling; each run is a command of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from support.studies import assert_equal_datasets, n_committed, rows, wait_for_commits, wait_until

from benchmarks.cgroups import memory_cgroup, why_not
from modelops_ray.store.reader import RunReader

GIB = 2**30
MB = 10**6
cgroup = pytest.mark.skipif(bool(why_not()), reason=why_not() or "cgroups can be made")


@cgroup
@pytest.mark.cgroup
@pytest.mark.long
def test_a_tenth_of_the_sets_may_need_five_times_the_memory_without_saying_so(place, tmp_path):
    """In a real memory cgroup of 3 GiB everything completes with bounded retries, and peaks are what was touched."""
    sets = [{"touch_mb": 500 if i % 10 == 5 else 100, "sleep_s": 0.05, "set": i} for i in range(40)]
    with memory_cgroup(3 * GIB) as group:
        ended = place.run(place.study(sets, 2), tmp_path / "run", within=group.entering, limit_memory="3Gi")
    assert 0 == ended.code, ended.stderr
    assert 80 == ended.summary["completed"]
    assert ended.summary["attempts"] <= 110
    for row in rows(tmp_path / "run"):
        assert 0.96 * row["param_touch_mb"] * MB <= row["peak_bytes"] <= 1.3 * row["param_touch_mb"] * MB + 60 * MB


@cgroup
@pytest.mark.cgroup
@pytest.mark.long
def test_what_the_machine_does_not_have_fails_and_says_so_while_the_rest_completes(place, tmp_path):
    """In 3 GiB a simulation of 6 GB ends as out of memory; no neighbour ends with it."""
    sets = [{"touch_mb": 6000 if i == 4 else 50, "sleep_s": 0.05, "set": i} for i in range(20)]
    with memory_cgroup(3 * GIB) as group:
        ended = place.run(place.study(sets, 2), tmp_path / "run", within=group.entering, limit_memory="3Gi")
    assert 3 == ended.code, ended.stderr
    assert (38, 2) == (ended.summary["completed"], ended.summary["failed"])
    for row in rows(tmp_path / "run"):
        if row["param_touch_mb"] == 6000:
            assert "out_of_memory" == row["cause"]
            assert "needs more than" in row["error_message"]


@pytest.mark.long
def test_outputs_ten_times_the_object_store_are_spilled_and_committed(place, tmp_path):
    """The summary says how much was spilled, the driver stays small, and no spill file is left."""
    study = place.study([{"out_mb": 10, "set": i} for i in range(100)])
    ended = place.run(study, tmp_path / "run")
    assert 0 == ended.code, ended.stderr
    assert 100 == ended.summary["completed"]
    assert ended.summary["spilled_bytes"] > 0
    assert ended.summary["driver_peak_rss_bytes"] < 900 * MB
    assert [] == [path for path in place.tmp.rglob("*") if "spill" in path.name and path.is_file()]


@pytest.mark.long
def test_a_driver_killed_ten_times_leaves_what_an_undisturbed_run_leaves(place, tmp_path):
    """SIGKILL at random moments; every start goes on, nothing is lost or doubled, and no Ray stays behind."""
    study = place.study([{"sleep_s": 0.2, "set": i} for i in range(60)], 2)
    assert 0 == place.run(study, tmp_path / "undisturbed").code
    out, rng = tmp_path / "killed", random.Random(1)
    for _ in range(10):
        command = place.start(study, out, "--timeout", "100")
        moment_s = rng.uniform(0.2, 6.0)
        wait_until(lambda c=command, s=moment_s: not c.is_running or _age_s(c.process.pid) > s, "a moment")
        command.kill_alone()
    ended = place.run(study, out)
    assert 0 == ended.code, ended.stderr
    assert_equal_datasets(tmp_path / "undisturbed", out)
    wait_until(lambda: not place.processes(), "the processes of all these Rays to end", 60)


@pytest.mark.long
def test_workers_killed_every_second_cost_only_time(place, tmp_path):
    """SIGKILL of a random Ray worker, again and again; the dataset is that of an undisturbed run."""
    study = place.study([{"sleep_s": 0.2, "set": i} for i in range(50)], 2)
    assert 0 == place.run(study, tmp_path / "undisturbed").code
    command, rng, killed = place.start(study, tmp_path / "killed"), random.Random(2), 0
    while command.is_running and killed < 12:
        workers = wait_until(
            lambda: place.processes("ray::modelops-chunk") or not command.is_running, "a worker to kill"
        )
        if isinstance(workers, dict):
            os.kill(rng.choice(sorted(workers)), signal.SIGKILL)
            killed += 1
            before = _age_s(command.process.pid)
            wait_until(lambda b=before: not command.is_running or _age_s(command.process.pid) > b + 1, "a second")
    ended = command.wait()
    assert 0 == ended.code, ended.stderr
    assert killed
    assert ended.summary["infrastructure_retries"] > 0
    attempts = RunReader(tmp_path / "killed").attempts()
    assert ended.summary["attempts"] == 100 + attempts.num_rows
    assert ({"worker_lost"}, {"retried"}) == tuple(set(attempts[name].to_pylist()) for name in ("cause", "follows"))
    assert_equal_datasets(tmp_path / "undisturbed", tmp_path / "killed")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_commits_what_finished_and_the_same_command_goes_on(place, tmp_path, number):
    """Exit 130 and one sentence, no traceback; then the rest is done and nothing twice."""
    study = place.study([{"sleep_s": 0.1, "set": i} for i in range(100)])
    command = place.start(study, tmp_path / "run")
    n_before = wait_for_commits(command, tmp_path / "run", 1)
    command.signal_group(number)
    ended = command.wait()
    assert 130 == ended.code, ended.stderr
    assert "go on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert n_committed(tmp_path / "run") >= n_before
    again = place.run(study, tmp_path / "run")
    assert (0, 100) == (again.code, again.summary["completed"])
    assert again.summary["resumed"] >= n_before


@pytest.mark.long
def test_sigterm_while_ray_starts_ends_all_of_it(place, tmp_path):
    """Exit 130 and one line, as at any other time; nothing runs or lies about afterwards."""
    command = place.start(place.study([{"sleep_s": 0.1}]), tmp_path / "run")
    wait_until(lambda: place.processes("gcs_server"), "a Ray that starts")
    command.process.send_signal(signal.SIGTERM)
    ended = command.wait()
    assert 130 == ended.code, ended.stderr
    assert "modelops-ray: interrupted; run the same command to go on\n" == ended.stderr
    wait_until(lambda: not place.processes(), "the end of all processes", 15)
    assert [] == [path for path in place.tmp.rglob("*") if path.is_file()]


@pytest.mark.long
def test_a_second_session_in_the_same_directory_ends_and_harms_nothing(place, tmp_path):
    """It names the host and the process of the first, which completes."""
    study = place.study([{"sleep_s": 0.1, "set": i} for i in range(60)])
    first = place.start(study, tmp_path / "run")
    wait_for_commits(first, tmp_path / "run", 1)
    second = place.run(study, tmp_path / "run")
    assert 1 == second.code
    assert str(first.process.pid) in second.stderr
    assert (0, 60) == (first.wait().code, n_committed(tmp_path / "run"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of some megabytes, and how to make it larger."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: str, *options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "tmpfs", disk], check=True)

    try:
        mount("24m")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this system mounts no disk: {error}")
    yield disk, lambda: mount("400m", "remount")
    subprocess.run(["umount", disk], check=True)


@pytest.mark.long
def test_a_full_disk_ends_the_run_with_one_line_and_with_room_it_goes_on(place, tmp_path, small_disk):
    """What was committed stays readable and is not repeated; the dataset is that of an undisturbed run."""
    disk, enlarge = small_disk
    study = place.study([{"out_mb": 2, "sleep_s": 0.2, "set": i} for i in range(40)])
    ended = place.run(study, disk / "run", "--chunk", "1")
    assert 1 == ended.code, ended.stderr
    assert "no space left on the device; free some and start again" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    n_before = n_committed(disk / "run")
    assert 0 < n_before == len(rows(disk / "run"))
    enlarge()
    again = place.run(study, disk / "run")
    assert (0, 40, n_before) == (again.code, again.summary["completed"], again.summary["resumed"]), again.stderr
    assert 0 == place.run(study, tmp_path / "undisturbed").code
    assert_equal_datasets(tmp_path / "undisturbed", disk / "run")


def _age_s(pid: int) -> float:
    """Seconds since a process began."""
    with Path("/proc/uptime").open() as uptime, Path(f"/proc/{pid}/stat").open() as stat:
        began_s = int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(uptime.read().split()[0]) - began_s
