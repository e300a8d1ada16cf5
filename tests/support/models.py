"""Model files for tests: written, resolved and put into a chunk in one line each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from modelops_ray.model.resolve import resolve_model
from modelops_ray.runner.executor import ChunkContext
from modelops_ray.sandbox.loading import ModelRef, digest_of
from modelops_ray.study.chunk import Chunk, Payload, Scalar, Simulation
from modelops_ray.study.rows import RunIdentity


def write(path: Path, source: str) -> Path:
    """Write a Python file, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def context_of(path: Path, **options) -> ChunkContext:
    """Resolve `simulate` of a file into a context with parameters `beta` and `n`."""
    ref = resolve_model(f"{path}:simulate", path.parent)
    types = {"beta": pa.float64(), "n": pa.int64()}
    run = RunIdentity(f"sha256:{ref.digest}", f"{ref.entrypoint_name}/baseline", "baseline", types)
    return ChunkContext(ref, run, **options)


def chunk_of(params: Sequence[Mapping[str, Scalar]], seed: int = 1000) -> Chunk:
    """Make a chunk of one simulation per parameter set, with seeds from `seed` and positions from 10."""
    simulations = tuple(Simulation(10 + i, i, values, f"{i:064x}", 0, seed + i) for i, values in enumerate(params))
    return Chunk(1, simulations, (1,) * len(simulations), 500 * 2**20, 400 * 2**20)


def context_of_file(path: Path, **options) -> ChunkContext:
    """The context of `simulate` in a file that this process does not import."""
    ref = ModelRef("file", f"{path.name}:simulate", f"{path.stem}.simulate", "", "simulate", str(path))
    ref = replace(ref, digest=digest_of(ref))
    types = {"beta": pa.float64(), "n": pa.int64()}
    run = RunIdentity(f"sha256:{ref.digest}", f"{ref.entrypoint_name}/baseline", "baseline", types)
    return ChunkContext(ref, run, **options)


def replicates(n: int, width: int = 1) -> Chunk:
    """Make a chunk of replicates of one parameter set, with seeds from 1000."""
    simulations = tuple(Simulation(i, 0, {"beta": 0.5, "n": 1}, "0" * 64, i, 1000 + i) for i in range(n))
    return Chunk(1, simulations, (1,) * n, 500 * 2**20, 400 * 2**20, width=width)


def values_by_seed(payload: Payload) -> dict[int, object]:
    """The column `x` of output `r`, by seed."""
    found = [row for output in payload.outputs.get("r", ()) for row in output.table.to_pylist()]
    return {row["seed"]: row["x"] for row in found}
