"""Keeps pyarrow from importing pandas before the model does: pandas doubles what a fork copies.

pyarrow looks for pandas once, when it first makes an array. If it did not find pandas then, it takes a series for any
other sequence (NaN for a value, dates for microseconds) until it looks again, which the import of pandas makes it do.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class LatePandas(importlib.abc.MetaPathFinder):
    """Hides pandas while entered, unless it has been imported; afterwards its import tells pyarrow."""

    def __init__(self) -> None:
        self._hides = False

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)
        self._hides = True

    def __exit__(self, *_: object) -> None:
        self._hides = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find nothing but pandas."""
        if name != "pandas":
            return None
        if self._hides:
            raise ModuleNotFoundError(name)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            _tell_afterwards(spec.loader)
        return spec


def _tell_afterwards(loader: importlib.abc.Loader) -> None:
    import pyarrow as pa

    execute = loader.exec_module

    def execute_and_tell(module: ModuleType) -> None:
        execute(module)
        # A pandas too old for pyarrow, or a file of the model's of this name, is still the model's to use.
        with suppress(ImportError, AttributeError):
            pa.nulls(0).to_pandas()

    loader.exec_module = execute_and_tell  # type: ignore[method-assign]
