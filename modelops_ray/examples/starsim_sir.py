"""A stochastic SIR epidemic on a random contact network in Starsim, in days; a file to copy and change."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# On its first import Starsim otherwise writes fonts to the user's cache, which every worker would do at once.
os.environ.setdefault("STARSIM_INSTALL_FONTS", "0")

import starsim as ss  # noqa: TID253

AGENTS = 5_000
CONTACTS = 4
DAYS = 100


def simulate(params: Mapping[str, float], seed: int) -> dict[str, dict[str, Any]]:
    """Simulate one epidemic; the result depends on nothing but the parameters and the seed.

    Args:
        params: `beta`, infections per day and contact with one infectious person; `dur_inf`, mean days until recovery;
            optionally `n_agents` and `n_contacts`.
        seed: From 0 to 2**32 - 1, the range of Starsim's generators.

    Returns:
        `incidence`, `prevalence` and `cumulative` with one row per day.
    """
    if seed >= 2**32:
        raise ValueError(f"Starsim takes seeds below 2**32, not {seed}")
    sim = ss.Sim(
        n_agents=int(params.get("n_agents", AGENTS)),
        networks=ss.RandomNet(n_contacts=int(params.get("n_contacts", CONTACTS))),
        diseases=ss.SIR(
            beta=ss.perday(params["beta"]),
            init_prev=0.01,
            dur_inf=ss.lognorm_ex(mean=ss.days(params["dur_inf"])),
            p_death=0,
        ),
        dt=ss.days(1),
        dur=ss.days(DAYS),
        rand_seed=seed,
        verbose=0,
    )
    sim.run()
    results = sim.results.sir
    days = np.arange(len(results.new_infections))
    return {
        "incidence": {"day": days, "new_infections": counts(results.new_infections)},
        "prevalence": {"day": days, "infected": counts(results.n_infected)},
        "cumulative": {"day": days, "infections": counts(results.cum_infections)},
    }


def counts(result: Any) -> npt.NDArray[np.int64]:
    """Starsim keeps numbers of people as floats."""
    return np.asarray(result).astype(np.int64)
