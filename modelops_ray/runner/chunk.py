"""A chunk from its simulations to its report and payload, at any level of isolation.

Owns the order, the bounds of a chunk, and that no failure of one simulation reaches the next. How one is run is an
`Executor`'s business.
"""

from __future__ import annotations

import platform
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from modelops_ray.config import Isolation
from modelops_ray.core.events import ChunkReport, Failure, Measured
from modelops_ray.runner.collect import Collector, ColumnCollisionError
from modelops_ray.runner.loading import ModelRef
from modelops_ray.runner.tables import Scalars
from modelops_ray.study.chunk import Chunk, Payload, Simulation
from modelops_ray.study.rows import RunIdentity, completed_rows, identity_table

TARGET_PAYLOAD_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """What all chunks of a run share; small, and pickled to every worker.

    `outputs` are the names to keep, None keeps all. `timeout_s` is per simulation, 0 for none. With `is_hard` a
    simulation is killed for more than its limit even where there is memory left. `per_child` simulations share a
    process; None leaves it to what is measured. All of a node use `node_bytes` at most, 0 for what it has. A chunk ends
    early when its outputs reach `target_payload_bytes`.
    """

    model: ModelRef
    run: RunIdentity
    outputs: tuple[str, ...] | None = None
    timeout_s: float = 0.0
    isolation: Isolation = "none"
    cpus: float = 1.0
    is_hard: bool = False
    per_child: int | None = None
    node_bytes: int = 0
    target_payload_bytes: int = TARGET_PAYLOAD_BYTES


class Attempt(NamedTuple):
    """What came of one simulation: its outputs, or why there are none, and what it took."""

    outcome: Mapping[str, Scalars | pa.Table] | Failure
    seconds: float
    peak_bytes: int


class Executor(Protocol):
    """Runs the simulations of a chunk, at one level of isolation."""

    @property
    def base_bytes(self) -> int:
        """What a worker and its child own before the first simulation."""

    @property
    def child_bytes(self) -> int:
        """How much of that is the child's."""

    @property
    def shared_bytes(self) -> int:
        """What all workers of the node share."""

    @property
    def notice(self) -> str:
        """What the user should be told once, or nothing."""

    def run(self, simulations: tuple[Simulation, ...]) -> Generator[tuple[Simulation, Attempt]]:
        """Run simulations and yield each with what came of it; whatever one does is its own attempt's failure.

        Raises:
            ModelError: No simulation can be run.
        """


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
    with _executor(context, chunk) as executor:
        return _ChunkRun(context, chunk, executor).run()


def _executor(context: ChunkContext, chunk: Chunk) -> AbstractContextManager[Executor]:
    if context.isolation == "none":
        from modelops_ray.runner.inprocess import in_this_process

        return in_this_process(context)
    from modelops_ray.runner.supervisor import in_children

    return in_children(context, chunk)


class _ChunkRun:
    """One chunk while it runs."""

    def __init__(self, context: ChunkContext, chunk: Chunk, executor: Executor) -> None:
        self._context, self._chunk, self._executor = context, chunk, executor
        self._collector = Collector(context.run)
        self._completed: list[_Completed] = []
        self._failures: list[Failure] = []
        self._node = platform.node()
        # One simulation's part of what the task declares.
        self._request_bytes = chunk.request_bytes // chunk.width

    def run(self) -> tuple[ChunkReport, Payload]:
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
            base_bytes=self._executor.base_bytes,
            child_bytes=self._executor.child_bytes,
            shared_bytes=self._executor.shared_bytes,
            notice=self._executor.notice,
            payload_bytes=payload.simulations.nbytes + sum(table.nbytes for table in tables),
            node=self._node,
            fatal=fatal,
        )
        return report, payload

    def _simulate_all(self) -> None:
        simulations = self._chunk.simulations
        attempts = {one.position: n for one, n in zip(simulations, self._chunk.attempts, strict=True)}
        with closing(self._executor.run(simulations)) as attempted:
            for simulation, attempt in attempted:
                self._take(simulation, attempts[simulation.position], attempt)
                if self._collector.size_bytes >= self._context.target_payload_bytes:
                    return

    def _take(self, simulation: Simulation, attempts: int, attempt: Attempt) -> None:
        outcome, seconds, peak_bytes = attempt
        if isinstance(outcome, Failure):
            self._fail(outcome, attempts, seconds, peak_bytes)
            return
        self._collector.add(len(self._completed), simulation.seed, outcome)
        self._completed.append(_Completed(simulation, attempts, seconds, peak_bytes))

    def _fail(self, failure: Failure, attempts: int, seconds: float, peak_bytes: int) -> None:
        measured = replace(failure, attempts=attempts, seconds=seconds, peak_bytes=peak_bytes)
        self._failures.append(replace(measured, request_bytes=self._request_bytes, node=self._node))

    def _payload(self) -> Payload:
        done, n_done = self._completed, len(self._completed)
        positions = tuple(c.simulation.position for c in done)
        identities = identity_table(self._context.run, [c.simulation for c in done])
        outcomes: dict[str, list[Any]] = {
            "attempts": [c.attempts for c in done],
            "seconds": [c.seconds for c in done],
            "peak_bytes": [c.peak_bytes for c in done],
            "request_bytes": [self._request_bytes] * n_done,
            "node": [self._node] * n_done,
        }
        simulations = completed_rows(self._context.run, identities, outcomes)
        return Payload(positions, simulations, self._collector.tables(positions, identities))
