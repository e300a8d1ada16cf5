"""Parameter sets: from the rows of a study file, and from the axes of a grid; owns neither ids nor derived seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import product
from typing import NamedTuple, cast

from modelops_ray.config import plain
from modelops_ray.study.chunk import Scalar
from modelops_ray.study.values import ParameterRules, describe, pointer, refuse, refuse_misspelt, seed_fault


class ParameterSet(NamedTuple):
    """Parameters in the spelling of the study file; with a seed it is one simulation, without it `n_replicates`."""

    params: Mapping[str, Scalar]
    seed: int | None = None


def read_sets(rows: object, source: str) -> tuple[ParameterSet, ...]:
    """Read `parameter_sets` in the old form, the new form, or both mixed; StudyError where one is none.

    `rows` is the list as JSON has it, and is emptied: a million sets should not exist twice. Messages name `source`.
    """
    if not isinstance(rows, list) or not rows:
        found = "an empty list" if rows == [] else describe(rows)
        raise refuse(f"{source}: {pointer('parameter_sets')}", found, "a list of at least one parameter set")
    rules = ParameterRules()
    for index, row in enumerate(rows):
        rows[index] = _read_row(row, index, rules, source)
    sets = tuple(cast("list[ParameterSet]", rows))
    rows.clear()
    return sets


def _read_row(row: object, index: int, rules: ParameterRules, source: str) -> ParameterSet:
    if not isinstance(row, dict):
        place = f"{source}: {pointer('parameter_sets', index)}"
        raise refuse(place, describe(row), 'an object such as {"params": {"beta": 0.1}}')
    if "params" not in row:
        return ParameterSet(_params_of(row, rules, source, index))
    params = row["params"]
    if not isinstance(params, dict):
        place = f"{source}: {pointer('parameter_sets', index, 'params')}"
        raise refuse(place, describe(params), 'an object such as {"beta": 0.1}')
    if len(row) > 1 + ("seed" in row):
        refuse_misspelt(row, ("params", "seed"), f"{source}: {pointer('parameter_sets', index)}")
    seed = plain(row.get("seed"))
    fault = None if seed is None else seed_fault(seed)
    if fault is not None:
        raise refuse(f"{source}: {pointer('parameter_sets', index, 'seed')}", *fault)
    return ParameterSet(_params_of(params, rules, source, index, "params"), seed)


def _params_of(
    params: dict[str, object], rules: ParameterRules, source: str, *steps: str | int
) -> Mapping[str, Scalar]:
    """Check one set; the place is put into words only for an error, which keeps a million sets quick."""
    for name, value in params.items():
        if (fault := rules.fault(name, value)) is not None:
            if type(plain(value)) is not type(value):
                return _params_of({each: plain(one) for each, one in params.items()}, rules, source, *steps)
            raise refuse(f"{source}: {pointer('parameter_sets', *steps, name)}", *fault)
    return cast("Mapping[str, Scalar]", params)


def read_axes(axes: object, source: str = "Study.grid") -> dict[str, list[Scalar]]:
    """Read the axes of a grid, names with values; NumPy's numbers become Python's. StudyError where they are none."""
    if not isinstance(axes, Mapping):
        raise refuse(source, describe(axes), 'a mapping such as {"beta": [0.1, 0.2]}')
    for name in axes:
        if not isinstance(name, str):
            raise refuse(source, f"the parameter name {name!r}", "a text as name")
    rules = ParameterRules()
    return {name: _read_axis(f"{source}: {name}", name, values, rules) for name, values in axes.items()}


def _read_axis(place: str, name: str, values: object, rules: ParameterRules) -> list[Scalar]:
    if isinstance(values, str | bytes | Mapping | AbstractSet) or not isinstance(values, Iterable):
        raise refuse(place, describe(values), "a list of values")
    axis = [plain(value) for value in values]
    if not axis:
        raise refuse(place, "an empty list", "at least one value")
    for index, value in enumerate(axis):
        if (fault := rules.fault(name, value)) is not None:
            raise refuse(f"{place}[{index}]", *fault)
    return axis


def grid(axes: Mapping[str, list[Scalar]]) -> Iterator[ParameterSet]:
    """Yield the full factorial of the axes, the last name fastest."""
    for values in product(*axes.values()):
        yield ParameterSet(dict(zip(axes, values, strict=True)))
