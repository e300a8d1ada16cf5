"""Starsim's SIR model for the incident: as it is, with ballast, and held until others are there.

Importing this file imports Starsim, which takes seconds and 170 MB: that is what the incident's workers do too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fillers import PAGE, fill, hold_until
from benchmarks.ledger import attempt
from benchmarks.models import MIB, Params, Rows

# On its first import Starsim otherwise writes fonts to the user's cache, which every worker would do at once.
os.environ.setdefault("STARSIM_INSTALL_FONTS", "0")

import starsim as ss  # noqa: TID253

AGENTS = 1_000
DAYS = 60


def infected(params: Params, seed: int) -> Any:
    """Simulate one epidemic and return how many people were infected by each day."""
    sim = ss.Sim(
        n_agents=AGENTS,
        networks=ss.RandomNet(n_contacts=4),
        diseases=ss.SIR(
            beta=ss.perday(params["beta"]),
            init_prev=0.01,
            dur_inf=ss.lognorm_ex(mean=ss.days(params["dur_inf"])),
            p_death=0,
        ),
        dt=ss.days(1),
        dur=ss.days(DAYS),
        rand_seed=seed % 2**32,
        verbose=0,
    )
    sim.run()
    return np.asarray(sim.results.sir.cum_infections).astype(np.int64)


def sir(params: Params, seed: int) -> Mapping[str, Rows]:
    """Simulate one epidemic."""
    people = infected(params, seed)
    return {"result": {"value": float(people[-1])}, "cumulative": {"day": np.arange(len(people)), "people": people}}


def sir_answer(params: Params, seed: int) -> float:
    """Simulate it again, alone."""
    return float(infected(params, seed)[-1])


def heavy_sir(params: Params, seed: int) -> Mapping[str, Rows]:
    """Simulate one epidemic with `mib` MiB of ballast, kept for `hold_s` seconds: a network of many more contacts."""
    with attempt(params["ledger"], params["x"], seed) as ledger:
        ballast = fill(params["mib"] * MIB, seed % 251, ledger)
        answer = sir(params, seed)
        hold_until(time.monotonic() + params["hold_s"], ledger)
        assert ballast[-PAGE] == seed % 251
        return answer


heavy_sir_answer = sir_answer


def kept(params: Params, seed: int) -> Rows:
    """Simulate one epidemic and keep it until `together` simulations are there, and `hold_s` seconds longer.

    It waits a second for each of them, which is about what one takes of a core.
    """
    people = infected({"beta": 0.05, "dur_inf": 5.0}, seed)
    here = Path(params["ledger"]) / f"{os.getpid()}"
    here.touch()
    try:
        _wait_for(lambda: len(os.listdir(params["ledger"])) >= params["together"], params["together"])  # noqa: PTH208
        time.sleep(params["hold_s"])
    finally:
        here.unlink()
    return {"value": float(people[-1])}


def kept_answer(_params: Params, seed: int) -> float:
    """Simulate it again, alone."""
    return sir_answer({"beta": 0.05, "dur_inf": 5.0}, seed)


def _wait_for(condition: Callable[[], bool], patience_s: float) -> None:
    end_s = time.monotonic() + patience_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.1)
