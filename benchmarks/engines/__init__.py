"""All engines by name. Owns the list; each family has a file of its own."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.engines import dask, ours, plain, pool
from benchmarks.engines.base import Engine

ENGINES: Mapping[str, Engine] = {one.name: one for one in (*pool.ENGINES, *ours.ENGINES, *plain.ENGINES, *dask.ENGINES)}
