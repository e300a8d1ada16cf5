"""Keeps pyarrow from importing pandas before the model does: it doubles what a fork copies.

pyarrow looks for pandas once, when it first makes an array. If it did not find it then, it takes a series for any other
sequence (NaN for a value, dates for microseconds) until something makes it look again, which is done here as soon as
pandas has been imported.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class LatePandas(importlib.abc.MetaPathFinder):
    """While entered, there is no pandas, unless it has been imported; afterwards its import tells pyarrow."""

    def __init__(self) -> None:
        self._hides = False

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)
        self._hides = True

    def __exit__(self, *_: object) -> None:
        self._hides = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing but pandas."""
        if fullname != "pandas":
            return None
        if self._hides:
            raise ModuleNotFoundError(fullname)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            _tell_afterwards(spec.loader)
        return spec


def _tell_afterwards(loader: importlib.abc.Loader) -> None:
    import pyarrow as pa

    execute = loader.exec_module

    def execute_and_tell(module: ModuleType) -> None:
        execute(module)
        # One that is too old for pyarrow is still the model's to use, and so is a file of the model's of this name.
        with suppress(ImportError, AttributeError):
            pa.nulls(0).to_pandas()

    loader.exec_module = execute_and_tell  # type: ignore[method-assign]
