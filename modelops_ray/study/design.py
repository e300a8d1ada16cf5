"""Points of a space of parameters: Latin hypercubes, Sobol's sequence, and a full factorial around them.

Owns how points are drawn and scaled. SciPy draws them; it is in the extra `design`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelops_ray.config import plain
from modelops_ray.errors import StudyError
from modelops_ray.study.chunk import Scalar
from modelops_ray.study.document import MAX_SIMULATIONS
from modelops_ray.study.identity import MAX_SEED
from modelops_ray.study.sets import ParameterSet, grid, read_axes
from modelops_ray.study.values import ParameterRules, describe, refuse

_Points = npt.NDArray[np.float64]
_A_RANGE = "two numbers, the lower one first, such as (0.1, 0.5)"


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`; where both are whole numbers, whole numbers with both ends among them."""

    low: float
    high: float

    @classmethod
    def of(cls, bounds: object, place: str) -> Range:
        """Read two numbers; StudyError where they are none, or not in order."""
        if not isinstance(bounds, Sequence) or isinstance(bounds, str):
            raise refuse(place, describe(bounds), _A_RANGE)
        if len(bounds) != 2:
            raise refuse(place, f"{len(bounds)} values", _A_RANGE)
        low, high = map(plain, bounds)
        for bound in (low, high):
            if type(bound) not in (int, float) or not math.isfinite(bound):
                raise refuse(place, describe(bound), _A_RANGE)
        if not low < high:
            raise refuse(place, f"{low} to {high}", _A_RANGE)
        return cls(low, high)

    @property
    def is_whole(self) -> bool:
        """Whether it is one of whole numbers."""
        return type(self.low) is int and type(self.high) is int

    def at(self, shares: Iterable[float]) -> list[Scalar]:
        """The values at these shares of the range, each from 0 up to 1."""
        if self.is_whole:
            n = int(self.high) - int(self.low) + 1
            return [int(self.low) + min(n - 1, int(share * n)) for share in shares]
        return [self.low + share * (self.high - self.low) for share in shares]


@dataclass(frozen=True, slots=True)
class Space:
    """The axes of a grid, and ranges of which points are drawn, by name of the parameter; `source` is for messages."""

    source: str
    axes: Mapping[str, list[Scalar]]
    lhs: Mapping[str, Range]
    sobol: Mapping[str, Range]

    @classmethod
    def of(cls, axes: object, lhs: object = None, sobol: object = None, source: str = "design") -> Space:
        """Check what was given; StudyError where a value is none, or a parameter has two."""
        space = cls(source, read_axes(axes, source), *(_ranges(each or {}, source) for each in (lhs, sobol)))
        names = [*space.axes, *space.lhs, *space.sobol]
        if not names:
            raise refuse(source, "no parameter", "at least one")
        rules = ParameterRules()
        for at, name in enumerate(names):
            if name in names[:at]:
                raise refuse(f"{source}: {name}", "it more than once", "each parameter in one of grid, lhs and sobol")
            if (fault := rules.fault(name, 0)) is not None:
                raise refuse(f"{source}: {name}", *fault)
        return space

    @property
    def method(self) -> str:
        """What a study calls it."""
        parts = {"grid": self.axes, "lhs": self.lhs, "sobol": self.sobol}
        return "_".join(name for name, part in parts.items() if part)

    def sets(self, n: object, seed: object) -> list[ParameterSet]:
        """Draw `n` points and have them at each point of the grid; the same seed draws the same."""
        corners = [each.params for each in grid(self.axes)]
        if not self.lhs and not self.sobol:
            if n is not None:
                raise refuse(f"{self.source}: n", describe(n), "none for a grid alone: it has all of its points")
            return [ParameterSet(each) for each in corners]
        most = min(2**30, MAX_SIMULATIONS // len(corners))
        if type(n) is not int or not 1 <= n <= most:
            raise refuse(f"{self.source}: n", "nothing" if n is None else describe(n), f"how many points, up to {most}")
        if type(seed) is not int or not 0 <= seed <= MAX_SEED:
            raise refuse(f"{self.source}: seed", describe(seed), f"a whole number from 0 to {MAX_SEED}")
        columns = {**_drawn(self.lhs, _hypercube, n, [seed, 0]), **_drawn(self.sobol, _sequence, n, [seed, 1])}
        points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [ParameterSet({**corner, **point}) for corner in corners for point in points]


def _ranges(given: object, source: str) -> dict[str, Range]:
    if not isinstance(given, Mapping):
        raise refuse(source, describe(given), 'a mapping such as {"beta": (0.1, 0.5)}')
    for name in given:
        if not isinstance(name, str):
            raise refuse(source, f"the parameter name {name!r}", "a text as name")
    return {name: Range.of(each, f"{source}: {name}") for name, each in given.items()}


def _drawn(
    ranges: Mapping[str, Range], draw: Callable[[Any, int, int, list[int]], _Points], n: int, seed: list[int]
) -> dict[str, list[Scalar]]:
    if not ranges:
        return {}
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise StudyError(
            f"this design needs SciPy ({error}); install it, as in: pip install 'modelops-ray[design]'"
        ) from error
    shares = draw(qmc, len(ranges), n, seed)
    return {name: each.at(shares[:, at].tolist()) for at, (name, each) in enumerate(ranges.items())}


def _hypercube(qmc: Any, n_dimensions: int, n: int, seed: list[int]) -> _Points:
    points: _Points = qmc.LatinHypercube(n_dimensions, rng=np.random.default_rng(seed)).random(n)
    return points


def _sequence(qmc: Any, n_dimensions: int, n: int, seed: list[int]) -> _Points:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the points are most even for a power of two
        points: _Points = qmc.Sobol(n_dimensions, rng=np.random.default_rng(seed)).random(n)
    return points
