"""A stochastic SIR epidemic on a random contact network, in NumPy alone; a file to copy and change."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

AGENTS = 10_000
CONTACTS = 8
DAYS = 120
SEEDED = 10


def simulate(params: Mapping[str, float], seed: int) -> dict[str, dict[str, Any]]:
    """Simulate one epidemic; the result depends on nothing but the parameters and the seed.

    Args:
        params: `beta`, infections per day and contact with one infectious person; `gamma`, recoveries per day;
            optionally `n_agents`.
        seed: Any whole number from 0.

    Returns:
        `incidence` and `prevalence` with one row per day, `summary` with one row.
    """
    rng = np.random.default_rng(seed)
    n_agents = int(params.get("n_agents", AGENTS))
    sources, targets = contact_network(n_agents, rng)
    infected, susceptible = np.zeros(n_agents, bool), np.ones(n_agents, bool)
    first_cases = rng.choice(n_agents, min(SEEDED, n_agents), replace=False)
    infected[first_cases], susceptible[first_cases] = True, False
    p_infect, p_recover = 1 - np.exp(-params["beta"]), 1 - np.exp(-params["gamma"])
    new_infections, prevalence = np.zeros(DAYS, np.int64), np.zeros(DAYS, np.int64)
    for day in range(DAYS):
        exposed = targets[infected[sources] & susceptible[targets]]
        newly = np.unique(exposed[rng.random(exposed.size) < p_infect])
        infected &= rng.random(n_agents) >= p_recover
        infected[newly], susceptible[newly] = True, False
        new_infections[day], prevalence[day] = newly.size, infected.sum()
    days = np.arange(DAYS)
    return {
        "incidence": {"day": days, "new_infections": new_infections},
        "prevalence": {"day": days, "infected": prevalence},
        "summary": {
            "attack_rate": float(1 - susceptible.mean()),
            "peak_day": int(prevalence.argmax()),
            "peak_infected": int(prevalence.max()),
        },
    }


def contact_network(n_agents: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair agents at random, CONTACTS each on average; every contact is listed in both directions."""
    ends = rng.integers(n_agents, size=(2, n_agents * CONTACTS // 2))
    return np.concatenate([ends[0], ends[1]]), np.concatenate([ends[1], ends[0]])
