"""A run directory is read once at the start of a session: `run.json`, and every commit that is there."""

import re
from collections import Counter

import pytest

import modelops_ray as mr
from modelops_ray.store.storage.local import LocalFolder

READ = re.compile(r"run\.json|(_commits/)?\d{6}\.json")


def grown(params, seed):
    """One value."""
    return {"x": params["a"] + seed}


def session(out, n_sets):
    """Run a study of this many parameter sets, or go on with it."""
    study = mr.Study.grid({"a": list(range(n_sets))}, replicates=2)
    return mr.run(study, model=grown, out=out, backend="local", isolation="none", progress=False)


@pytest.fixture
def reads(monkeypatch):
    """How often the content of each file of a run's question and log was read."""
    found = Counter()
    real = LocalFolder.read_marked

    def counted(self, name):
        content = real(self, name)
        if content is not None and READ.fullmatch(name):
            found[name.rpartition("/")[2]] += 1
        return content

    monkeypatch.setattr(LocalFolder, "read_marked", counted)
    return found


def commits(out):
    """The files of the log."""
    return sorted(each.name for each in (out / "_commits").iterdir())


def test_a_new_run_never_reads_a_commit(tmp_path, reads):
    """There was none when it began, and its own it knows."""
    found = session(tmp_path / "run", 3)
    assert {"run.json"} == set(reads)

    assert 6 == found.summary["completed"]


@pytest.mark.parametrize("n_sets", [3, 5])
def test_a_start_reads_every_commit_once(tmp_path, reads, n_sets):
    """Also where all is done already, and where the study has grown."""
    out = tmp_path / "run"
    session(out, 3)
    before = commits(out)
    reads.clear()

    found = session(out, n_sets)
    # What the run was made for is read to find out where to go on, by the session, and by the Run that is returned.
    assert {**dict.fromkeys(before, 1), "run.json": 3} == reads

    assert 2 * n_sets == found.summary["completed"]
