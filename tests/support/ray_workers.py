"""Lets Ray's workers import what tests import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@contextmanager
def importable_tests() -> Iterator[pytest.MonkeyPatch]:
    """Put the tests' folder on the path of every process that is started meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])))
        yield patch
