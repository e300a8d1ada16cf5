"""What failed, by cause and by place among the parameters, and which attempts gave no result.

Pure; owns which parameters show it best. What is alike, and the rules for where it is, are those of `why`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.diagnosis.groups import Group, groups_of
from modelops_ray.report.page.design import Design, Levels, Parameter
from modelops_ray.report.page.figures import Axis, Bars, Figure, HeatMap, Section, Stack, Table
from modelops_ray.report.page.numbers import Floats, Indices, short, whole
from modelops_ray.report.text import count, format_size, one_line
from modelops_ray.report.why import what_failed, where

MOST_KINDS = 12
MOST_BARS = 24
MOST_MESSAGE_CHARS = 300
MOST_CELLS = 20
SETS_IN_CELL = 3
MOST_PARAMETERS = 3
_Truths = npt.NDArray[np.bool_]


def failures(simulations: pa.Table, design: Design, model_label: str) -> Section | None:
    """Say what failed, and where among the parameters; None where nothing did."""
    failed = pc.equal(simulations["status"], "failed").to_numpy()
    n_failed = int(failed.sum())
    if not n_failed:
        return None
    sentences = [
        f"{n_failed:,} of {count(len(failed), 'simulation')} failed ({n_failed / len(failed):.2%}).",
        "Means over the results are biased where what makes a simulation fail also changes its outcome.",
    ]
    lost = np.bincount(design.set_of_row[~failed], minlength=design.n_sets) == 0
    if lost.any():
        sentences.append(f"{count(int(lost.sum()), 'parameter set')} of {design.n_sets:,} without any result.")
    causes = np.array(["" if cause is None else cause for cause in simulations["cause"].to_pylist()])
    ordered = sorted(
        design.parameters, key=lambda each: -_contrast(each.levels(MOST_BARS, is_to_cover=True), failed, design)
    )
    figures = [_failed_over(each, failed, causes, design) for each in ordered[:MOST_PARAMETERS]]
    figures += [_failed_map(*pair, failed, design) for pair in combinations(ordered[:2], 2)]
    return Section(
        "failures", "Failures", tuple(sentences), (_kinds(groups_of(simulations, model_label)[1]),), tuple(figures)
    )


def _kinds(groups: Sequence[Group]) -> Table:
    """Failures that are alike, the most frequent first: what, in which line of the model, and where in the study."""
    rows = [
        (f"{len(group.rows):,}", _told(group), "" if group.place is None else str(group.place), where(group.regions))
        for group in groups[:MOST_KINDS]
    ]
    if len(groups) > MOST_KINDS:
        rest = sum(len(group.rows) for group in groups[MOST_KINDS:])
        rows.append((f"{rest:,}", f"{len(groups) - MOST_KINDS} more kinds", "", ""))
    return Table(("failed", "what", "line", "where"), tuple(rows), frozenset({0}))


def _told(group: Group) -> str:
    return one_line(what_failed(group.cause, group.error_type, group.message), MOST_MESSAGE_CHARS)


def _shares(levels: Levels, which: _Truths, design: Design) -> tuple[Floats, Indices]:
    """The share of simulations of each level for which something holds, and how many simulations it has."""
    level = levels.of_set[design.set_of_row]
    n = len(levels.names)
    totals = np.bincount(level[level >= 0], minlength=n)
    return np.bincount(level[(level >= 0) & which], minlength=n) / np.maximum(totals, 1), totals


def _contrast(levels: Levels, failed: _Truths, design: Design) -> float:
    shares, totals = _shares(levels, failed, design)
    return float(np.average((shares - failed.mean()) ** 2, weights=totals)) if totals.sum() else 0.0


def _failed_over(parameter: Parameter, failed: _Truths, causes: npt.NDArray[np.str_], design: Design) -> Figure:
    levels = parameter.levels(MOST_BARS, is_to_cover=True)
    stacks, totals = [], np.zeros(0, np.int64)
    for cause, _ in Counter(causes[failed].tolist()).most_common():
        shares, totals = _shares(levels, failed & (causes == cause), design)
        stacks.append(Stack(cause.replace("_", " "), short(shares)))
    plot = Bars(Axis(parameter.name, "name", levels.names), Axis("failed", "share"), tuple(stacks), whole(totals))
    return Figure(f"Failed, by {parameter.name}", "", plot, is_small=True)


def _failed_map(across: Parameter, up: Parameter, failed: _Truths, design: Design) -> Figure:
    most = MOST_CELLS
    columns, rows = (each.levels(most, is_to_cover=True) for each in (across, up))
    if design.n_sets < len(columns.names) * len(rows.names) / 2:
        # Not a grid: in as many cells most would be empty.
        most = max(2, int(np.sqrt(design.n_sets / SETS_IN_CELL)))
        columns, rows = (each.levels(most, is_to_cover=True) for each in (across, up))
    column, row = columns.of_set[design.set_of_row], rows.of_set[design.set_of_row]
    shape = len(rows.names), len(columns.names)
    is_in = (column >= 0) & (row >= 0)
    totals, bad = np.zeros(shape), np.zeros(shape)
    np.add.at(totals, (row[is_in], column[is_in]), 1)
    np.add.at(bad, (row[is_in & failed], column[is_in & failed]), 1)
    shares = np.where(totals > 0, bad / np.maximum(totals, 1), np.nan)
    plot = HeatMap(
        Axis(across.name, "name", columns.names), Axis(up.name, "name", rows.names),
        tuple(short(each, 3) for each in shares), tuple(whole(each) for each in totals),
    )  # fmt: skip
    return Figure(
        f"Failed, by {across.name} and {up.name}",
        "the stronger the colour, the larger the share that failed",
        plot,
        is_small=True,
    )


def retries(simulations: pa.Table, attempts: pa.Table) -> Section:
    """Say which attempts gave no result, and how many attempts simulations took."""
    tries = Counter(simulations["attempts"].to_pylist())
    if not attempts.num_rows:
        return Section("retries", "Retries", ("Every simulation came to its end at the first attempt.",))
    how_many = Table(
        ("attempts", "simulations"),
        tuple((str(n), f"{tries[n]:,}") for n in sorted(each for each in tries if each is not None)),
        frozenset({0, 1}),
    )
    n_last = int(pc.sum(pc.equal(attempts["follows"], "failed")).as_py() or 0)
    sentence = (
        f"{count(attempts.num_rows, 'attempt')} gave no result: {attempts.num_rows - n_last:,} were tried again, "
        f"{n_last:,} were the last of a simulation that failed."
    )
    return Section(
        "retries", "Retries", (sentence,), (Table(_HEAD, tuple(_ended(attempts)), frozenset({0, 4, 5})), how_many)
    )


_HEAD = ("attempts", "cause", "killed by", "what followed", "largest peak", "largest limit")


def _ended(attempts: pa.Table) -> Iterator[tuple[str, ...]]:
    keys = ["cause", "killed_by", "follows"]
    grouped = attempts.group_by(keys, use_threads=False)
    found = grouped.aggregate([("task_id", "count"), ("peak_bytes", "max"), ("limit_bytes", "max")]).to_pylist()
    for row in sorted(found, key=lambda each: (-each["task_id_count"], str([each[key] for key in keys])))[:MOST_KINDS]:
        sizes = (row[f"{name}_max"] for name in ("peak_bytes", "limit_bytes"))
        yield (
            f"{row['task_id_count']:,}", (row["cause"] or "").replace("_", " "), row["killed_by"] or "-",
            row["follows"] or "-", *(format_size(size) if size else "-" for size in sizes),
        )  # fmt: skip
