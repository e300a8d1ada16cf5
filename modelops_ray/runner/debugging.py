"""One simulation in this very process, under Python's debugger (`modelops-ray debug`).

Owns what the person at the debugger sees: what the model prints, where it stops, and the frames of an exception.
Limits nothing and keeps nothing.
"""

from __future__ import annotations

import math
import pdb  # noqa: T100 (it is what is asked for)
import sys
from bdb import BdbQuit
from collections.abc import Callable, Mapping

import pyarrow as pa

from modelops_ray.runner.executor import ChunkContext
from modelops_ray.runner.inprocess import settled, workroom_here
from modelops_ray.sandbox.foreign import back_to, working_folder_kept
from modelops_ray.sandbox.generators import seed_shared
from modelops_ray.sandbox.loading import load_model, workdir_of
from modelops_ray.sandbox.outputs import BadOutputError, Scalars
from modelops_ray.sandbox.raised import model_frames, told_of
from modelops_ray.sandbox.usable import usable_outputs
from modelops_ray.study.chunk import Simulation

Outputs = Mapping[str, Scalars | pa.Table]
_HINT = "w shows where, u and d go up and down, p NAME prints, q ends"


def debugged(context: ChunkContext, simulation: Simulation, say: Callable[[str], None]) -> Outputs | None:
    """Run a simulation here and return its outputs; None where it failed, after the debugger was left.

    ModelError where the model cannot be loaded.
    """
    with working_folder_kept():
        back_to(workdir_of(context.model))
        model = load_model(context.model)
        with workroom_here() as workroom, settled():
            seed_shared(simulation.seed)
            workroom.enter()
            try:
                returned = model(dict(simulation.params), simulation.seed, context.run.scenario)
                return usable_outputs(returned, context.outputs)
            except BdbQuit:
                say("the debugger was left before the simulation had ended")
            except BaseException as error:  # what a model raises, sys.exit() included, is that simulation's failure
                if isinstance(error, KeyboardInterrupt):
                    raise
                _look_at(error, say)
            finally:
                workroom.leave(math.inf)
    return None


def _look_at(error: BaseException, say: Callable[[str], None]) -> None:
    told = told_of(error)
    if isinstance(error, BadOutputError):
        say(told.message)
        return
    sys.stdout.flush()
    for line in (told.traceback or "").splitlines():
        say(line)
    say(f"it failed; {_HINT}")
    pdb.post_mortem(model_frames(error.__traceback__))
