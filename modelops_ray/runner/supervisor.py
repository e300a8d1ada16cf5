"""Running simulations in children of the fork server (`--isolation fork`).

Owns when a child is replaced, and what its end means. Finding the server and talking to it is `forked`'s business.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

from modelops_ray.core.events import Cause, Failure
from modelops_ray.runner.chunk import Attempt, ChunkContext
from modelops_ray.runner.failures import bounded_message, bounded_traceback
from modelops_ray.runner.forked import Answer, ChildProcess, Death, Supervisor, supervise
from modelops_ray.runner.loading import ModelRef, require_same
from modelops_ray.runner.measure import private_bytes
from modelops_ray.runner.tables import Scalars
from modelops_ray.study.chunk import Chunk, Simulation

FORK_S = 0.02
"""What a fork and its end cost; children that run for much longer than that are not shared."""
SHARED_FORKS = 20


@contextmanager
def in_children(context: ChunkContext, chunk: Chunk) -> Iterator[InChildren]:
    """Connect to the fork server of this node and run there.

    Raises:
        ModelError: The model cannot be loaded here, or is not the one the run began with.
    """
    _require_same_once(context.model)
    with supervise(context.model, context.cpus) as supervisor:
        executor = InChildren(context, chunk, supervisor)
        try:
            yield executor
        finally:
            executor.close()


@functools.lru_cache(maxsize=1)
def _require_same_once(ref: ModelRef) -> None:
    require_same(ref)


class InChildren:
    """An `Executor` in forked children: one simulation each, or several that are short."""

    def __init__(self, context: ChunkContext, chunk: Chunk, supervisor: Supervisor) -> None:
        self._context, self._chunk, self._supervisor = context, chunk, supervisor
        self._child: ChildProcess | None = None
        self._used_s = 0.0
        self.base_bytes = private_bytes()

    def simulate(self, simulation: Simulation) -> Attempt:
        """Run one simulation in a child.

        Raises:
            ModelError: The server ended, twice.
        """
        asked = {
            "params": dict(simulation.params),
            "seed": simulation.seed,
            "scenario": self._context.run.scenario,
            "outputs": self._context.outputs,
        }
        child = self._ready_child()
        began_s = time.monotonic()
        came = child.simulate(asked, self._context.timeout_s)
        self._used_s += time.monotonic() - began_s
        if isinstance(came, Death):
            self.close()
            return Attempt(self._failure_of_death(came, simulation), came.seconds, came.peak_bytes)
        return Attempt(_outcome(came, simulation), came.seconds, came.peak_bytes)

    def close(self) -> None:
        """Let go of the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ready_child(self) -> ChildProcess:
        if self._child is not None and self._used_s >= SHARED_FORKS * FORK_S:
            self.close()
        if self._child is None:
            self._used_s = 0.0
            self._child = self._supervisor.fork(self._chunk.limit_bytes, is_hard=self._context.is_hard)
        return self._child

    def _failure_of_death(self, death: Death, simulation: Simulation) -> Failure:
        position, printed = simulation.position, death.printed
        if death.reason == "timeout":
            message = f"it took longer than {self._context.timeout_s:g} s; raise --timeout, or 0 for no limit"
            return Failure(position, Cause.TIMEOUT, "Timeout", message, printed)
        if death.reason:
            return Failure(position, Cause.OUT_OF_MEMORY, "OutOfMemory", f"killed: {death.reason}", printed)
        if death.code == -signal.SIGKILL:
            message = "killed from outside, most likely by the kernel because memory ran out"
            return Failure(position, Cause.OUT_OF_MEMORY, "SIGKILL", message, printed)
        if death.code < 0:
            name = signal.Signals(-death.code).name
            return Failure(position, Cause.CRASHED, name, f"its process ended by {name}", printed)
        return Failure(position, Cause.CRASHED, "Exit", f"the model ended its process with code {death.code}", printed)


def _outcome(came: Answer, simulation: Simulation) -> Mapping[str, Scalars | pa.Table] | Failure:
    if came.failure is None:
        return came.outputs
    told = came.failure
    message, trace = bounded_message(told["message"]), bounded_traceback(told["traceback"])
    return Failure(simulation.position, Cause(told["kind"]), told["type"], message, trace)
