"""What the page shows, as values: sections with sentences, tables and figures, and what is drawn in a figure.

Owns the shapes that `assets/page.js` draws: the name of a class is the `kind` that it is told by. Computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Numbers = list[float | int | None]
Unit = Literal["number", "bytes", "seconds", "share", "time", "name"]
"""What the numbers of an axis are; `time` is seconds since 1970, `name` an index into the axis' names."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What stands along one side of a plot."""

    label: str
    unit: Unit = "number"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """The 5, 25, 50, 75 and 95 % quantiles of some simulations, a row of them for each share."""

    name: str
    simulations: int
    quantiles: tuple[Numbers, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Bands that are shown together; a reader chooses a view by its name, below the heading `group`."""

    group: str
    name: str
    note: str
    bands: tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class Fan:
    """An output over time: medians and bands of one view at a time, and all simulations behind a view of one band."""

    x_axis: Axis
    y_axis: Axis
    x: Numbers
    all: Band
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Points:
    """A point for each parameter set or simulation; a line from `low` to `high` through each where these are given.

    `shade` is the index of each point's name in `shades`, the values of `shaded_by`; all are empty for one colour.
    """

    x_axis: Axis
    y_axis: Axis
    x: Numbers
    y: Numbers
    low: Numbers
    high: Numbers
    shade: Numbers
    shades: tuple[str, ...] = ()
    shaded_by: str = ""
    has_diagonal: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """One colour of the bars; `name` says of what."""

    name: str
    y: Numbers


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars at the names of the x axis, stacked; `totals` are the simulations that each is a share of."""

    x_axis: Axis
    y_axis: Axis
    stacks: tuple[Stack, ...]
    totals: Numbers


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A share for each pair of names, row by row from below, and of how many simulations it is one."""

    x_axis: Axis
    y_axis: Axis
    shares: tuple[Numbers, ...]
    totals: tuple[Numbers, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `Lines`."""

    name: str
    y: Numbers


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over one x; each value holds until the next."""

    x_axis: Axis
    y_axis: Axis
    x: Numbers
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Spans:
    """When each slot was busy: `start` and `length` in milliseconds, the numbers of its slot and (`what`) kind."""

    x_axis: Axis
    y_axis: Axis
    kinds: tuple[str, ...]
    start: Numbers
    length: Numbers
    slot: Numbers
    what: Numbers


Plot = Fan | Points | Bars | HeatMap | Lines | Spans


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its title and a sentence; a small one is less high."""

    title: str
    note: str
    plot: Plot
    is_small: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; `numbers` are the columns that are aligned to the right, and a table with a `lid` is folded."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    lid: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: sentences, tables, and figures beside each other in `columns`, where 0 is as many as fit."""

    id: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    columns: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that is shown large, what it is, and whether it is a bad one."""

    name: str
    value: str
    note: str = ""
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The whole of it."""

    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
