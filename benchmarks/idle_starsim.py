"""A model that imports Starsim and does nothing with it: what is left of a simulation is its process."""

from __future__ import annotations

import os
from collections.abc import Mapping

os.environ.setdefault("STARSIM_INSTALL_FONTS", "0")

import starsim as ss  # noqa: F401, TID253


def simulate(params: Mapping[str, float], seed: int) -> dict[str, float]:
    """Return one row at once."""
    return {"x": params["x"], "seed": seed}
