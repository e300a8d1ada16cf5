"""What is found wrong with a cluster or a model before a job starts, and what is said."""

import dataclasses
from pathlib import Path

import pytest

from modelops_ray.cluster.jobs.dashboard import Installed, _read_installed
from modelops_ray.cluster.jobs.package import Lack
from modelops_ray.cluster.jobs.submission import _found_lines, _require_python, _require_same, _some
from modelops_ray.errors import BackendError, ModelError
from modelops_ray.sandbox.loading import ModelRef, digest_of


def test_what_a_cluster_has_is_read_from_what_its_job_printed():
    """Among other lines of the log."""
    log = 'Running entrypoint\nmodelops-ray found {"python": "3.12.1", "versions": {"ray": "2.60"}}\nbye\n'
    assert Installed(python="3.12.1", versions={"ray": "2.60"}) == _read_installed(log, "http://h")


@pytest.mark.parametrize("log", ["", "modelops-ray found {", "modelops-ray found {}\n"])
def test_a_job_that_does_not_say_what_there_is_ends_it(log):
    """It names what was said instead."""
    with pytest.raises(BackendError, match=r"^the cluster at http://h did not say what it has installed; it said: "):
        _read_installed(log, "http://h")


def test_a_python_that_is_too_old_is_refused():
    """This program would not even import there."""
    _require_python(Installed(python="3.11.0", versions={}), "http://h")
    with pytest.raises(BackendError, match=r"runs Python 3\.9\.18; it needs 3\.11 or newer: use another image"):
        _require_python(Installed(python="3.9.18", versions={}), "http://h")


def test_a_model_that_would_be_another_one_there_is_not_sent(tmp_path):
    """Its results would never be those of the run that another machine began."""
    for name in ("here", "there/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "m.py").write_text("def f(params, seed): ...\n")
    ref = ModelRef("file", "m.py:f", "m.f", "", "f", str(tmp_path / "here" / "m.py"))
    ref = dataclasses.replace(ref, digest=digest_of(ref))
    _require_same(ref, tmp_path / "there/model")
    Path(tmp_path, "there", "model", "m.py").write_text("def f(params, seed): return {}\n")
    with pytest.raises(ModelError, match=r"^model m\.py:f changed while it was packed; submit it again$"):
        _require_same(ref, tmp_path / "there/model")


def test_what_differs_there_is_said_with_what_makes_it_equal():
    """One line each."""
    lack = Lack(install=("rich>=14",), differ=(("starsim", "3.1", "3.0.1"),))
    assert [
        "found there  Python 3.11.0, Ray 2.60.0",
        "differs      starsim is 3.1 there and 3.0.1 here; --install starsim==3.0.1 makes them equal",
        "installs     rich>=14",
    ] == list(_found_lines(Installed(python="3.11.0", versions={"ray": "2.60.0"}), lack))


def test_many_files_are_counted_after_the_first_five():
    """A line stays a line."""
    assert "a, b, c, d, e and 2 more" == _some(list("abcdefg"))
    assert "a, b" == _some(["a", "b"])
