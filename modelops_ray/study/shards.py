"""How a study is split into shards: by parameter set, evenly, and the same way everywhere.

Owns which simulation is in which shard. Where shards are kept is the store's business.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelops_ray.config import Shard
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import UsageError
from modelops_ray.study.simulations import Simulations


def split(set_sizes: Sequence[int], n_shards: int) -> npt.NDArray[np.int64]:
    """Give every parameter set, in study order, to the shard with the fewest simulations so far, the first of several.

    Neighbours in a grid, which take about the same time, come into different shards; parameter sets that are added at
    the end, or replicates that are added to all of them, leave the others where they are.

    Takes the number of simulations of each parameter set, and returns the shard of each, counted from 0.
    """
    loads = [(0, shard) for shard in range(n_shards)]
    shards = np.empty(len(set_sizes), np.int64)
    for index, size in enumerate(set_sizes):
        load, shard = loads[0]
        shards[index] = shard
        heapq.heapreplace(loads, (load + size, shard))
    return shards


def scope_of(simulations: Simulations, shard: Shard) -> Ranges:
    """The positions that a shard is to answer; UsageError where there are more shards than parameter sets."""
    n_sets = simulations.n_parameter_sets
    if shard.of > n_sets:
        raise UsageError(
            f"--shard {shard}: the study has {n_sets} parameter set{'s' if n_sets != 1 else ''}, so it splits into at "
            f"most {n_sets} shard{'s' if n_sets != 1 else ''}"
        )
    return simulations.positions_of_sets(split(simulations.set_sizes(), shard.of) == shard.number - 1)
