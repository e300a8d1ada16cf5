"""What a model returned, as figures: columns over time as medians and bands, single values over the parameters.

Pure; owns which column is the time, which columns, values and sets are shown, and the words for what is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.report.page.design import Design, Parameter
from modelops_ray.report.page.figures import Axis, Band, Bars, Fan, Figure, Numbers, Points, Stack, Unit, View
from modelops_ray.report.page.numbers import (
    Floats,
    Indices,
    codes,
    floats,
    is_name,
    is_number,
    is_time,
    quantiles,
    short,
    whole,
)
from modelops_ray.report.text import count, duration, format_size
from modelops_ray.study.schema import PARAM_PREFIX

MOST_TIMES = 100
MOST_BANDS = 5
MOST_PARAMETERS = 4
MOST_SETS = 18
MOST_POINTS = 400
MOST_TEXTS = 24
MOST_SPLITS = 50
N_BINS = 24
_TIME_NAMES = ("t", "time", "timevec", "date", "day", "days", "week", "weeks", "month", "year", "years", "step", "tick")
_IDENTITY = ("task_id", "param_id", "replicate", "seed")
_DIGITS_OF_TIME = 10


@dataclass(frozen=True, slots=True)
class Output:
    """The model's columns of one output, and of each row the index of its simulation among the rows of `design`."""

    name: str
    table: pa.Table
    simulation: Indices

    @property
    def own(self) -> list[str]:
        """The names of its columns."""
        names: list[str] = self.table.column_names
        return names

    @property
    def numbers(self) -> list[str]:
        """The names of those that hold numbers."""
        return [name for name in self.own if is_number(self.table[name].type)]


def _is_parameter(name: str) -> bool:
    return name.startswith(PARAM_PREFIX)


def is_single(output: Output) -> bool:
    """Whether no simulation has more than one row of an output."""
    return int(np.bincount(output.simulation).max(initial=0)) <= 1


@dataclass(frozen=True, slots=True)
class Course:
    """Where an output goes over time: its column of times, and the one that splits its rows, "" for none."""

    time: str
    split: str = ""


def course_of(output: Output) -> Course | None:
    """Find the column of times: in each simulation every row has another one; None if there is none.

    Where each time is there several times, as for age groups, a column of names or numbers tells these rows apart.
    """
    own = [name for name in output.own if is_time(output.table[name].type) or name in output.numbers]
    called = [name for name in own if name.lower() in _TIME_NAMES or is_time(output.table[name].type)]
    names = [name for name in output.own if is_name(output.table[name].type) and name not in called]
    found = [Course(name) for name in called]
    found += [Course(time, split) for time in called[:1] for split in names]
    # What is not called so is a time where simulations share its values: what is measured differs.
    most_rows = int(np.bincount(output.simulation).max(initial=0))
    found += [Course(name) for name in own if name not in called and _n_values(output, name) <= 2 * most_rows]
    return next((course for course in found if _tells_rows_apart(output, course)), None)


def _n_values(output: Output, name: str) -> int:
    return len(np.unique(floats(output.table[name])))


def _tells_rows_apart(output: Output, course: Course) -> bool:
    """Whether no two rows of a simulation have the same time, and the same value in the column that splits them."""
    time = floats(output.table[course.time])
    if np.isnan(time).any():
        return False
    _, value = np.unique(time, return_inverse=True)
    if course.split:
        kind, names = codes(output.table[course.split])
        if len(names) > MOST_SPLITS:
            return False
        value = value * (len(names) + 1) + kind
    return not _has_repeats(output.simulation, value)


def _has_repeats(simulation: Indices, value: Indices) -> bool:
    pairs = np.sort(simulation * (int(value.max(initial=0)) + 2) + value)
    return bool(np.any(pairs[1:] == pairs[:-1]))


@dataclass(frozen=True, slots=True)
class _Grid:
    """One column as a matrix, shape (simulations, times), NaN where a simulation has no value."""

    times: Floats
    values: Floats
    note: str


def fans(output: Output, design: Design, most: int) -> tuple[list[Figure], list[str]]:
    """Draw up to `most` columns of an output over time; return the figures, and the names of columns left out."""
    course = course_of(output)
    if course is None:
        return [], []
    parts = list(_parts(output, course))
    wanted = [(name, part) for name in output.numbers if name not in (course.time, course.split) for part in parts]
    time = output.table[course.time]
    x_axis = Axis(course.time, "time" if is_time(time.type) else "number")
    figures = []
    for name, (what, rows) in wanted[:most]:
        grid = _grid(output, rows, floats(time), floats(output.table[name]), len(design.set_of_row))
        title = f"{output.name}: {name}" + (f", {course.split} {what}" if what else "")
        figures.append(_fan(title, x_axis, Axis(name), grid, design))
    left_out = [f"{output.name}: {name}" + (f" ({what})" if what else "") for name, (what, _) in wanted[most:]]
    return figures, left_out


def _parts(output: Output, course: Course) -> Iterator[tuple[str, Indices]]:
    """Yield the rows that a plot is of: all, or those of each value of the column that splits them."""
    if not course.split:
        yield "", np.arange(len(output.simulation))
        return
    numbers, texts = codes(output.table[course.split])
    for number, text in enumerate(texts.to_pylist()):
        yield str(text), np.flatnonzero(numbers == number)


def _grid(output: Output, rows: Indices, time: Floats, values: Floats, n_simulations: int) -> _Grid:
    """Put the values of each simulation into a row, at no more than `MOST_TIMES` times."""
    simulation, time, values = output.simulation[rows], time[rows], values[rows]
    is_there = ~np.isnan(time)
    simulation, time, values = simulation[is_there], time[is_there], values[is_there]
    times, at = np.unique(time, return_inverse=True)
    most_rows = int(np.bincount(simulation).max(initial=0))
    note = ""
    if len(times) > MOST_TIMES and len(times) > 3 * most_rows:
        edges = np.linspace(times[0], times[-1], MOST_TIMES + 1)
        at = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, MOST_TIMES - 1)
        times = (edges[1:] + edges[:-1]) / 2
        note = f"simulations have times of their own: the last value in each of {MOST_TIMES} intervals"
    elif len(times) > MOST_TIMES:
        chosen = np.unique(np.linspace(0, len(times) - 1, MOST_TIMES).round().astype(np.int64))
        note = f"{len(chosen)} of {len(times):,} times"
        place = np.full(len(times), -1)
        place[chosen] = np.arange(len(chosen))
        is_shown = place[at] >= 0
        simulation, values, at, times = simulation[is_shown], values[is_shown], place[at][is_shown], times[chosen]
    matrix = np.full((n_simulations, len(times)), np.nan)
    matrix[simulation, at] = values
    return _Grid(times, matrix, note)


def _fan(title: str, x_axis: Axis, y_axis: Axis, grid: _Grid, design: Design) -> Figure:
    views = sorted(
        (_by_parameter(each, grid, design) for each in design.parameters), key=lambda view: -_difference(view)
    )[:MOST_PARAMETERS]
    chosen = design.spread(MOST_SETS)
    if len(design.parameters) > 1 or design.n_sets > MOST_BANDS:
        views += [_of_set(number, grid, design) for number in chosen]
    everything = _band("all simulations", grid.values)
    if not views:
        views = [View("", "all simulations", "", (everything,))]
    notes = ["median, 25 to 75 % and 5 to 95 %", grid.note]
    if len(chosen) < design.n_sets:
        notes.append(f"of {design.n_sets:,} parameter sets {len(chosen)} can be chosen one by one")
    if len(design.parameters) > MOST_PARAMETERS:
        notes.append(f"by the {MOST_PARAMETERS} of {len(design.parameters)} parameters that change it most")
    times = short(grid.times, _DIGITS_OF_TIME)
    plot = Fan(x_axis, y_axis, times, everything, tuple(views))
    return Figure(title, "; ".join(note for note in notes if note), plot)


def _by_parameter(parameter: Parameter, grid: _Grid, design: Design) -> View:
    levels = parameter.levels(MOST_BANDS)
    group = levels.of_set[design.set_of_row]
    every = (
        _band(f"{parameter.name} {name}", grid.values[group == number]) for number, name in enumerate(levels.names)
    )
    bands = tuple(band for band in every if band.simulations)
    note = (
        ""
        if len(levels.names) == levels.n_values or levels.are_bins
        else (f"{len(levels.names)} of {levels.n_values:,} values")
    )
    if len(design.parameters) > 1:
        note += ("; " if note else "") + "the other parameters vary within a band"
    return View("by parameter", parameter.name, note, bands)


def _of_set(number: int, grid: _Grid, design: Design) -> View:
    name = design.name_of(number)
    band = _band(name, grid.values[design.set_of_row == number])
    return View(
        "one parameter set", name, f"{count(band.simulations, 'simulation')}; behind it all simulations", (band,)
    )


def _band(name: str, values: Floats) -> Band:
    n = int(np.count_nonzero(~np.isnan(values).all(axis=1)))
    return Band(name, n, tuple(short(row) for row in quantiles(values)))


def _difference(view: View) -> float:
    """How far apart the medians of a view are, summed over time."""
    medians = np.array([[np.nan if value is None else value for value in band.quantiles[2]] for band in view.bands])
    is_there = ~np.isnan(medians).any(axis=0) if len(medians) else np.array([], bool)
    return float(np.ptp(medians[:, is_there], axis=0).sum()) if is_there.any() else 0.0


def over_parameters(title: str, y_axis: Axis, values: Floats, design: Design) -> Iterator[Figure]:
    """Draw one value per simulation over each parameter: the median of each set, and its 5 and 95 % quantiles.

    Points are coloured by another parameter; the parameters that change the value most are taken.
    """
    if not design.parameters:
        yield from _spread(title, y_axis, values)
        return
    low, middle, high = _of_sets(values, design)
    shown = np.flatnonzero(~np.isnan(middle))
    note = ""
    if len(shown) > MOST_POINTS:
        note = f"{MOST_POINTS} of {len(shown):,} parameter sets"
        shown = np.sort(np.random.default_rng(0).choice(shown, MOST_POINTS, replace=False))
    few = [each for each in design.parameters if len(each.texts) <= MOST_TEXTS]
    ordered = sorted(few, key=lambda each: -_effect(each, middle))
    drawn = ordered[:MOST_PARAMETERS]
    for parameter in (each for each in design.parameters if each in drawn):
        other = next((each for each in ordered if each is not parameter), None)
        sets = shown[np.argsort(parameter.numbers[shown], kind="stable")]
        sets = sets[~np.isnan(parameter.numbers[sets])]
        if not len(sets):
            continue
        unit: Unit = "name" if parameter.texts else "number"
        plot = Points(
            Axis(parameter.name, unit, parameter.texts), y_axis, short(parameter.numbers[sets], 6),
            short(middle[sets]), short(low[sets]), short(high[sets]), *_shades(other, sets),
        )  # fmt: skip
        yield Figure(f"{title} over {parameter.name}", note, plot, is_small=True)


def _shades(parameter: Parameter | None, sets: Indices) -> tuple[Numbers, tuple[str, ...], str]:
    """The colour of each of some sets by a parameter, what the colours mean, and the name of the parameter."""
    if parameter is None:
        return [], (), ""
    levels = parameter.levels(MOST_BANDS, is_to_cover=True)
    return whole(levels.of_set[sets]), levels.names, parameter.name


def _effect(parameter: Parameter, values: Floats) -> float:
    """How much of the variance of values of parameter sets is between the levels of a parameter."""
    level = parameter.levels(MOST_BANDS, is_to_cover=True).of_set
    is_there = (level >= 0) & ~np.isnan(values)
    n = np.bincount(level[is_there])
    sums = np.bincount(level[is_there], weights=values[is_there])
    means = sums[n > 0] / n[n > 0]
    return float(np.sum(n[n > 0] * (means - means.mean()) ** 2)) if len(means) else 0.0


def _spread(title: str, axis: Axis, values: Floats) -> Iterator[Figure]:
    """Draw how often values are in each of some intervals."""
    known = values[~np.isnan(values)]
    if not len(known):
        return
    counts, edges = np.histogram(known, N_BINS)
    bars = Axis(axis.label, "name", tuple(_written(edge, axis.unit) for edge in edges[:-1]))
    totals: Numbers = [len(known)] * N_BINS
    yield Figure(
        title, "", Bars(bars, Axis("simulations"), (Stack("simulations", whole(counts)),), totals), is_small=True
    )


def _written(value: float, unit: Unit) -> str:
    if unit == "bytes":
        return format_size(int(value))
    return duration(value) if unit == "seconds" else f"{value:.3g}"


def _of_sets(values: Floats, design: Design) -> tuple[Floats, Floats, Floats]:
    """The 5 %, 50 % and 95 % quantiles of the simulations of each set."""
    order = np.argsort(design.set_of_row, kind="stable")
    starts = np.searchsorted(design.set_of_row[order], np.arange(design.n_sets + 1))
    found = np.full((3, design.n_sets), np.nan)
    for number in range(design.n_sets):
        found[:, number] = quantiles(values[order[starts[number] : starts[number + 1]], None])[[0, 2, 4], 0]
    return found[0], found[1], found[2]


def singles(output: Output, design: Design, most: int) -> tuple[list[Figure], list[str]]:
    """Draw up to `most` columns of an output with one row per simulation; return also the names of those left out."""
    figures: list[Figure] = []
    for name in output.numbers[:most]:
        values = np.full(len(design.set_of_row), np.nan)
        values[output.simulation] = floats(output.table[name])
        figures += over_parameters(name, Axis(name), values, design)
    return figures, [f"{output.name}: {name}" for name in output.numbers[most:]]


def numbered(table: pa.Table, task_ids: pa.Array) -> pa.Table:
    """Keep a model's own columns, and in `task_id` the index of each row's simulation among `task_ids`.

    Rows of simulations that are not among them are left out. The columns that say which simulation a row is of weigh
    many times what a model returns.
    """
    number = pc.index_in(table["task_id"], value_set=task_ids)
    own = [name for name in table.column_names if name not in _IDENTITY and not _is_parameter(name)]
    return table.select(own).add_column(0, "task_id", number).filter(number.is_valid())


def output_of(name: str, parts: Sequence[pa.Table]) -> Output:
    """Put the parts of an output together, of which `numbered` has made what they are."""
    table = pa.concat_tables(parts, promote_options="permissive")
    return Output(name, table.drop_columns(["task_id"]), table["task_id"].to_numpy().astype(np.int64))
