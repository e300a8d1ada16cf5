"""Threads that an import starts are found, unless they survive a fork; each test has its own interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRACK = """
import os
from modelops_ray.sandbox.threads import ThreadTracker

tracker = ThreadTracker()
with tracker:
    {importing}
print(len(os.listdir("/proc/self/task")), tracker.why_not_fork(), sep="|")
"""
STARTS = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def tracked(importing, folder, **environ):
    """Track imports in a new interpreter; return how many threads there were then, and why not to fork."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), **environ}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", TRACK.format(importing=importing)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    threads, why_not = done.stdout.strip().split("|")
    return int(threads), why_not


def test_an_import_without_threads_is_safe_to_fork(tmp_path):
    """The usual case."""
    assert (1, "") == tracked("import json, csv", tmp_path)


def test_threads_that_their_library_stops_around_a_fork_are_safe(tmp_path):
    """NumPy's OpenBLAS starts its threads when it is imported."""
    threads, why_not = tracked("import numpy", tmp_path, OPENBLAS_NUM_THREADS="2")
    assert (2, "") == (threads, why_not)


def test_the_module_that_starts_a_thread_is_named_and_not_one_that_it_imports_afterwards(tmp_path):
    """What runs between two imports belongs to the module that imports."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from . import middle\n")
    (package / "middle.py").write_text(STARTS + "import wave\n")
    _, why_not = tracked("import package", tmp_path)
    assert why_not.startswith("importing package.middle starts threads (")


def test_a_fork_that_hangs_is_not_safe(tmp_path):
    """A handler that runs in every child of a fork waits for a lock."""
    (tmp_path / "hangs.py").write_text(
        STARTS + "import os, time\nos.register_at_fork(after_in_child=lambda: time.sleep(60))\n"
    )
    assert (2, "a fork of the model hangs") == tracked("import hangs", tmp_path)


CALLS = [
    "open({file!r}, encoding='latin-1').read()",
    "open({file!r}, encoding='utf-8-sig').read()",
    "'x'.encode('cp437'), b'x'.decode('mac_roman')",
    "__import__('wave', fromlist=['open'], level=0)",
    "__import__(name='wave', globals=None, locals=None, fromlist=None, level=0)",
    "__import__('wave', {{}}, {{}}, [], 0)",
    "import importlib; importlib.import_module('wave'); importlib.reload(importlib.import_module('wave'))",
    "import collections; __import__('wave', collections.UserDict())",
    "from importlib import resources as kept; import xml.dom as dom; from xml.dom import *",
]


@pytest.mark.parametrize("importing", CALLS)
def test_an_import_may_be_called_in_all_its_ways(tmp_path, importing):
    """Codecs call it by keywords, C code by position."""
    file = tmp_path / "file.txt"
    file.write_text("text")
    assert (1, "") == tracked(importing.format(file=str(file)), tmp_path)


@pytest.mark.parametrize(
    ("importing", "error"),
    [("import no_such_module", "ModuleNotFoundError"), ("__import__()", "TypeError"), ("__import__(3)", "TypeError"),
     ("__import__('wave', level=-1)", "ValueError"), ("__import__('wave', {}, level=2)", "KeyError"),
     ("__import__('wave', lo=1)", "TypeError")],
)  # fmt: skip
def test_what_is_wrong_with_an_import_is_told_by_the_import(tmp_path, importing, error):
    """As it would be without us."""
    caught = f"try:\n        {importing}\n    except {error}: pass\n    else: raise SystemExit('no error')"
    assert (1, "") == tracked(caught, tmp_path)


def test_an_import_that_a_model_replaced_stays_and_goes_on(tmp_path):
    """It may call the one that it found."""
    (tmp_path / "hooks.py").write_text(
        "import builtins\nreal = builtins.__import__\n"
        "def hook(*args, **kwargs): return real(*args, **kwargs)\nbuiltins.__import__ = hook\n"
    )
    check = "import hooks\nimport builtins, atexit\natexit.register(lambda: __import__('wave'))"
    assert (1, "") == tracked(check.replace("\n", "\n    "), tmp_path)


def test_a_thread_found_when_ours_goes_on_is_the_models(tmp_path):
    """What imports next is no module of the model's."""
    ours = "exec('import colorsys', {'__name__': '_modelops_ray.sandbox.child'})"
    _, why_not = tracked(f"{STARTS.strip()}\n    {ours}".replace("\nthreading", "\n    threading"), tmp_path)
    assert why_not.startswith("importing the model starts threads (")


def test_parallel_functions_of_numba_that_an_import_ran_are_not_forked(tmp_path):
    """They end the fork that runs one by SIGTERM, also where one thread is all there is."""
    (tmp_path / "model.py").write_text(
        "import numba\nimport numpy as np\n@numba.njit(parallel=True)\ndef f(x):\n    s = 0.0\n"
        "    for k in numba.prange(len(x)): s += x[k]\n    return s\nf(np.ones(3))\n"
    )
    _, why_not = tracked("import model", tmp_path, NUMBA_NUM_THREADS="1", NUMBA_CACHE_DIR=str(tmp_path))
    assert why_not.startswith("importing the model runs parallel functions of numba, ")
