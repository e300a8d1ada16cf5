"""Files beside a model that are called like Python's modules, or like installed ones: whose they are, and to whom."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from support.commands import write_study
from support.models import chunk_of, context_of, write

from modelops_ray.api import open_run
from modelops_ray.errors import ModelError
from modelops_ray.model.resolve import resolve_model
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.sandbox.loading import forget_model

LEVELS = ("fork", "reuse", "fresh", "none")
FEW_LEVELS = ("fork", "reuse", "none")
"""For one simulation `fresh` does what `reuse` does."""
ORACLE = "from model import simulate\nprint(simulate({'beta': 2.0, 'n': 1}, 1000)['r']['x'])\n"


@pytest.fixture(autouse=True)
def _no_model_left_behind():
    yield
    forget_model()


def values(context, levels=LEVELS):
    """What one simulation makes of `x`, at each level of isolation; or what it failed with."""
    found = {}
    for level in levels:
        report, payload = run_chunk(replace(context, isolation=level), chunk_of([{"beta": 2.0, "n": 1}]))
        made = payload.outputs["r"][0].table.column("x").to_pylist() if report.completed else report.failures[0].message
        found[level] = made
    return found


def as_python_has_it(folder, levels=LEVELS):
    """What `python oracle.py` in the model's folder prints for the same simulation; to be asked before the run."""
    write(folder / "oracle.py", ORACLE)
    done = subprocess.run([sys.executable, "oracle.py"], cwd=folder, capture_output=True, text=True, check=True)
    return {level: ast.literal_eval(done.stdout) for level in levels}


NAMES = (
    "calendar", "resource", "statistics", "random", "platform", "queue", "signal", "json", "types", "functools",
    "pickle", "socket", "inspect", "copyreg", "enum", "bisect", "numbers", "pyarrow", "numpy", "pandas", "click",
)  # fmt: skip


@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_a_helper_is_the_models_although_a_module_of_pythons_has_its_name(tmp_path, form):
    """At the top of its file and in the function, at every level of isolation, as `python` has it in that folder."""
    for rate, name in enumerate(NAMES):
        write(tmp_path / form.format(name), f"RATE = {rate}")
    names = ", ".join(NAMES)
    write(
        tmp_path / "model.py",
        f"import {names}\nones = [{names}]\n\ndef simulate(params, seed):\n    import {names}\n"
        f"    return {{'r': {{'x': [one.RATE if one is two else -1 for one, two in zip(ones, [{names}])]}}}}",
    )

    assert as_python_has_it(tmp_path) == values(context_of(tmp_path / "model.py"))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_one_helper_is_the_models_under_each_of_these_names(tmp_path, name):
    """Alone, beside a model that imports what of Python's does not need it."""
    write(tmp_path / f"{name}.py", "RATE = 7")
    write(
        tmp_path / "model.py",
        f"import {name} as one\n\ndef simulate(params, seed):\n    import {name} as two\n"
        "    return {'r': {'x': [one.RATE * params['beta'], one is two]}}",
    )

    assert as_python_has_it(tmp_path) == values(context_of(tmp_path / "model.py"))


MODELS = {
    "in several ways": (
        {
            "queue.py": "RATE = 3",
            "calendar.py": "RATE = 5\nclass Year:\n    days = 9",
            "rates.py": "from calendar import RATE",
            "platform.py": "RATE = 6",
            **dict.fromkeys(("os.py", "abc.py", "time.py", "io.py"), "RATE = 1"),
        },
        """
        import abc, importlib, io, os, pickle, time
        from calendar import Year

        def simulate(params, seed):
            import queue, rates
            by_name = importlib.import_module("platform").RATE
            pickled = pickle.loads(pickle.dumps(Year())).days
            at_start = [hasattr(each, "RATE") for each in (os, abc, time, io)]
            return {"r": {"x": [queue.RATE, rates.RATE, by_name, pickled, *map(int, at_start)]}}
        """,
    ),
    "through a module of Python's that takes it": (
        {"bisect.py": "def bisect(*_): return 1\nbisect_right = bisect_left = insort = bisect"},
        """
        import random

        def simulate(params, seed):
            random.seed(1)
            return {"r": {"x": [random.choices([0, 1], cum_weights=[1, 2])[0], random.random()]}}
        """,
    ),
    "through one that the function imports": (
        {"fractions.py": "class Fraction: rate = 8"},
        """
        def simulate(params, seed):
            try:
                import statistics
            except (ImportError, AttributeError):
                return {"r": {"x": [-1.0]}}
            return {"r": {"x": [getattr(statistics.Fraction, "rate", 0)]}}
        """,
    ),
    "and what else is Python's stays Python's": (
        {"calendar.py": "RATE = 1"},
        """
        import queue, statistics
        import numpy as np

        def simulate(params, seed):
            import calendar, random
            np.random.seed(seed)
            drawn = [random.Random(1).random(), float(np.random.random())]
            return {"r": {"x": [calendar.RATE, statistics.mean([1, 2]), queue.Queue(3).maxsize, *drawn]}}
        """,
    ),
    "in a folder that the model adds": (
        {"lib/statistics.py": "RATE = 11"},
        """
        import sys, pathlib
        sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
        import statistics

        def simulate(params, seed):
            return {"r": {"x": [statistics.RATE]}}
        """,
    ),
}


@pytest.mark.parametrize(("files", "source"), MODELS.values(), ids=MODELS)
def test_a_model_sees_what_python_would_see_in_its_folder(tmp_path, files, source):
    """However it comes to the helper."""
    for name, text in files.items():
        write(tmp_path / name, text)
    write(tmp_path / "model.py", source)

    assert as_python_has_it(tmp_path, FEW_LEVELS) == values(context_of(tmp_path / "model.py"), FEW_LEVELS)


def test_a_copy_of_random_that_took_a_helper_is_seeded(tmp_path):
    """Two processes make the same numbers of one seed, at every level the same."""
    write(tmp_path / "bisect.py", "from _bisect import *\nbisect, insort = bisect_right, insort_right")
    write(tmp_path / "model.py", "import random\ndef simulate(p, s): return {'r': {'x': random.random()}}")

    found = values(context_of(tmp_path / "model.py"))
    again = values(context_of(tmp_path / "model.py"), ["fork"])

    assert 1 == len({str(each) for each in found.values()})
    assert found["none"] == again["fork"]


def test_models_one_after_the_other_have_helpers_of_their_own(tmp_path):
    """In one process, and Python's is there again afterwards."""
    contexts = []
    for rate in (1, 2):
        folder = tmp_path / str(rate)
        write(folder / "statistics.py", f"RATE = {rate}")
        write(folder / "model.py", "import statistics\ndef simulate(p, s): return {'r': {'x': statistics.RATE}}")
        contexts.append(replace(context_of(folder / "model.py"), isolation="none"))

    found = []
    for context in (*contexts, contexts[0]):
        _, payload = run_chunk(context, chunk_of([{"beta": 2.0, "n": 1}]))
        found.append(payload.outputs["r"][0].table.column("x").to_pylist())
        assert 1.5 == __import__("statistics").fmean([1, 2])

    assert [[1], [2], [1]] == found


@pytest.mark.parametrize("model", ["calendar:simulate", "calendar.year:simulate"])
def test_a_model_may_be_a_module_of_that_name(tmp_path, model):
    """The one in the study's folder, at every level."""
    package = "/__init__.py" if "." in model.partition(":")[0] else ".py"
    simulate = "def simulate(p, s): return {'r': {'x': 4}}"
    write(tmp_path / f"calendar{package}", simulate)
    if package != ".py":
        write(tmp_path / "calendar" / "year.py", simulate)
    write(tmp_path / "model.py", simulate)

    ref = resolve_model(model, tmp_path)

    context = replace(context_of(tmp_path / "model.py"), model=ref)
    assert {key: [4] for key in FEW_LEVELS} == values(context, FEW_LEVELS)


@pytest.mark.parametrize(
    ("name", "helper", "source", "says"),
    [
        (
            "random", "RATE = 1", "import random, tempfile",
            "does not import: ImportError: cannot import name 'Random' from 'random'",
        ),
        ("fractions", "RATE = 1", "import statistics", "; rename fractions in {}, which others take for Python's"),
        ("ray", "RATE = 1", "import ray", "ray in {} has the name of a module that runs simulations; rename it"),
    ],
)  # fmt: skip
def test_what_cannot_be_the_models_alone_is_refused_in_one_line(tmp_path, name, helper, source, says):
    """Before anything runs, so at every level the same; the line names the file to rename."""
    write(tmp_path / f"{name}.py", helper)
    write(tmp_path / "model.py", source + "\ndef simulate(p, s): return {'r': {'x': 1}}")

    with pytest.raises(ModelError) as caught:
        resolve_model("model.py:simulate", tmp_path)

    assert says.format(tmp_path) in str(caught.value)
    assert "rename" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["local", "ray"])
def test_the_program_works_in_a_folder_with_such_helpers(tmp_path, backend):
    """Python would have the driver search that folder first, and Ray its workers."""
    for name in ("calendar", "statistics", "queue", "platform", "json"):
        write(tmp_path / f"{name}.py", "RATE = 7")
    write(tmp_path / "model.py", "import statistics\ndef simulate(p, s): return {'r': {'x': statistics.RATE}}")
    write_study(tmp_path, [{"beta": 2.0}])
    options = ("--backend", backend, "--isolation", "none", "--quiet", "--json", "--out", "run")

    done = subprocess.run(
        [sys.executable, "-m", "modelops_ray", "run", "study.json", *options],
        cwd=tmp_path, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    assert [7] == open_run(tmp_path / "run").output("r").column("x").to_pylist()
