"""The smallest size of every scenario, for real: the suite never rots."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.studies import wait_until

pytest.importorskip("distributed")
pytest.importorskip("starsim")

from benchmarks import measure as measuring
from benchmarks import pods
from benchmarks.engines import ENGINES, raylets
from benchmarks.measure import measure
from benchmarks.scenarios import SCENARIOS

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def run(engine, scenario, at=0):
    """Measure one case of a scenario at its smallest size."""
    return measure(ENGINES[engine], SCENARIOS[scenario].cases("small")[at], "test", 0)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ours_completes_every_scenario_with_the_right_answer(scenario):
    """Nothing is lost, nothing is wrong, and the kernel killed nothing."""
    record = run("modelops-ray", scenario)
    assert ("complete", 0, 0, 0) == (record.outcome, record.lost, record.wrong, record.kernel_kills), record.why
    assert record.simulations == record.done
    assert record.checked > 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_dask_of_the_incident_has_a_row_however_it_ends(scenario):
    """Where it fails that is an outcome, and what it returns is right."""
    record = run("dask-incident", scenario)
    assert record.outcome in {"complete", "incomplete", "stuck"}, record.why
    assert 0 == record.wrong


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_completes_small_simulations(engine):
    """Below every limit there is nothing between them but speed."""
    record = run(engine, "need_sweep")
    assert ("complete", record.simulations, 0) == (record.outcome, record.done, record.wrong), record.why
    assert record.per_second > 0
    assert record.attempts == record.simulations
    assert any(pod.peak_bytes > 0 for pod in record.pod_records) or record.place.no_pods_because


def test_where_a_simulation_needs_more_than_its_share_ours_completes_and_dask_does_not():
    """The heart of the sweep, at its smallest."""
    ours, dask = run("modelops-ray", "need_sweep", 1), run("dask-incident", "need_sweep", 1)
    assert ("complete", 0) == (ours.outcome, ours.kernel_kills), ours.why
    assert dask.outcome in {"incomplete", "stuck"}
    assert dask.done < dask.simulations
    assert dask.engine_kills + dask.kernel_kills > 0


@pytest.mark.parametrize(("engine", "scenario"), [("modelops-ray", "density"), ("dask-incident", "need_sweep")])
def test_a_suite_that_is_told_to_end_leaves_nothing_behind(engine, scenario, tmp_path):
    """Neither processes of its engine nor its folder."""
    command = [sys.executable, "-m", "benchmarks", "run", scenario, "--size", "small", "--engine", engine]
    before = _folders()

    def is_running():
        found = [one for folder in _folders() - before for one in _commands_in(folder)]
        return len(found) > 2 and any(f"benchmarks.client {engine}" in one for one in found)

    with subprocess.Popen([*command, "--records", str(tmp_path)], stdout=subprocess.DEVNULL) as suite:
        wait_until(is_running, "the engine's client")
        folders = _folders() - before
        suite.send_signal(signal.SIGTERM)
        assert suite.wait(60) == 128 + signal.SIGTERM
    wait_until(lambda: not any(map(_commands_in, folders)), "the end of all processes")
    assert not any(folder.exists() for folder in folders)


def _folders():
    return set(Path("/tmp").glob("mb-*"))


def _commands_in(folder):
    """Command lines of all processes whose temporary folder is that of a run, or below it."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"TMPDIR={folder}".encode() in (one / "environ").read_bytes():
                found.append((one / "cmdline").read_text().replace("\0", " "))
    return found


def test_an_engine_whose_head_does_not_come_up_has_a_row_that_says_so(monkeypatch):
    """It failed: that is told apart from simulations that were lost."""
    monkeypatch.setattr(raylets, "JOIN_S", 0.1)
    record = run("ray-plain", "need_sweep")
    assert ("failed", 0, None) == (record.outcome, record.done, record.per_second)
    assert "Ray had not started after" in record.why


@pytest.mark.parametrize("engine", ["pool", "dask-incident", "modelops-ray"])
def test_without_cgroups_the_suite_measures_without_pods(engine, monkeypatch):
    """Processes still start, end and are counted; nothing is limited."""
    monkeypatch.setattr(pods, "why_not", lambda: "not here")
    monkeypatch.setattr(measuring, "cpu_cgroup", _no_group)
    record = run(engine, "need_sweep")
    assert ("complete", record.simulations) == (record.outcome, record.done), record.why
    assert (None, []) == (record.cpu_s, [mib for pod in record.pod_records for mib in pod.memory_mib])


def _no_group():
    from contextlib import nullcontext

    return nullcontext(None)
