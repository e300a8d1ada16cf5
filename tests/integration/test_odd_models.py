"""Odd models at every level of isolation: the same rows, although their import changes its process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.models import context_of_file, replicates, values_by_seed
from support.odd_models import ODD_MODELS, SHOWN_ELSEWHERE, OddModel
from support.short_folder import short_folder

from modelops_ray.runner.chunk import run_chunk

SEEDS = [1000, 1001, 1002]
IN_ONE_PROCESS = """
import json, sys
from pathlib import Path
from support.models import context_of_file, replicates, values_by_seed
from modelops_ray.runner.chunk import run_chunk

found = {}
for path in sys.argv[2:]:
    report, payload = run_chunk(context_of_file(Path(path), isolation="none"), replicates(3))
    failed = [f"{failure.error_type}: {failure.message}" for failure in report.failures]
    found[path] = [failed, sorted(values_by_seed(payload).items())]
Path(sys.argv[1]).write_text(json.dumps(found))
"""


def named(model):
    """Its name, to say which test it is."""
    return model.name


def in_time(models):
    """All of them, some of them only in the long run."""
    marks = {True: [pytest.mark.long], False: []}
    return [pytest.param(m, id=m.name, marks=marks[m.name in SHOWN_ELSEWHERE]) for m in models]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with every model; servers have a short folder of their own, whose end is waited for once."""
    models = tmp_path_factory.mktemp("models")
    with short_folder():
        yield {model.name: model.write(models / model.name.replace(" ", "_")) for model in ODD_MODELS}


@pytest.fixture(scope="module")
def in_one_process(place, tmp_path_factory):
    """What every model returns without isolation, one after the other in one process."""
    return without_isolation(place.values(), tmp_path_factory.mktemp("none") / "found.json")


def without_isolation(paths, answer):
    """Failures and values of models by file, as a process tells in which all of them ran."""
    command = [sys.executable, "-c", IN_ONE_PROCESS, str(answer), *map(str, paths)]
    environ = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert 0 == ended.returncode, ended.stderr[-4000:]
    return json.loads(answer.read_text())


def in_children(path, isolation):
    """Failures, notice and values by seed of three simulations in as many children at a time as that level allows."""
    report, payload = run_chunk(context_of_file(path, isolation=isolation, per_child=1), replicates(3, width=3))
    return [f"{failure.error_type}: {failure.message}" for failure in report.failures], report, values_by_seed(payload)


@pytest.mark.parametrize("model", in_time(ODD_MODELS))
def test_an_odd_model_returns_the_same_in_forks(place, model):
    """Three at a time; where a fork could not have what the import left open, there is none, and that is told."""
    failed, report, values = in_children(place[model.name], "fork")
    assert ([], model.rows(SEEDS)) == (failed, values)
    assert model.is_forked == ("" == report.notice), report.notice
    assert all(0 <= done.seconds < 60 for done in report.completed)


@pytest.mark.parametrize("model", ODD_MODELS, ids=named)
def test_an_odd_model_returns_the_same_without_isolation(place, in_one_process, model):
    """One after another in one process, which all of them leave as it was."""
    failed, values = in_one_process[str(place[model.name])]
    assert ([], model.rows(SEEDS)) == (failed, dict(values))


@pytest.mark.long
@pytest.mark.parametrize("isolation", ["reuse", "fresh"])
@pytest.mark.parametrize("model", ODD_MODELS, ids=named)
def test_an_odd_model_returns_the_same_in_interpreters_of_its_own(place, model, isolation):
    """Each imports the model itself."""
    failed, _, values = in_children(place[model.name], isolation)
    assert ([], model.rows(SEEDS)) == (failed, values)


LOGS = {
    "text": "LOG = open(HERE / 'log', 'w')\ndef say(text): LOG.write(f'{text}\\n')",
    "bytes": "LOG = open(HERE / 'log', 'wb')\ndef say(text): LOG.write(b'%s\\n' % str(text).encode())",
    "appended": "LOG = open(HERE / 'log', 'a+')\ndef say(text): print(text, file=LOG)",
    "by C": """
import ctypes
C = ctypes.CDLL(None)
C.fopen.restype = ctypes.c_void_p
LOG = C.fopen(str(HERE / 'log').encode(), b'w')
def say(text): C.fputs(f'{text}\\n'.encode(), ctypes.c_void_p(LOG))
""",
    "as standard output": """
os.dup2(os.open(HERE / 'log', os.O_WRONLY | os.O_CREAT), 1)
sys.stdout = open(1, 'w', closefd=False)
def say(text): print(text)
""",
}


@pytest.mark.parametrize("isolation", ["fork", "none"])
@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
@pytest.mark.usefixtures("place")
def test_a_log_that_the_import_opened_has_every_line_once(tmp_path, log, isolation):
    """Of the import, and of every simulation as soon as its results are there."""
    model = OddModel("log", f"{log}\nsay('begun')", "say(seed)\nreturn seed", SEEDS)
    path = model.write(tmp_path / "model")
    if isolation == "none":
        failed, values = without_isolation([path], tmp_path / "found.json")[str(path)]
    else:
        failed, _, values = in_children(path, isolation)
    assert ([], 3) == (failed, len(values))
    assert ["1000", "1001", "1002", "begun"] == sorted((path.parent / "log").read_text().split())


def test_a_child_has_of_ours_what_it_needs_and_no_more(place, tmp_path):
    """Above all numbers that a model meets, beside what the import opened."""
    body = """
        fds = [fd for fd in os.listdir("/proc/self/fd") if 2 < int(fd) < 700]
        names = {os.path.basename(os.path.realpath(f"/proc/self/fd/{fd}")) for fd in fds}
        return ", ".join(sorted(names - set(fds)))
    """
    path = OddModel("numbers", "FILE = open(HERE / 'lines.txt')", body, None).write(tmp_path / "model")
    _, _, values = in_children(path, "fork")
    # A mapping keeps a number of the file that it is of.
    assert ["board (deleted), lines.txt"] * 3 == list(values.values())
