"""A chunk from its simulations to its report and payload, at any level of isolation.

Owns the order, the bounds of a chunk, and that no failure of one simulation reaches the next. How one is run is an
`Executor`'s business.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from modelops_ray.core.report import ChunkReport, Failure, Measured
from modelops_ray.errors import NodeError
from modelops_ray.runner.collect import Collector, ColumnCollisionError
from modelops_ray.runner.executor import Attempt, ChunkContext, Executor, Read, Surroundings
from modelops_ray.runner.holding import Holding
from modelops_ray.runner.inprocess import in_this_process
from modelops_ray.runner.supervisor import in_children
from modelops_ray.runner.twins import difference
from modelops_ray.sandbox.held import held
from modelops_ray.sandbox.loading import relocated
from modelops_ray.sandbox.reading import FileState, digest_at, name_of
from modelops_ray.study.chunk import Chunk, Payload, ReadTogether, Simulation
from modelops_ray.study.identity import task_id
from modelops_ray.study.rows import completed_rows, identity_table, times
from modelops_ray.study.sameness import not_a_function

NODE_PAUSE_S = 5.0


class _Completed(NamedTuple):
    simulation: Simulation
    attempts: int
    seconds: float
    peak_bytes: int
    ended_unix_s: float
    read: Read | None


def run_chunk(context: ChunkContext, chunk: Chunk) -> tuple[ChunkReport, Payload]:
    """Run the simulations of a chunk in order; with the context bound, this is a `RunChunk`.

    Returns the report, without the positions that were not reached, and the results of those that completed. ModelError
    where the model cannot be loaded here, or is not the one the run began with; NodeError where this node lacks
    processes, descriptors or disk.
    """
    context = replace(context, model=relocated(context.model, Path.cwd()))
    with _nodes_doing():
        twin = _twin(context, chunk) if chunk.has_twin and context.isolation != "none" else None
        with _executor(context, chunk) as executor:
            return _ChunkRun(context, chunk, executor, twin).run()


def _twin(context: ChunkContext, chunk: Chunk) -> Attempt | None:
    """Run a copy of the first simulation in a process that no other simulation is given."""
    first = chunk.simulations[:1]
    with in_children(replace(context, per_child=1), chunk) as executor, closing(executor.run(first)) as attempted:
        return next((attempt for _, attempt in attempted), None)


@contextmanager
def _nodes_doing() -> Iterator[None]:
    """Take what the system refuses for the node's doing: what happens in a simulation is not seen here."""
    try:
        yield
    except OSError as error:
        # A node that failed at once would draw, and fail, all chunks that are left of the run.
        time.sleep(NODE_PAUSE_S)
        raise NodeError(
            f"node {platform.node()} cannot run simulations: {error}; make room there, or take it out of the cluster"
        ) from error


def _executor(context: ChunkContext, chunk: Chunk) -> AbstractContextManager[Executor]:
    return in_this_process(context) if context.isolation == "none" else in_children(context, chunk)


class _ChunkRun:
    """One chunk while it runs."""

    def __init__(self, context: ChunkContext, chunk: Chunk, executor: Executor, twin: Attempt | None) -> None:
        self._context, self._chunk, self._executor, self._twin = context, chunk, executor, twin
        self._notice = ""
        self._collector = Collector(context.run)
        self._completed: list[_Completed] = []
        self._failures: list[Failure] = []
        self._text_bytes = 0
        self._holding = Holding(min(context.target_s, chunk.enough_s))
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
            **self._surroundings()._asdict(),
            payload_bytes=payload.simulations.nbytes + sum(table.nbytes for table in tables),
            held_s=self._holding.held_s(held.monotonic_s()),
            node=self._node,
            fatal=fatal,
        )
        return report, payload

    def _surroundings(self) -> Surroundings:
        found = self._executor.surroundings()
        return found._replace(notice=self._notice or found.notice)

    def _simulate_all(self) -> None:
        simulations = self._chunk.simulations
        attempts = {one.position: n for one, n in zip(simulations, self._chunk.attempts, strict=True)}
        began_s = held.monotonic_s()
        # A clock that is set while the chunk runs changes no simulation's order.
        epoch_s = held.unix_s() - began_s
        with closing(self._executor.run(simulations)) as attempted:
            for simulation, told in attempted:
                now_s = held.monotonic_s()
                attempt = told.within(now_s - began_s)
                self._take(simulation, attempts[simulation.position], attempt, epoch_s + now_s)
                self._holding.ended(now_s, attempt.seconds)
                # Nothing of this chunk counts before it has ended: the rest is then better left to other chunks.
                if self._holding.is_enough(now_s) or self._payload_bytes >= self._context.target_payload_bytes:
                    self._executor.enough()

    @property
    def _payload_bytes(self) -> int:
        return self._collector.size_bytes + self._text_bytes

    def _take(self, simulation: Simulation, attempts: int, attempt: Attempt, ended_unix_s: float) -> None:
        outcome, seconds, peak_bytes, read = attempt
        self._compare(simulation, attempt)
        if isinstance(outcome, Failure):
            self._fail(outcome, attempts, attempt, ended_unix_s)
            return
        self._collector.add(len(self._completed), simulation.seed, outcome)
        self._completed.append(_Completed(simulation, attempts, seconds, peak_bytes, ended_unix_s, read))

    def _compare(self, simulation: Simulation, attempt: Attempt) -> None:
        """Have the user told where the copy of this simulation came out otherwise."""
        if self._twin is None or simulation is not self._chunk.simulations[0]:
            return
        if where := difference(self._twin, attempt):
            run = self._context.run
            name = task_id(run.bundle_ref, run.entrypoint, simulation.param_id, simulation.seed)
            self._notice = not_a_function(self._context.model.label, f"simulation {name} ({where})")

    def _fail(self, failure: Failure, attempts: int, attempt: Attempt, ended_unix_s: float) -> None:
        self._text_bytes += failure.text_bytes
        measured = replace(
            failure,
            attempts=attempts,
            seconds=attempt.seconds,
            peak_bytes=attempt.peak_bytes,
            request_bytes=self._request_bytes,
            node=self._node,
            ended_unix_s=ended_unix_s,
        )
        self._failures.append(measured)

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
            **times((c.ended_unix_s, c.seconds) for c in done),
        }
        simulations = completed_rows(self._context.run, identities, outcomes)
        return Payload(positions, simulations, self._collector.tables(positions, identities), self._read())

    def _read(self) -> tuple[ReadTogether, ...]:
        by_process: dict[int, list[_Completed]] = {}
        for one in self._completed:
            if one.read is not None:
                by_process.setdefault(id(one.read.files), []).append(one)
        return tuple(_read_together(done, self._context.model.folder) for done in by_process.values())


def _read_together(done: list[_Completed], folder: str) -> ReadTogether:
    """What the process of these simulations, in their order, read; by names relative to the model's folder."""
    counts = [one.read.n for one in done if one.read is not None]
    files = list(done[-1].read.files)[: counts[-1]] if done[-1].read is not None else []
    states = [FileState(name_of(path, folder), digest_at(path, stamp)) for path, stamp in files]
    first = [bisect_right(counts, index) for index in range(len(files))]
    return ReadTogether(tuple(one.simulation.position for one in done), tuple(zip(states, first, strict=True)))
