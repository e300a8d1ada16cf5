"""What holds for the package as a whole: what importing it costs, how it fails, how large its parts are."""

import ast
import pickle
import pkgutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

import modelops_ray
from modelops_ray import errors

PACKAGE = Path(modelops_ray.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "examples" not in path.parts)
HEAVY = ("ray", "pyarrow", "kubernetes", "pandas", "polars", "dask", "starsim", "numpy", "obstore")
EXCEPTIONS = [getattr(errors, name) for name in errors.__all__]


@cache
def trees():
    """Parse every module of the package; examples are files to copy."""
    return [(path.relative_to(PACKAGE), ast.parse(path.read_text("utf-8"))) for path in SOURCES]


def test_importing_the_package_pulls_in_nothing_heavy():
    """A command line that only prints its help must not pay for Ray or Arrow."""
    program = "import sys, modelops_ray; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda e: e.__name__)
def test_an_exception_survives_pickling_with_its_message(exception):
    """An error raised on a node is told to the user as it was raised."""
    copy = pickle.loads(pickle.dumps(exception("run.json: broken; delete it")))
    assert (exception, "run.json: broken; delete it") == (type(copy), str(copy))


def test_every_exception_of_the_package_has_one_root_and_an_exit_code():
    """To catch the root is to catch all of them."""
    assert all(issubclass(each, errors.ModelopsRayError) for each in EXCEPTIONS)
    assert {1, 2} == {e.exit_code for e in EXCEPTIONS}


@pytest.mark.parametrize("name", modelops_ray.__all__)
def test_a_public_name_is_there(name):
    """What the package promises can be had, however lazily it is loaded."""
    assert getattr(modelops_ray, name) is not None


def test_no_module_has_the_name_of_something_public():
    """Python sets a module as an attribute of its package when it is imported, in place of what had the name."""
    assert not {module.name for module in pkgutil.iter_modules([str(PACKAGE)])} & set(modelops_ray.__all__)


def test_public_lists_are_sorted():
    """Every `__all__` is sorted and names nothing twice."""
    lists = [(str(path), names) for path, tree in trees() if (names := _public_names(tree))]
    unsorted = [path for path, names in lists if sorted(set(names)) != names]
    assert len(lists) >= 2
    assert not unsorted


def _public_names(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def test_what_runs_in_the_models_interpreter_uses_no_name_newer_than_python_3_9():
    """The linter sees newer syntax there, and does not see newer names."""
    newer = {"UTC", "StrEnum", "ExceptionGroup", "TaskGroup", "add_note", "batched", "bit_count", "pairwise", "tomllib"}
    newer |= {"strict", "slots", "kw_only"}
    sandbox = [(path, node) for path, tree in trees() if path.parts[0] == "sandbox" for node in ast.walk(tree)]
    names = [
        (str(path), getattr(node, "attr", None) or getattr(node, "arg", None) or getattr(node, "name", None))
        for path, node in sandbox
        if isinstance(node, ast.Attribute | ast.keyword | ast.alias)
    ]
    assert [] == [(path, name) for path, name in names if name in newer]


def test_no_function_is_longer_than_45_lines():
    """What does not fit a screen is more than one thing; a docstring is not counted."""
    functions = [(path, n) for path, tree in trees() for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    too_long = [f"{path}:{node.name}" for path, node in functions if _n_lines(node) > 45]
    assert not too_long


def test_no_class_has_250_lines():
    """What has as many is more than one thing."""
    classes = [(path, n) for path, tree in trees() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    assert not [f"{path}:{node.name}" for path, node in classes if node.end_lineno - node.lineno + 1 >= 250]


def _n_lines(node):
    first = node.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    n_docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return node.end_lineno - node.lineno + 1 - n_docstring


def test_every_module_says_what_it_is_for():
    """A module without a docstring has no owner for what is put into it next."""
    assert not [str(path) for path, tree in trees() if not ast.get_docstring(tree)]


def test_errors_are_caught_by_name():
    """A bare or general except hides bugs; where a model's code or Ray may raise anything, its line says so."""
    general = [
        (PACKAGE / path).read_text("utf-8").splitlines()[node.lineno - 1]
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _is_general(node.type)
    ]
    assert len(general) <= 5, general
    assert not [line for line in general if "# " not in line]


def _is_general(caught):
    return caught is None or (isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"})


def test_all_that_is_printed_goes_through_the_screen():
    """It makes text of others safe, and a stream that fails ends nothing there."""
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "click.echo", "Console", "click.secho"}
    ]
    assert not [place for place in found if not place.startswith("examples/")]


def test_a_unit_test_cannot_sleep():
    """The guard of this folder fires."""
    with pytest.raises(AssertionError, match=r"time\.sleep has no place"):
        time.sleep(0.0)
