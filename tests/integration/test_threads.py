"""Threads that an import starts are found, unless they survive a fork; each test has its own interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

TRACK = """
import os
from modelops_ray.runner.threads import ThreadTracker

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
