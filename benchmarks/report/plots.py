"""Plots as SVG text: what happened at every need, memory over time, simulations over time, rates, density, growth.

Owns colours and axes. Takes rows and records, computes nothing that a table would not say too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmarks.compare import Row
from benchmarks.records import Record
from benchmarks.report.text import INCIDENT, OURS, PLAIN, POOL, TUNED, in_order, of, points

COLOURS = {OURS: "#1f5fa8", POOL: "#222222", PLAIN: "#d07a00", INCIDENT: "#b3261e", TUNED: "#2e7d32"}
OTHER = "#9a9a9a"
OUTCOMES = {"complete": "#dcebd9", "incomplete": "#fbe3b5", "stuck": "#f3c5bf", "failed": "#e3d3ea"}
ALL = 99.9
"""Percent done of a line that came to its end."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "modelops-ray",
    "font.family": "sans-serif",
    "figure.constrained_layout.use": True,
}


def colour(engine: str) -> str:
    """Say what colour an engine has everywhere."""
    return COLOURS.get(engine, OTHER)


def svg(figure: Figure) -> str:
    """Turn a figure into SVG that can stand inside a page, and let go of it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = file.getvalue()
    return re.sub(r' (width|height)="[\d.]+pt"', "", text[text.index("<svg") :], count=2)


def needs(rows: Sequence[Row]) -> str:
    """Every engine at every need: what came of it, its share of the pool's rate, and how much was done."""
    axis, engines = points(rows, "need_sweep"), in_order(row.engine for row in of(rows, "need_sweep"))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.6, 0.36 * len(engines) + 1.1))
        for y, engine in enumerate(engines):
            for x, point in enumerate(axis):
                for row in of(rows, "need_sweep", engine, point)[:1]:
                    _cell(axes, x, y, row)
        axes.set(xlim=(0, len(axis)), ylim=(len(engines), 0))
        axes.set_xticks([x + 0.5 for x in range(len(axis))], [f"{point:g}" for point in axis])
        axes.set_yticks([y + 0.5 for y in range(len(engines))], engines)
        axes.tick_params(length=0)
        axes.set_xlabel("need of a simulation, in shares of a Dask process (pod / 4)")
        axes.spines[:].set_visible(False)
        handles = [Rectangle((0, 0), 1, 1, color=shade) for shade in OUTCOMES.values()]
        figure.legend(handles, list(OUTCOMES), loc="outside upper right", ncols=4, frameon=False)
        return svg(figure)


def _cell(axes: Axes, x: int, y: int, row: Row) -> None:
    axes.add_patch(Rectangle((x + 0.02, y + 0.06), 0.96, 0.88, color=OUTCOMES[row.outcome]))
    done = f"{row.done}/{row.simulations}"
    text = done if row.outcome != "complete" else f"{row.efficiency.median:.2f} of pool" if row.efficiency else done
    killed = row.kernel_kills + row.engine_kills
    axes.text(x + 0.5, y + 0.5, text + (f", {killed} killed" if killed else ""), ha="center", va="center", fontsize=8)


def over_time(records: Sequence[Record]) -> str:
    """Simulations done over time, all engines of one round."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.6, 3.8))
        ends: list[tuple[float, float, str]] = []
        for record in _one_of_each(records):
            seconds = [row[0] for row in record.progress] + [record.wall_s]
            share = [100 * row[1] / record.simulations for row in record.progress]
            share.append(share[-1] if share else 0.0)
            style: dict[str, Any] = {"color": colour(record.engine), "lw": 2.0 if record.engine in COLOURS else 1.2}
            axes.plot(seconds, share, **style)
            ends.append((share[-1], seconds[-1], record.engine))
        axes.set(xlabel="seconds since the workers were there", ylabel="simulations done, %", ylim=(-2, 104))
        axes.set_xlim(0, max((end[1] for end in ends), default=1) * 1.4)
        _label_ends(axes, ends)
        return svg(figure)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """Name lines at their ends: above the plot those that came to the end, at the side those that did not."""
    last = -1e9
    for _, at, engine in sorted((end for end in ends if end[0] >= ALL), key=lambda end: end[1]):
        last = max(at, last + axes.get_xlim()[1] / 45)
        axes.text(last, 105, engine, rotation=40, fontsize=8, color=colour(engine), ha="left", va="bottom")
    for n, (height, at, engine) in enumerate(sorted((end for end in ends if end[0] < ALL), key=lambda end: end[0])):
        text = f"{engine} {height:.0f} %, ended after {at:.0f} s"
        place = (0.99, 0.05 + 0.06 * n)
        axes.annotate(text, place, xycoords="axes fraction", fontsize=8, color=colour(engine), ha="right")


def memory(records: Sequence[Record]) -> str:
    """Memory of each pod over time, one panel per engine, with the limit drawn in."""
    chosen = _one_of_each(records)
    columns = 3
    n_rows = -(-len(chosen) // columns)
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(n_rows, columns, figsize=(8.6, 1.5 * n_rows + 0.3), sharex=True, squeeze=False)
        panels = grid.flat
        for axes, record in zip(panels, chosen, strict=False):
            _pods(axes, record)
        for axes in list(grid.flat)[len(chosen) :]:
            axes.set_visible(False)
        figure.supxlabel("seconds since the pods were started", fontsize=9)
        figure.supylabel("GiB per pod, without the page cache", fontsize=9)
        return svg(figure)


def _pods(axes: Axes, record: Record) -> None:
    for i, pod in enumerate(record.pod_records):
        seconds = [n * record.sampled_every_s for n in range(len(pod.memory_mib))]
        axes.plot(
            seconds, [mib / 1024 for mib in pod.memory_mib], lw=0.9, color=colour(record.engine), alpha=1 - 0.4 * i
        )
        axes.axhline(pod.limit_bytes / 2**30, color="#b3261e", lw=0.9, ls="--")
    killed = record.kernel_kills + record.engine_kills
    axes.set_title(
        f"{record.engine}: {record.outcome}" + (f", {killed} killed" if killed else ""), fontsize=8, loc="left"
    )
    axes.set_ylim(0, 1.1 * max(pod.limit_bytes for pod in record.pod_records) / 2**30)


def efficiency(rows: Sequence[Row], scenarios: Sequence[str]) -> str:
    """Shares of the pool's rate, by scenario."""
    chosen = [name for name in scenarios if of(rows, name)]
    engines = [OURS, PLAIN, INCIDENT, TUNED]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.6, 3.2))
        for i, engine in enumerate(engines):
            for x, scenario in enumerate(chosen):
                for row in of(rows, scenario, engine)[:1]:
                    _bar(axes, x + 0.2 * (i - 1.5), row)
        axes.axhline(1, color=colour(POOL), lw=1)
        axes.set_xticks(range(len(chosen)), chosen)
        axes.set_ylabel("share of the pool's rate")
        handles = [Rectangle((0, 0), 1, 1, color=colour(engine)) for engine in engines]
        figure.legend(handles, engines, loc="outside upper right", ncols=4, frameon=False)
        return svg(figure)


def _bar(axes: Axes, x: float, row: Row) -> None:
    if row.outcome != "complete" or row.efficiency is None:
        axes.text(x, 0.02, row.outcome, rotation=90, ha="center", va="bottom", fontsize=7, color=colour(row.engine))
        return
    middle = row.efficiency.median
    axes.bar(x, middle, width=0.18, color=colour(row.engine))
    axes.vlines(x, row.efficiency.low, row.efficiency.high, color="#000000", lw=0.8)
    axes.text(x, max(middle, row.efficiency.high) + 0.01, f"{middle:.2g}", ha="center", va="bottom", fontsize=7)


def density(rows: Sequence[Row]) -> str:
    """Memory of everything over the number of simulations in flight."""
    return _lines(
        rows, "density", lambda row: row.middle.held_bytes, 2**30, "simulations in flight", "GiB, all together"
    )


def growth(rows: Sequence[Row]) -> str:
    """The driver's own memory over the number of simulations of a study."""
    complete = [row for row in rows if row.outcome == "complete"]
    name = "simulations of the study"
    return _lines(
        complete,
        "driver_growth",
        lambda row: row.middle.driver_own_bytes,
        2**20,
        name,
        "MiB of the driver",
        logarithmic=True,
    )


def _lines(
    rows: Sequence[Row], scenario: str, value: Any, unit: int, x_name: str, y_name: str, *, logarithmic: bool = False
) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.6, 3.0))
        for engine in in_order(row.engine for row in of(rows, scenario)):
            pairs = sorted((row.point or 0.0, value(row)) for row in of(rows, scenario, engine) if value(row))
            if not pairs:
                continue
            axes.plot([x for x, _ in pairs], [y / unit for _, y in pairs], marker="o", color=colour(engine))
            axes.annotate(
                f" {engine}", (pairs[-1][0], pairs[-1][1] / unit), fontsize=8, color=colour(engine), va="center"
            )
        if logarithmic:
            axes.set_xscale("log")
        axes.set(xlabel=x_name, ylabel=y_name)
        axes.set_ylim(0)
        axes.margins(x=0.15)
        return svg(figure)


def _one_of_each(records: Iterable[Record]) -> list[Record]:
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.engine, record)
    return [first[engine] for engine in in_order(first)]
