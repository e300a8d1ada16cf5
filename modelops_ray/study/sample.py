"""Which few parameter sets stand for a whole study: its corners, then all levels of all parameters equally often; pure.

Owns the choice only. An even stride over the study would fall in step with the last axis of a grid and see one level of
it; the choice here is drawn at random, and is the same for the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from modelops_ray.core.ranges import Ranges
from modelops_ray.study.chunk import Scalar
from modelops_ray.study.simulations import Simulations

MAX_LEVELS = 16
"""The values of a parameter with more are divided into this many parts, of about equally many sets."""
MAX_ENUMERATED = 10
MAX_CORNERS = 64
CORNERS_SHARE = 0.5
"""At most this share of a sample are corners, besides the two where every parameter is least, or most."""

_Codes = npt.NDArray[np.int64]
_Shares = npt.NDArray[np.float64]


def sample_positions(simulations: Simulations, n: int, seed: str, among: Ranges | None = None) -> Ranges:
    """Choose `n` simulations: one of each parameter set that `sample_sets` chooses, then any others.

    The same seed chooses the same simulations; `among` are the positions to choose from, None for all.
    """
    positions = np.arange(len(simulations)) if among is None else np.fromiter(among, np.int64, len(among))
    sets = simulations.sets_of(positions)
    numbers, starts, counts = np.unique(np.sort(sets), return_index=True, return_counts=True)
    by_set = positions[np.argsort(sets, kind="stable")]
    rng = random.Random(seed)  # noqa: S311 (no secret)
    chosen = {
        int(by_set[starts[at] + rng.randrange(int(counts[at]))])
        for at in sample_sets([simulations.params_of(number) for number in numbers.tolist()], n, seed)
    }
    others = [position for position in positions.tolist() if position not in chosen] if len(chosen) < n else []
    return Ranges.of({*chosen, *rng.sample(others, min(len(others), n - len(chosen)))})


def sample_sets(sets: Sequence[Mapping[str, Scalar]], n: int, seed: str) -> list[int]:
    """Choose parameter sets that show what a study needs.

    First come the sets where every parameter is least, where every one is most, and other corners of the space that
    they span, in random order; a study that has no set in a corner gives the closest. Then the value of a parameter
    that was chosen least often is taken, over and over, at a set drawn from those that have it.

    Returns up to `n` indices into `sets`, all different, in the order of choice; the same seed chooses the same.
    """
    rng = random.Random(seed)  # noqa: S311 (no secret)
    n = min(n, len(sets))
    ranks = _ranks(sets)
    n_corners = min(n, max(2, int(CORNERS_SHARE * n))) if ranks.size else 0
    chosen = dict.fromkeys(_corners(ranks / np.maximum(1, ranks.max(axis=0, initial=0)), n_corners, rng))
    _fill(chosen, _levels(ranks), n, rng)
    return list(chosen)


def _ranks(sets: Sequence[Mapping[str, Scalar]]) -> _Codes:
    """The rank of every value among those of its parameter; one column for each parameter that varies."""
    columns = []
    for name in sorted({name for one in sets for name in one}):
        values = [one.get(name) for one in sets]
        known = {value: rank for rank, value in enumerate(sorted(set(values), key=_order))}
        if len(known) > 1:
            columns.append([known[value] for value in values])
    return np.array(columns, np.int64).reshape(len(columns), len(sets)).T


def _order(value: Scalar | None) -> tuple[int, float | str]:
    if isinstance(value, str):
        return 2, value
    return (0, 0) if value is None else (1, value)


def _corners(places: _Shares, n: int, rng: random.Random) -> Iterator[int]:
    """Yield the sets closest to up to `n` corners, that of all least and that of all most first; may repeat some.

    `places` has every parameter scaled to 0..1, shape (sets, parameters).
    """
    for corner in islice(_signs(places.shape[1], rng), n):
        distances = np.abs(places - corner).sum(axis=1)
        yield rng.choice(np.flatnonzero(distances <= distances.min() + 1e-9).tolist())


def _signs(n_parameters: int, rng: random.Random) -> Iterator[_Codes]:
    """Yield corners of a cube, each followed by the one opposite: two have the least and the most of everything."""
    if n_parameters <= MAX_ENUMERATED:
        first, *others = range(2 ** (n_parameters - 1))
        numbers = [first, *rng.sample(others, len(others))]
    else:
        numbers = [0, *(rng.getrandbits(n_parameters) for _ in range(MAX_CORNERS))]
    for number in numbers:
        corner = np.array([number >> at & 1 for at in range(n_parameters)], np.int64)
        yield corner
        yield 1 - corner


def _levels(ranks: _Codes) -> _Codes:
    """The level of every value: its rank, or, where there are too many values, the part of the sets that it is in."""
    levels = np.empty_like(ranks)
    for at in range(ranks.shape[1]):
        # Equal values share a level: the level goes by how many sets have less.
        _, group, counts = np.unique(ranks[:, at], return_inverse=True, return_counts=True)
        n_less = np.cumsum(counts) - counts
        n_levels = len(counts)
        of_group = np.arange(n_levels) if n_levels <= MAX_LEVELS else n_less * MAX_LEVELS // len(ranks)
        levels[:, at] = of_group[group]
    return levels


def _fill(chosen: dict[int, None], levels: _Codes, n: int, rng: random.Random) -> None:
    """Choose up to `n`: next always a set with a level that was chosen least often, and whose other levels are rare."""
    is_free = np.ones(len(levels), np.bool_)
    is_free[list(chosen)] = False
    counts = [np.bincount(levels[list(chosen), at], minlength=MAX_LEVELS) for at in range(levels.shape[1])]
    while len(chosen) < n:
        free = np.flatnonzero(is_free)
        by_parameter = [of[level] for of, level in zip(counts, levels[free].T, strict=True)]
        n_chosen = np.array(by_parameter, np.int64).reshape(-1, len(free))
        scores = n_chosen.min(axis=0, initial=len(chosen)) * (len(chosen) * (len(counts) + 1)) + n_chosen.sum(axis=0)
        index = rng.choice(free[scores == scores.min()].tolist())
        chosen[index] = None
        is_free[index] = False
        for of, level in zip(counts, levels[index].tolist(), strict=True):
            of[level] += 1
