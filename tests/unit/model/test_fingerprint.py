"""What the fingerprint of a model that no file defines depends on, and what it does not."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import pytest

from modelops_ray.model.fingerprint import digest_callable


def function_of(source, **names):
    """Define `simulate` the way a notebook does: in a namespace without a file."""
    namespace = {"__name__": "__main__", **names}
    exec(textwrap.dedent(source), namespace)
    return namespace["simulate"]


def digest_of(function):
    """Digest a function under one name."""
    return digest_callable(function, "__main__.simulate", pickle.dumps)


def printed_by(script):
    """What a script prints, with sets in any order."""
    [text] = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    return text


def test_the_same_cell_run_twice_has_the_same_digest():
    """Two definitions of one text are one model."""
    cell = "def simulate(params, seed, k={1, 2}):\n    return {'x': [p for p in params if p in {'a', 'b', 'c'}]}"

    assert digest_of(function_of(cell)) == digest_of(function_of(cell))


def test_a_cell_has_the_same_digest_in_another_process():
    """Neither addresses nor the order of sets get in."""
    script = textwrap.dedent("""
        import pickle
        from modelops_ray.model.fingerprint import digest_callable
        SIZES = {"a": 1, "b": 2}
        def helper(x):
            return x in {"u", "v", "w"}
        simulate = lambda params, seed: {"x": helper("u"), "y": SIZES["a"]}
        print(digest_callable(simulate, "m", pickle.dumps))
    """)
    assert printed_by(script)


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


BY_VALUE = {
    "partial": "from functools import partial\ndef f(p, s, n): return {'x': EDITED}\nsimulate = partial(f, n=1000)",
    "method": "class Sir:\n def run(self, p, s): return {'x': EDITED}\nsimulate = Sir().run",
    "object": "class Sir:\n def __call__(self, p, s): return {'x': EDITED}\nsimulate = Sir()",
    "class": "class Sir:\n def run(self): return EDITED\ndef simulate(p, s): return {'x': Sir().run()}",
    "base": "class Base:\n x = EDITED\nclass Sir(Base): pass\ndef simulate(p, s): return {'x': Sir.x}",
    "static": "class Sir:\n @staticmethod\n def run(): return EDITED\ndef simulate(p, s): return {'x': Sir.run()}",
    "property": "class Sir:\n @property\n def x(self): return EDITED\ndef simulate(p, s): return {'x': Sir().x}",
    "kept": "from functools import cached_property\nclass Sir:\n @cached_property\n def x(self): return EDITED\n"
    "def simulate(p, s): return {'x': Sir().x}",
    "dict": "KINDS = {'sir': lambda: EDITED}\ndef simulate(p, s): return {'x': KINDS['sir']()}",
    "attribute": "class Sir:\n def __init__(self, f): self.f = f\n def __call__(self, p, s): return {'x': self.f()}\n"
    "simulate = Sir(lambda: EDITED)",
    "cached": "from functools import lru_cache\n@lru_cache\ndef f(): return EDITED\nsimulate = lambda p, s: f()",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass Sir:\n n: int = EDITED\n"
    "simulate = lambda p, s: Sir().n",
    "whole": "from enum import IntEnum\nclass Kind(IntEnum):\n A = 1\n def x(self): return EDITED\nONE = Kind.A\n"
    "simulate = lambda p, s: ONE.x()",
    "named": "from typing import NamedTuple\nclass Pair(NamedTuple):\n a: int\n def x(self): return EDITED\n"
    "ONE = Pair(1)\nsimulate = lambda p, s: ONE.x()",
    "enum": "from enum import Enum\nclass Kind(Enum):\n A = EDITED\nsimulate = lambda p, s: Kind.A.value",
    "abstract": "from abc import ABC, abstractmethod\nclass Base(ABC):\n @abstractmethod\n def x(self): return EDITED\n"
    "class Sir(Base):\n def x(self): return super().x()\nsimulate = lambda p, s: Sir().x()",
    "itself": "class Sir:\n def __call__(self, p, s): return {'x': (simulate, Sir, EDITED)}\nsimulate = Sir()",
    "set": "def f(): return EDITED\ndef g(): return 1\nFS = {f, g, 'u', 'v'}\nsimulate = lambda p, s: list(FS)",
}  # fmt: skip


@pytest.mark.parametrize("cell", BY_VALUE.values(), ids=BY_VALUE)
def test_code_counts_wherever_a_model_keeps_it(cell):
    """And the same cell run twice is the same model."""
    first, again, edited = (digest_of(function_of(cell.replace("EDITED", value))) for value in ("1", "1", "2"))

    assert (True, False) == (first == again, first == edited)


def test_what_a_bound_method_is_bound_to_counts():
    """One class with two settings is two models."""
    cell = "class Sir:\n def __init__(self, n): self.n = n\n def run(self, p, s): return self.n\nsimulate = Sir({}).run"

    assert digest_of(function_of(cell.format(1))) != digest_of(function_of(cell.format(2)))


def test_a_model_with_everything_has_the_same_digest_in_another_process():
    """Neither addresses nor the order of sets get in."""
    script = "import pickle\nfrom modelops_ray.model.fingerprint import digest_callable\n"
    for cell in BY_VALUE.values():
        script += cell.replace("EDITED", "1") + "\nprint(digest_callable(simulate, 'm', pickle.dumps))\n"

    assert len(BY_VALUE) == len(printed_by(script).splitlines())


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
