"""A model that imports Starsim, simulates a few people and then keeps them in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("STARSIM_INSTALL_FONTS", "0")

import starsim as ss  # noqa: TID253


def hold(params: Mapping[str, Any], seed: int) -> dict[str, int]:
    """Simulate a thousand people and keep them, until as many others do as were asked for, and a little longer."""
    sim = ss.Sim(n_agents=1000, networks="random", diseases="sir", dur=20, rand_seed=seed % 2**32, verbose=0).run()
    here = Path(params["folder"]) / f"{os.getpid()}"
    here.touch()
    try:
        wait_for(lambda: len(os.listdir(params["folder"])) >= params["together"], params["hold_s"])  # noqa: PTH208
        time.sleep(params["hold_s"])
    finally:
        here.unlink()
    return {"infected": int(sim.results.sir.cum_infections[-1])}


def wait_for(condition: Callable[[], bool], patience_s: float) -> bool:
    """Wait until it holds, or for so long."""
    end_s = time.monotonic() + patience_s
    while not (holds := condition()) and time.monotonic() < end_s:
        time.sleep(0.1)
    return holds
