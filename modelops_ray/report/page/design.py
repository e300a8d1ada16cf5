"""The parameter sets of a run, and how simulations are divided by the values of a parameter.

Pure; owns which values, bins and sets stand for all of them where there are too many to draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modelops_ray.report.page.numbers import Floats, Indices, codes, floats, is_number
from modelops_ray.study.schema import PARAM_PREFIX

MOST_NAME_CHARS = 40
MOST_NAMED = 5
MOST_RANGES = 12


@dataclass(frozen=True, slots=True)
class Levels:
    """Groups by the value of one parameter: their names, and the group of each parameter set, -1 for none.

    `are_bins` where a group has a range of values; `n_values` counts the distinct values that there are.
    """

    names: tuple[str, ...]
    of_set: Indices
    are_bins: bool
    n_values: int


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A parameter that varies: its value in each set as text, and as a number.

    The number of a text is its index among the distinct texts, which are in `texts`.
    """

    name: str
    labels: tuple[str, ...]
    numbers: Floats
    texts: tuple[str, ...]

    def levels(self, most: int, *, is_to_cover: bool = False) -> Levels:
        """Divide the sets into at most `most` groups.

        Of a few values each is a group. Of more, as in a grid, every few are left out, unless the groups are to cover
        all sets; where most sets have a value of their own, each group has a range of values.
        """
        values, of_set = np.unique(self.numbers, return_inverse=True)
        known = values[~np.isnan(values)]
        if len(known) <= most:
            return Levels(tuple(map(self._name, known)), np.where(of_set < len(known), of_set, -1), False, len(known))
        if self.texts or (len(known) <= len(self.numbers) / 4 and not is_to_cover):
            chosen = np.unique(np.linspace(0, len(known) - 1, most).round().astype(np.int64))
            group = np.full(len(values), -1)
            group[chosen] = np.arange(len(chosen))
            return Levels(tuple(map(self._name, known[chosen])), group[of_set], False, len(known))
        return self._bins(known, of_set, most)

    def _bins(self, known: Floats, of_set: Indices, most: int) -> Levels:
        """Divide the values into ranges of about as many distinct ones each, named with as few digits as tell them."""
        starts = np.unique(np.linspace(0, len(known), min(most, MOST_RANGES) + 1)[:-1].round().astype(np.int64))
        firsts, lasts = known[starts], known[np.append(starts[1:], len(known)) - 1]
        digits = next((n for n in range(3, 7) if len({f"{first:.{n}g}" for first in firsts}) == len(firsts)), 6)
        names = tuple(f"{a:.{digits}g} to {b:.{digits}g}" for a, b in zip(firsts, lasts, strict=True))
        group = np.searchsorted(starts, of_set, side="right") - 1
        return Levels(names, np.where(of_set < len(known), group, -1), True, len(known))

    def _name(self, value: float) -> str:
        return self.texts[int(value)] if self.texts else f"{value:.6g}"


@dataclass(frozen=True, slots=True)
class Design:
    """The parameter sets of the simulations that have a row, the set of each row, and the parameters that vary."""

    set_of_row: Indices
    n_sets: int
    parameters: tuple[Parameter, ...]
    constants: tuple[tuple[str, str], ...]

    def name_of(self, number: int) -> str:
        """Name a parameter set by the values in which sets differ."""
        shown = [f"{each.name} {each.labels[number]}" for each in self.parameters[:MOST_NAMED]]
        more = ["…"] if len(self.parameters) > MOST_NAMED else []
        return ", ".join(shown + more) or f"set {number + 1}"

    def spread(self, most: int) -> list[int]:
        """Choose up to `most` sets, each as far as can be from those before: corners first, then what is between."""
        if self.n_sets <= most or not self.parameters:
            return list(range(min(self.n_sets, most)))
        places = np.column_stack([_ranks(each.numbers) for each in self.parameters])
        chosen = [int(np.argmin(places.sum(axis=1)))]
        nearest = np.full(self.n_sets, np.inf)
        while len(chosen) < most:
            nearest = np.minimum(nearest, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
            chosen.append(int(np.argmax(nearest)))
        return sorted(set(chosen))


def _ranks(values: Floats) -> Floats:
    """The rank of each value among the distinct ones, from 0 to 1."""
    _, ranks = np.unique(values, return_inverse=True)
    return np.asarray(ranks / max(1, ranks.max(initial=0)), np.float64)


def design_of(simulations: pa.Table) -> Design:
    """Read the parameter sets off the rows of `simulations`."""
    set_of_row, ids = codes(simulations["param_id"])
    _, first_rows = np.unique(set_of_row, return_index=True)
    at_set = simulations.take(pa.array(first_rows))
    names = [name for name in simulations.column_names if name.startswith(PARAM_PREFIX) and name != "param_id"]
    every = [(_parameter(name.removeprefix(PARAM_PREFIX), at_set[name]), len(at_set[name].unique())) for name in names]
    varied = tuple(each for each, n_values in every if n_values > 1)
    constants = tuple((each.name, each.labels[0]) for each, n_values in every if n_values == 1)
    return Design(set_of_row, len(ids), varied, constants)


def _parameter(name: str, values: pa.ChunkedArray) -> Parameter:
    labels = tuple(map(_label, values.to_pylist()))
    if is_number(values.type) and not pa.types.is_boolean(values.type):
        return Parameter(_cut(name), labels, floats(values), ())
    numbers, texts = codes(values)
    shown = tuple(map(_label, texts.to_pylist()))
    return Parameter(_cut(name), labels, np.where(numbers < 0, np.nan, numbers.astype(np.float64)), shown)


def _label(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_NAME_CHARS else text[: MOST_NAME_CHARS - 1] + "…"
