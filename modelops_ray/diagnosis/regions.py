"""Where in parameter space failures are: the simplest rules of comparisons that tell them from the rest.

Owns the search, which is pure. A rule has to be worth its length: what chance makes of a few hundred thresholds is no
region. Conditions are written as `--where` takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

MOST_RULES = 3
MOST_CONDITIONS = 3
_BEAM = 6
_MARGIN = 3.0
"""How much more likely than chance, in nats beyond what naming it costs, failures must be where a rule says."""
_DENSITIES = (0.98, 0.7, 0.35)
"""Which shares of failures a band is looked for with."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Values = np.ndarray[Any, np.dtype[Any]]


class Condition(NamedTuple):
    """A comparison of a parameter with a value, as `--where` takes it."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.value}"


@dataclass(frozen=True, slots=True)
class Region:
    """A part of parameter space, how many simulations of it failed, and of how many."""

    conditions: tuple[Condition, ...]
    n_failed: int
    n_of: int

    def __str__(self) -> str:
        return f"{' and '.join(map(str, self.conditions))}: {self.n_failed:,} of {self.n_of:,}"


class Regions(NamedTuple):
    """The regions where simulations failed, and what is left: `n_failed` of `n_of` elsewhere."""

    regions: tuple[Region, ...]
    n_failed: int
    n_of: int


@dataclass(frozen=True, slots=True)
class _Cut:
    """One parameter's part of a rule; `cost` is what it takes to name it among all that could be named, in nats."""

    name: str
    conditions: tuple[Condition, ...]
    mask: Mask
    cost: float


@dataclass(frozen=True, slots=True)
class _Rule:
    cuts: tuple[_Cut, ...]
    mask: Mask
    worth: float


def regions_of(parameters: Mapping[str, Values], n_failed: Counts, n_of: Counts) -> Regions:
    """Find where simulations failed; no regions where failures are as likely everywhere.

    `parameters` are the values of each parameter in each parameter set: floats, NaN where a set does not have it, or
    objects, None likewise. Of the simulations of a set `n_of` ran and `n_failed` failed.
    """
    there = np.ones(len(n_of), dtype=np.bool_)
    found: list[Region] = []
    while len(found) < MOST_RULES:
        space = _Space(parameters, np.where(there, n_failed, 0), np.where(there, n_of, 0))
        rule = space.best()
        if rule is None:
            break
        inside = rule.mask & there
        conditions = tuple(condition for cut in rule.cuts for condition in cut.conditions)
        found.append(Region(conditions, int(n_failed[inside].sum()), int(n_of[inside].sum())))
        there &= ~inside
    return Regions(tuple(found), int(n_failed[there].sum()), int(n_of[there].sum()))


class _Space:
    """Parameter sets with what became of their simulations, and the search for the rule that is worth most."""

    def __init__(self, parameters: Mapping[str, Values], n_failed: Counts, n_of: Counts) -> None:
        self._failed, self._of = n_failed.astype(np.float64), n_of.astype(np.float64)
        self._all_failed, self._all = float(self._failed.sum()), float(self._of.sum())
        self._share = self._all_failed / self._all if self._all else 0.0
        varied = {name: values for name, values in parameters.items() if len(set(values[n_of > 0].tolist())) > 1}
        self._parameters = varied
        self._choice = math.log(max(1, len(varied)))

    def best(self) -> _Rule | None:
        """The rule that is worth most; None where none is worth its length."""
        if self._share in (0.0, 1.0):
            return None
        everything = _Rule((), np.ones(len(self._of), dtype=np.bool_), 0.0)
        found, beam = [], [everything]
        for _ in range(MOST_CONDITIONS):
            longer = [self._refined(rule) for base in beam for rule in self._longer(base)]
            beam = sorted(longer, key=lambda rule: -rule.worth)[:_BEAM]
            found += beam
        best = max(found, key=lambda rule: rule.worth, default=everything)
        return best if best.worth > _MARGIN else None

    def _longer(self, rule: _Rule) -> Iterator[_Rule]:
        used = {cut.name for cut in rule.cuts}
        for name in self._parameters.keys() - used:
            for cut in self._cuts(name, rule.mask):
                yield self._rule((*rule.cuts, cut))

    def _refined(self, rule: _Rule) -> _Rule:
        """Look once more for each of its cuts, now that the others are known."""
        for at in range(len(rule.cuts) - 1):
            others = rule.cuts[:at] + rule.cuts[at + 1 :]
            ways = [self._rule((*others, cut)) for cut in self._cuts(rule.cuts[at].name, self._rule(others).mask)]
            rule = max([rule, *ways], key=lambda one: one.worth)
        return rule

    def _rule(self, cuts: tuple[_Cut, ...]) -> _Rule:
        ordered = tuple(sorted(cuts, key=lambda cut: cut.name))
        mask = np.logical_and.reduce([cut.mask for cut in ordered], dtype=np.bool_)
        failed, of = self._failed[mask].sum(), self._of[mask].sum()
        gain = float(self._gains(np.array([failed]), np.array([of]))[0])
        return _Rule(ordered, mask, gain - sum(cut.cost for cut in ordered))

    def _gains(self, failed: Values, of: Values) -> Values:
        """How much likelier the failures are, in nats, where this part has a share of its own that is higher."""
        rest_failed, rest = self._all_failed - failed, self._all - of
        gains = _likelihood(failed, of) + _likelihood(rest_failed, rest)
        gains = gains - _likelihood(np.array([self._all_failed]), np.array([self._all]))
        return np.where(failed * rest > rest_failed * of, gains, -np.inf)

    def _cuts(self, name: str, within: Mask) -> Iterator[_Cut]:
        """The best cuts at one parameter, of each kind, for what is within."""
        values = self._parameters[name]
        if values.dtype == object:
            yield from self._words(name, values)
        else:
            yield from self._ranges(name, values, within)

    def _words(self, name: str, values: Values) -> Iterator[_Cut]:
        known = sorted({value for value in values.tolist() if value is not None}, key=str)
        cost = self._choice + math.log(2 * max(1, len(known)))
        for value in known:
            same = np.array([one == value for one in values.tolist()], dtype=np.bool_)
            yield _Cut(name, (Condition(name, "==", _word(value)),), same, cost)
            if len(known) > 2:
                there = np.array([one is not None for one in values.tolist()], dtype=np.bool_)
                yield _Cut(name, (Condition(name, "!=", _word(value)),), ~same & there, cost)

    def _ranges(self, name: str, values: Values, within: Mask) -> Iterator[_Cut]:
        """The best half-line in each direction, and the best bands."""
        inside = within & ~np.isnan(values)
        levels, at = np.unique(values[inside], return_inverse=True)
        m = len(levels)
        if m < 2:
            return
        failed = np.bincount(at, self._failed[inside], m)
        of = np.bincount(at, self._of[inside], m)
        below = self._gains(np.cumsum(failed)[:-1], np.cumsum(of)[:-1])
        above = self._gains(np.cumsum(failed[::-1])[::-1][1:], np.cumsum(of[::-1])[::-1][1:])
        ends = {(0, int(np.argmax(below))), (int(np.argmax(above)) + 1, m - 1)}
        ends |= {band for density in _DENSITIES for band in [self._band(failed, of, density)] if band}
        for first, last in sorted(ends):
            yield self._range(name, values, levels, first, last)

    def _band(self, failed: Values, of: Values, density: float) -> tuple[int, int] | None:
        """The levels between which failures are most dense: the largest sum of weights in a row."""
        if density <= self._share:
            return None
        weights = failed * math.log(density / self._share)
        weights += (of - failed) * math.log((1 - density) / (1 - self._share))
        sums = np.concatenate([[0.0], np.cumsum(weights)])
        lowest = np.minimum.accumulate(sums)
        last = int(np.argmax(sums[1:] - lowest[:-1]))
        first = int(np.argmin(sums[: last + 1]))
        return None if (first, last) == (0, len(of) - 1) else (first, last)

    def _range(self, name: str, values: Values, levels: Values, first: int, last: int) -> _Cut:
        m = len(levels)
        conditions, mask, cost = [], ~np.isnan(values), self._choice + math.log(2 * m)
        if first > 0:
            conditions.append(Condition(name, ">=", _number(least_digits(levels[first - 1], levels[first]))))
            mask = mask & (values >= levels[first])
        if last < m - 1:
            conditions.append(Condition(name, "<=", _number(-least_digits(-levels[last + 1], -levels[last]))))
            mask = mask & (values <= levels[last])
        if len(conditions) > 1:
            cost = self._choice + math.log(m * m)
        if len(conditions) > 1 and first == last:
            conditions = [Condition(name, "==", _number(levels[first]))]
        return _Cut(name, tuple(conditions), mask, cost)


def _likelihood(failed: Values, of: Values) -> Values:
    """The logarithm of the likelihood of these counts, with the share that makes them likeliest."""
    done = of - failed
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = failed * np.log(failed / of), done * np.log(done / of)
    return np.asarray(sum(np.where(np.isfinite(term), term, 0.0) for term in terms))


def least_digits(above: float, up_to: float) -> float:
    """Return the number of the fewest digits that is above the one and not above the other."""
    if len(_number(up_to).strip("-0.").replace(".", "")) <= 4:
        return float(up_to)
    for digits in range(1, 17):
        step = 10.0 ** (math.floor(math.log10(abs(up_to) or 1.0)) - digits + 1)
        for value in (float(f"{up_to:.{digits - 1}e}"), math.floor(up_to / step) * step):
            rounded = float(f"{value:.{digits - 1}e}")
            if above < rounded <= up_to:
                return rounded
    return float(up_to)


def _number(value: float) -> str:
    return f"{value:.15g}"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def by_set(param_ids: Sequence[object], failed: Sequence[bool] | Mask) -> tuple[Counts, Counts, Counts]:
    """Count simulations by parameter set: the first row of each set, how many failed, and how many there are."""
    _, first, at = np.unique(np.array(param_ids), return_index=True, return_inverse=True)
    return first, np.bincount(at, np.asarray(failed, dtype=np.float64)).astype(np.int64), np.bincount(at)
