"""Running the simulations of a chunk in this process, one after the other.

Owns what is the same for every simulation: seeding, the order of measuring, and that no failure of one reaches the
next. Does not limit memory, and cannot outlive a crash of the model.
"""

from __future__ import annotations

import functools
import gc
import platform
import random
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from modelops_ray.core.events import ChunkReport, Failure, Measured
from modelops_ray.runner.calling import Model
from modelops_ray.runner.collect import Collector, ColumnCollisionError
from modelops_ray.runner.failures import failure_of
from modelops_ray.runner.guard import Guard
from modelops_ray.runner.loading import ModelRef, load_model
from modelops_ray.runner.measure import Meter, peak_meter, private_bytes
from modelops_ray.runner.tables import Scalars, outputs_of
from modelops_ray.study.chunk import Chunk, Payload, Simulation
from modelops_ray.study.rows import RunIdentity, completed_rows, identity_table

TARGET_PAYLOAD_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """What all chunks of a run share; small, and pickled to every worker.

    `outputs` are the names to keep, None keeps all. `timeout_s` is per simulation, 0 for none. A chunk ends early when
    its outputs reach `target_payload_bytes`.
    """

    model: ModelRef
    run: RunIdentity
    outputs: tuple[str, ...] | None = None
    timeout_s: float = 0.0
    target_payload_bytes: int = TARGET_PAYLOAD_BYTES


class _Completed(NamedTuple):
    simulation: Simulation
    attempts: int
    seconds: float
    peak_bytes: int


def run_chunk(context: ChunkContext, chunk: Chunk) -> tuple[ChunkReport, Payload]:
    """Run the simulations of a chunk in order; with the context bound, this is a `RunChunk`.

    Returns:
        The report, where positions that were not reached are absent, and the results of those that completed.

    Raises:
        ModelError: The model cannot be loaded here, or is not the one the run began with.
    """
    model = load_model(context.model)
    base_bytes = _base_bytes(context.model.digest)
    with peak_meter() as meter, Guard(context.timeout_s) as guard, redirect_stdout(sys.stderr):
        return _ChunkRun(context, chunk, model, meter, guard).run(base_bytes)


@functools.lru_cache(maxsize=1)
def _base_bytes(_digest: str) -> int:
    """Measure this process with its model loaded, before the first simulation."""
    # What is imported stays: keep it out of every later collection, which then costs what a simulation made.
    gc.collect()
    gc.freeze()
    return private_bytes()


class _ChunkRun:
    """One chunk while it runs."""

    def __init__(self, context: ChunkContext, chunk: Chunk, model: Model, meter: Meter, guard: Guard) -> None:
        self._context, self._chunk, self._model = context, chunk, model
        self._meter, self._guard = meter, guard
        self._collector = Collector(context.run)
        self._completed: list[_Completed] = []
        self._failures: list[Failure] = []
        self._node = platform.node()

    def run(self, base_bytes: int) -> tuple[ChunkReport, Payload]:
        fatal = None
        try:
            self._simulate_all()
        except ColumnCollisionError as error:
            fatal = str(error)
        payload = self._payload()
        tables = (output.table for outputs in payload.outputs.values() for output in outputs)
        report = ChunkReport(
            completed=tuple(Measured(c.simulation.position, c.seconds, c.peak_bytes) for c in self._completed),
            failures=tuple(self._failures),
            base_bytes=base_bytes,
            payload_bytes=payload.simulations.nbytes + sum(table.nbytes for table in tables),
            node=self._node,
            fatal=fatal,
        )
        return report, payload

    def _simulate_all(self) -> None:
        for simulation, attempts in zip(self._chunk.simulations, self._chunk.attempts, strict=True):
            self._simulate(simulation, attempts)
            if self._collector.size_bytes >= self._context.target_payload_bytes:
                return

    def _simulate(self, simulation: Simulation, attempts: int) -> None:
        _seed(simulation.seed)
        self._meter.begin()
        started_s = time.perf_counter()
        outcome = self._outcome(simulation)
        seconds = time.perf_counter() - started_s
        peak_bytes = self._meter.peak_bytes()
        if isinstance(outcome, Failure):
            self._fail(outcome, attempts, seconds, peak_bytes)
            return
        self._collector.add(len(self._completed), simulation.seed, outcome)
        self._completed.append(_Completed(simulation, attempts, seconds, peak_bytes))

    def _outcome(self, simulation: Simulation) -> dict[str, Scalars | pa.Table] | Failure:
        try:
            return self._guard.call(lambda: self._call_model(simulation))
        except BaseException as error:  # whatever a model raises, sys.exit() included, is that simulation's failure
            if self._guard.interrupted:
                raise
            return failure_of(error, simulation.position, self._context.timeout_s)

    def _call_model(self, simulation: Simulation) -> dict[str, Scalars | pa.Table]:
        returned = self._model(dict(simulation.params), simulation.seed, self._context.run.scenario)
        return outputs_of(returned, self._context.outputs)

    def _fail(self, failure: Failure, attempts: int, seconds: float, peak_bytes: int) -> None:
        measured = replace(failure, attempts=attempts, seconds=seconds, peak_bytes=peak_bytes)
        self._failures.append(replace(measured, request_bytes=self._chunk.request_bytes, node=self._node))

    def _payload(self) -> Payload:
        done, n_done = self._completed, len(self._completed)
        positions = tuple(c.simulation.position for c in done)
        identities = identity_table(self._context.run, [c.simulation for c in done])
        outcomes: dict[str, list[Any]] = {
            "attempts": [c.attempts for c in done],
            "seconds": [c.seconds for c in done],
            "peak_bytes": [c.peak_bytes for c in done],
            "request_bytes": [self._chunk.request_bytes] * n_done,
            "node": [self._node] * n_done,
        }
        simulations = completed_rows(self._context.run, identities, outcomes)
        return Payload(positions, simulations, self._collector.tables(positions, identities))


def _seed(seed: int) -> None:
    """Seed the global generators that a model may use without knowing; NumPy's takes the seed modulo 2**32."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the legacy global state is what has to be seeded
