"""Running simulations in this process, one after the other (`--isolation none`).

Owns the order of measuring and seeding. Does not limit memory, and cannot outlive a crash of the model.
"""

from __future__ import annotations

import errno
import functools
import gc
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field

import pyarrow as pa

from modelops_ray.core.report import Failure
from modelops_ray.runner.companions import Companions
from modelops_ray.runner.executor import Attempt, ChunkContext, Read, Surroundings
from modelops_ray.runner.failures import failure_of
from modelops_ray.runner.learned import learned
from modelops_ray.runner.shared_files import SharedFiles
from modelops_ray.runner.time_limit import Guard
from modelops_ray.sandbox.aftermath import Interpreter, NamesKept, interpreter_state, put_right
from modelops_ray.sandbox.buffers import flush_c
from modelops_ray.sandbox.calling import Model
from modelops_ray.sandbox.descriptors import high
from modelops_ray.sandbox.foreign import ForksEnded, back_to, working_folder_kept
from modelops_ray.sandbox.generators import seed_shared
from modelops_ray.sandbox.held import held
from modelops_ray.sandbox.loading import aftermath, load_model, models_folder, reading, workdir_of
from modelops_ray.sandbox.measure import Meter, peak_meter, private_bytes
from modelops_ray.sandbox.outputs import Scalars
from modelops_ray.sandbox.raised import storable
from modelops_ray.sandbox.usable import usable_outputs
from modelops_ray.sandbox.workroom import Workroom
from modelops_ray.study.chunk import Simulation


@contextmanager
def in_this_process(context: ChunkContext) -> Iterator[InProcess]:
    """Load the model and run it here; ModelError where that fails, or it is not the one the run began with."""
    with working_folder_kept(), _stdout_aside():
        # As a process made for the model would: what its import reads lies beside it.
        back_to(workdir_of(context.model))
        model = load_model(context.model)
        base_bytes = _base_bytes(context.model.digest)
        with (
            workroom_here() as workroom,
            peak_meter() as meter,
            Companions() as companions,
            settled() as names,
            Guard(context.timeout_s) as guard,
            redirect_stdout(sys.stderr),
        ):
            yield InProcess(context, model, meter, companions, guard, base_bytes, workroom, names)


@contextmanager
def workroom_here() -> Iterator[Workroom]:
    """A folder to work in that is gone afterwards."""
    place = tempfile.mkdtemp(prefix="modelops-ray-work-")
    reading().tell_again()
    workroom = Workroom(models_folder(), place, reading=reading())
    try:
        yield workroom
    finally:
        workroom.clear()
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _stdout_aside() -> Iterator[None]:
    """Have what programs and C code print go to stderr: stdout may carry the one JSON object of `--json`."""
    flush_c()
    try:
        stdout = high(os.dup(1))
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        yield  # it is closed
        return
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        flush_c()
        os.dup2(stdout, 1)
        os.close(stdout)


@contextmanager
def settled() -> Iterator[NamesKept]:
    """Have the state that the model's import left in force, but for the signals by which this process is ended."""
    found = aftermath()
    found.settle(but=(signal.SIGINT, signal.SIGTERM))
    try:
        with NamesKept() as names:
            yield names
    finally:
        found.leave()
        found.buffers.flush()


@functools.lru_cache(maxsize=1)
def _base_bytes(_digest: str) -> int:
    """Measure this process with its model loaded, before the first simulation."""
    # What is imported stays: keep it out of every later collection, which then costs what a simulation made.
    gc.collect()
    gc.freeze()
    return private_bytes()


@dataclass(slots=True)
class InProcess:
    """An `Executor` in this process."""

    context: ChunkContext
    model: Model
    meter: Meter
    companions: Companions
    guard: Guard
    base_bytes: int
    workroom: Workroom
    names: NamesKept
    interpreter: Interpreter = field(default_factory=interpreter_state)
    has_enough: bool = False
    read: dict[tuple[str, str], None] = field(default_factory=dict)

    def surroundings(self) -> Surroundings:
        """What this process owned before the first simulation; the notice is of a file that several write."""
        return Surroundings(self.base_bytes, 0, 0, 0.0, self._shared_files.notice)

    @property
    def _shared_files(self) -> SharedFiles:
        return learned(self.context.model.digest, "none", None).shared_files

    def run(self, simulations: tuple[Simulation, ...]) -> Generator[tuple[Simulation, Attempt]]:
        """Run simulations here, one after the other."""
        for simulation in simulations:
            yield simulation, self._simulate(simulation)
            if self.has_enough:
                return

    def enough(self) -> None:
        """Begin no further simulation."""
        self.has_enough = True

    def _simulate(self, simulation: Simulation) -> Attempt:
        seed_shared(simulation.seed)
        seconds = math.inf
        self.workroom.enter()
        try:
            self.meter.begin()
            self.companions.begin(self.meter.before_bytes)
            started_s = held.perf_s()
            outcome = self._outcome(simulation)
            seconds = held.perf_s() - started_s
            peak_bytes = max(self.meter.peak_bytes(), self.companions.peak_bytes())
        finally:
            self.workroom.leave(seconds)
        if fresh := self.workroom.reading.fresh:
            self.read |= dict.fromkeys(fresh)
            fresh.clear()
            self._shared_files.note_read(len(self.read))
        self.workroom.update_changed()
        if self.workroom.wrote or self.workroom.changed:
            wrote = [(simulation.position, storable(path)) for path in self.workroom.wrote]
            self._shared_files.note(wrote, map(storable, self.workroom.changed))
            self.workroom.changed.clear()
        return Attempt(outcome, seconds, peak_bytes, Read(self.read, len(self.read)) if self.read else None)

    def _outcome(self, simulation: Simulation) -> dict[str, Scalars | pa.Table] | Failure:
        try:
            return self.guard.call(lambda: self._call_model(simulation))
        except BaseException as error:  # what a model raises, sys.exit() included, is that simulation's failure
            if self.guard.interrupted:
                raise
            return failure_of(error, simulation.position, self.context.timeout_s)

    def _call_model(self, simulation: Simulation) -> dict[str, Scalars | pa.Table]:
        try:
            with ForksEnded():
                returned = self.model(dict(simulation.params), simulation.seed, self.context.run.scenario)
        finally:
            put_right(self.interpreter)
            self.names.put_back()
        self.meter.peak_bytes()
        return usable_outputs(returned, self.context.outputs)
