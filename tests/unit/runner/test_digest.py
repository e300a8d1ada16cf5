"""What the digest of a model depends on, and what it does not."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import pytest
from support.models import write

from modelops_ray.errors import ModelError
from modelops_ray.runner import digest
from modelops_ray.runner.digest import digest_callable, digest_folder

SIR = "def simulate(params, seed):\n    return {'x': 1}\n"


def function_of(source, **names):
    """Define `simulate` the way a notebook does: in a namespace without a file."""
    namespace = {"__name__": "__main__", **names}
    exec(textwrap.dedent(source), namespace)
    return namespace["simulate"]


def digest_of(function):
    """Digest a function under one name."""
    return digest_callable(function, "__main__.simulate", pickle.dumps)


def test_the_digest_does_not_depend_on_where_the_folder_lies(tmp_path):
    """The same files in two places are the same model."""
    write(tmp_path / "a" / "sir.py", SIR)
    write(tmp_path / "b" / "deep" / "sir.py", SIR)

    assert digest_folder(tmp_path / "a", "sir.simulate") == digest_folder(tmp_path / "b" / "deep", "sir.simulate")


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("helper.py", True),
        ("sub/helper.py", True),
        ("data.csv", False),
        (".hidden/helper.py", False),
        (".#sir.py", False),
        ("__pycache__/helper.py", False),
        ("venv/lib/python3.11/site-packages/helper.py", False),
        ("node_modules/helper.py", False),
    ],
)
def test_what_belongs_to_a_model(tmp_path, path, matters):
    """Python files of the folder count, tools' and hidden files do not."""
    write(tmp_path / "sir.py", SIR)
    before = digest_folder(tmp_path, "sir.simulate")

    write(tmp_path / path, "x = 1")

    assert matters == (digest_folder(tmp_path, "sir.simulate") != before)


def test_a_virtual_environment_of_any_name_is_not_the_models(tmp_path):
    """What holds a pyvenv.cfg is skipped."""
    write(tmp_path / "sir.py", SIR)
    before = digest_folder(tmp_path, "sir.simulate")

    write(tmp_path / "my-env" / "pyvenv.cfg", "")
    write(tmp_path / "my-env" / "bin" / "activate_this.py", "x = 1")

    assert before == digest_folder(tmp_path, "sir.simulate")


def test_renaming_a_file_changes_the_digest(tmp_path):
    """Names are part of a model, not only contents."""
    write(tmp_path / "sir.py", SIR)
    helper = write(tmp_path / "a.py", "x = 1")
    before = digest_folder(tmp_path, "sir.simulate")

    helper.rename(tmp_path / "b.py")

    assert before != digest_folder(tmp_path, "sir.simulate")


def test_two_functions_of_one_folder_are_two_models(tmp_path):
    """The function's name is part of the digest."""
    write(tmp_path / "sir.py", SIR)

    assert digest_folder(tmp_path, "sir.simulate") != digest_folder(tmp_path, "sir.other")


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("MAX_FILES", 2, "more than 2 Python files"),
        ("MAX_FILES_BYTES", 100, "more than 100 bytes of Python files"),
        ("MAX_ENTRIES", 2, "more than 2 files"),
    ],
)
def test_a_folder_that_is_too_large_is_refused(tmp_path, monkeypatch, limit, value, says):
    """A model in a home folder is told to move, whatever the folder is full of."""
    monkeypatch.setattr(digest, limit, value)
    for i in range(3):
        write(tmp_path / f"m{i}.py", SIR)

    with pytest.raises(ModelError, match=f"{says}; move the model into a folder of its own"):
        digest_folder(tmp_path, "m0.simulate")


def test_a_file_that_cannot_be_read_is_an_error_and_not_absent(tmp_path):
    """A dangling link stands for any unreadable file: it is named."""
    write(tmp_path / "sir.py", SIR)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")

    with pytest.raises(ModelError, match=r"gone\.py cannot be read"):
        digest_folder(tmp_path, "sir.simulate")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    """A folder without permission is named, with the remedy."""
    (tmp_path / "closed").mkdir(mode=0)

    with pytest.raises(ModelError, match="closed next to the model cannot be read"):
        digest_folder(tmp_path, "sir.simulate")


def test_the_same_cell_run_twice_has_the_same_digest():
    """Two definitions of one text are one model."""
    cell = "def simulate(params, seed, k={1, 2}):\n    return {'x': [p for p in params if p in {'a', 'b', 'c'}]}"

    assert digest_of(function_of(cell)) == digest_of(function_of(cell))


def test_a_cell_has_the_same_digest_in_another_process():
    """Neither addresses nor the order of sets get in."""
    script = textwrap.dedent("""
        import pickle
        from modelops_ray.runner.digest import digest_callable
        SIZES = {"a": 1, "b": 2}
        def helper(x):
            return x in {"u", "v", "w"}
        simulate = lambda params, seed: {"x": helper("u"), "y": SIZES["a"]}
        print(digest_callable(simulate, "m", pickle.dumps))
    """)
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2", "3")
    }

    assert len(digests) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def simulate(p, s): return {'x': 1}", "def simulate(p, s): return {'x': 2}"),
        ("def simulate(p, s): return {'x': 1}", "def simulate(p, s): return {'x': 1.0}"),
        ("def simulate(p, s): return {'x': s + 1}", "def simulate(p, s): return {'x': s - 1}"),
        ("def simulate(p, s, k=1): return {'x': k}", "def simulate(p, s, k=2): return {'x': k}"),
        ("def simulate(p, s, *, k=1): return {'x': k}", "def simulate(p, s, *, k=2): return {'x': k}"),
        ("def simulate(p, s): return {'x': abs(s)}", "def simulate(p, s): return {'x': int(s)}"),
        ("N = 1\ndef simulate(p, s): return {'x': N}", "N = 2\ndef simulate(p, s): return {'x': N}"),
        (
            "def f(): return 1\ndef simulate(p, s): return {'x': f()}",
            "def f(): return 2\ndef simulate(p, s): return {'x': f()}",
        ),
        (
            "def make(k):\n def g(p, s): return {'x': k}\n return g\nsimulate = make(1)",
            "def make(k):\n def g(p, s): return {'x': k}\n return g\nsimulate = make(2)",
        ),
        ("def simulate(p, s): return {'x': s in {1, 2}}", "def simulate(p, s): return {'x': s in {1, 3}}"),
    ],
)
def test_another_cell_has_another_digest(one, other):
    """Code, constants, defaults, closures and the globals that are used all count."""
    assert digest_of(function_of(one)) != digest_of(function_of(other))


def test_a_global_that_is_not_used_does_not_count():
    """Another variable of the notebook is not the model's."""
    cell = "def simulate(p, s): return {'x': 1}"

    assert digest_of(function_of(cell, unrelated=1)) == digest_of(function_of(cell, unrelated=2))


def test_functions_that_call_each_other_have_a_digest():
    """A cycle through globals ends."""
    cell = "def f(n): return simulate({}, n - 1) if n else 0\ndef simulate(p, s): return {'x': f(s)}"

    assert digest_of(function_of(cell)) == digest_of(function_of(cell))


def test_a_partial_is_what_it_binds():
    """functools.partial of one function with two values is two models."""
    partials = [functools.partial(max, 1), functools.partial(max, 1), functools.partial(max, 2)]

    first, again, other = (digest_callable(partial, "m", pickle.dumps) for partial in partials)

    assert (first == again, first == other) == (True, False)


def test_what_plain_pickle_cannot_hold_is_dumped_by_the_callers_function():
    """A closure over a lambda still gets a digest."""
    dumped = []
    function = function_of("def simulate(p, s): return tool")
    function.__globals__["tool"] = threading.Lock()

    digest_callable(function, "m", lambda value: dumped.append(value) or b"dumped")

    assert [function.__globals__["tool"]] == dumped
