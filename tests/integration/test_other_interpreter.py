"""A model with an interpreter and packages of its own, which Ray's environment does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.models import chunk_of, context_of, write

from modelops_ray.core.report import Cause
from modelops_ray.runner.chunk import run_chunk

pytestmark = pytest.mark.long

VERSIONS = ("3.9", "3.10", "3.12", "3.13")
MODEL = """
import sys


def simulate(params, seed):
    import found_nowhere_else
    if params["n"] == 2:
        raise LookupError("no such district")
    return {"found": {"version": "%d.%d" % sys.version_info[:2], "ours": "modelops_ray" in sys.modules}}
"""


def interpreters():
    """The oldest other interpreter that works here, if any; pyenv's do not all stand on the path."""
    folders = [str(path) for path in Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")]
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    for version in VERSIONS:
        if sys.version_info[:2] != tuple(map(int, version.split("."))) and (
            found := shutil.which(f"python{version}", path=path)
        ):
            yield found


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A virtual environment of another Python with what a plain function needs, and a package that only it has."""
    python = next(interpreters(), None)
    if python is None:
        pytest.skip("there is no other Python here")
    folder = tmp_path_factory.mktemp("other")
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin/python"
    subprocess.run([own, "-m", "pip", "install", "--quiet", "numpy", "pyarrow"], check=True)
    library = next(folder.glob("lib/python*/site-packages"))
    (library / "found_nowhere_else.py").write_text("")
    return str(own)


@pytest.mark.parametrize("isolation", ["fork", "reuse", "fresh"])
def test_a_model_runs_on_its_own_interpreter(tmp_path, other, isolation):
    """Where nothing of ours can be imported; its exceptions come back all the same."""
    context = context_of(write(tmp_path / "elsewhere.py", MODEL), isolation=isolation)
    theirs = replace(context, model=replace(context.model, python=other))
    report, payload = run_chunk(theirs, chunk_of([{"beta": 0.5, "n": n} for n in (1, 2, 1)]))
    asked = subprocess.run(
        [other, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
    )
    (found,) = payload.outputs["found"]
    assert [(asked.stdout.strip(), False)] * 2 == list(
        zip(found.table["version"].to_pylist(), found.table["ours"].to_pylist(), strict=True)
    )
    (failure,) = report.failures
    assert (Cause.MODEL_ERROR, "LookupError") == (failure.cause, failure.error_type)
