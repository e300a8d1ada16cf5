"""Starting our modules in the model's interpreter, where no folder of ours may be importable.

Owns the name they go by there, and what is the same for all such processes. Standard library only.
"""

from __future__ import annotations

import sys
from pathlib import Path

FAILED = "failed"
"""The file in a server's folder that says why its model cannot be loaded."""
THREAD_LIMITS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
"""How libraries are told how many threads they may have."""
LOADING_WITHIN_S = 900.0
"""A model that takes longer to import is given up."""
_PACKAGE = str(Path(__file__).parents[1])
_CODE = """
import sys
at_start = tuple(sys.modules)
sys.path[:] = [entry for entry in sys.path if entry]
for name, folder in (("_modelops_ray", sys.argv[1]), ("_modelops_ray.sandbox", sys.argv[1] + "/sandbox")):
    package = sys.modules[name] = type(sys)(name)
    package.__path__, package.at_start = [folder], at_start
import importlib
importlib.import_module("_modelops_ray.sandbox." + sys.argv[2]).main(*sys.argv[3:])
"""


def command(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """Return the command that calls `main(*arguments)` of a module of this folder in a new interpreter."""
    return [python, "-c", _CODE, _PACKAGE, module, *arguments]


def last_line(text: str) -> str:
    """The last line of a text, to go at the end of a sentence; empty if there is none."""
    lines = text.strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""
