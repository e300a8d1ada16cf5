"""Chunks of simulations that do nothing but what their parameters say, and the function that runs them anywhere."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from modelops_ray.backends.ray.task import tell_excess
from modelops_ray.core.report import ChunkReport, Measured
from modelops_ray.errors import ModelError, NodeError
from modelops_ray.study.chunk import Chunk, OutputTable, Payload, Simulation

MIB = 2**20


def chunk(
    chunk_id: int, *, request_bytes: int = 64 * MIB, announce: bool = False, **params: bool | float | str
) -> Chunk:
    """Make a chunk of one simulation at the position of its id; `params` name what it does (see `run_chunk`)."""
    simulation = Simulation(chunk_id, 0, params, "p", chunk_id, chunk_id)
    return Chunk(chunk_id, (simulation,), (1,), request_bytes, request_bytes, announce=announce)


def run_chunk(chunk: Chunk) -> tuple[ChunkReport, Payload]:
    """Do what the parameters say, and return one output of one row, or of `payload_mib`.

    `excess_mib` to tell of; `sleep_s`; `wait_for` a path to appear; `raise` an exception by name; `kill` the worker;
    `eat_mib` of memory.
    """
    for simulation in chunk.simulations:
        if "excess_mib" in simulation.params:
            tell_excess(chunk.chunk_id, {simulation.position: int(simulation.params["excess_mib"]) * MIB})
        _act(simulation)
    measured = tuple(Measured(simulation.position, 0.0, 0) for simulation in chunk.simulations)
    positions = tuple(simulation.position for simulation in chunk.simulations)
    table = pa.table({"x": np.full(_length(chunk), chunk.chunk_id, dtype=np.float64)})
    simulations = pa.table({"seed": [simulation.seed for simulation in chunk.simulations]})
    payload = Payload(positions, simulations, {"result": (OutputTable(positions, (table.num_rows,), table),)})
    return ChunkReport(measured, payload_bytes=table.nbytes, node=str(os.getpid())), payload


def _length(chunk: Chunk) -> int:
    return int(chunk.simulations[0].params.get("payload_mib", 0)) * MIB // 8 or 1


def _act(simulation: Simulation) -> None:
    params = simulation.params
    if "sleep_s" in params:
        time.sleep(float(params["sleep_s"]))
    while "wait_for" in params and not Path(str(params["wait_for"])).exists():
        time.sleep(0.02)
    if "eat_mib" in params:
        _eat(int(params["eat_mib"]))
    if "kill" in params:
        os.kill(os.getpid(), signal.SIGKILL)
    if "raise" in params:
        kinds = (ModelError, NodeError, MemoryError, KeyError)
        raise {kind.__name__: kind for kind in kinds}[str(params["raise"])]("as told")


def _eat(mib: int) -> None:
    """Touch memory step by step, then hold it: a monitor looks a few times a second only."""
    held = []
    for _ in range(mib // 16):
        held.append(np.ones(2 * MIB))
        time.sleep(0.005)
    time.sleep(20)
    del held
