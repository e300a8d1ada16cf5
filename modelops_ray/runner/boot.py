"""Starting our modules in the model's interpreter, where no folder of ours may be importable.

Owns the name they go by there. Standard library only.
"""

from __future__ import annotations

import sys
from pathlib import Path

FAILED = "failed"
"""The file in a server's folder that says why its model cannot be loaded."""
_PACKAGE = str(Path(__file__).parents[1])
_CODE = """
import sys
at_start = tuple(sys.modules)
sys.path[:] = [entry for entry in sys.path if entry]
for name, folder in (("_modelops_ray", sys.argv[1]), ("_modelops_ray.runner", sys.argv[1] + "/runner")):
    package = sys.modules[name] = type(sys)(name)
    package.__path__, package.at_start = [folder], at_start
import importlib
importlib.import_module("_modelops_ray.runner." + sys.argv[2]).main(*sys.argv[3:])
"""


def command(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """Return the command that calls `main(*arguments)` of a module of this folder in a new interpreter."""
    return [python, "-c", _CODE, _PACKAGE, module, *arguments]
