"""Time and memory of simulations over the parameters, and what was asked of Ray for them against what they used.

Pure; reads `simulations` only.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from modelops_ray.report.page.design import Design
from modelops_ray.report.page.figures import Axis, Figure, Line, Lines, Points, Section
from modelops_ray.report.page.numbers import Floats, floats, short
from modelops_ray.report.page.outputs import over_parameters
from modelops_ray.report.text import format_size

MOST_POINTS = 1500
N_BINS = 200
POINTS = "Each point is a parameter set: the median over its simulations, and a line from 5 to 95 % of them."


def costs(simulations: pa.Table, design: Design) -> Section:
    """Draw what simulations took, over the parameters."""
    figures: list[Figure] = []
    for name, title, axis in (
        ("seconds", "Time", Axis("time", "seconds")),
        ("peak_bytes", "Peak memory", Axis("peak memory", "bytes")),
    ):
        figures += over_parameters(title, axis, _known(simulations[name]), design)
    sentences = (POINTS,) if figures and design.parameters else ()
    return Section("costs", "Time and memory", sentences, figures=tuple(figures))


def requests(simulations: pa.Table, begin_s: float) -> Section | None:
    """Draw what was asked of Ray for simulations against what they added to memory; None where nothing is known."""
    peaks, asked = _known(simulations["peak_bytes"]), _known(simulations["request_bytes"])
    ended_s = floats(simulations["ended_at"]) - begin_s
    is_known = ~np.isnan(peaks) & ~np.isnan(asked)
    if not is_known.any():
        return None
    peaks, asked, ended_s = peaks[is_known], asked[is_known], ended_s[is_known]
    shown, note = np.arange(len(peaks)), "below the line a simulation used more than was asked for it"
    if len(peaks) > MOST_POINTS:
        note += f"; {MOST_POINTS:,} of {len(peaks):,} simulations, the largest among them"
        largest = np.argsort(-peaks, kind="stable")[: MOST_POINTS // 10]
        others = np.setdiff1d(shown, largest)
        shown = np.append(largest, np.random.default_rng(0).choice(others, MOST_POINTS - len(largest), replace=False))
    shown = shown[np.argsort(peaks[shown], kind="stable")]
    peak, request = Axis("peak memory", "bytes"), Axis("request", "bytes")
    against = Points(peak, request, short(peaks[shown]), short(asked[shown]), [], [], [], has_diagonal=True)
    figures = [Figure("Requests against peaks", note, against, is_small=True)]
    if (lines := _over_time(ended_s, asked, peaks)) is not None:
        note = "the largest and the median of the simulations that ended in each interval"
        figures.append(Figure("Requests and peaks over the run", note, lines, is_small=True))
    used = float(np.sum(peaks) / np.sum(asked))
    sentence = (
        f"The largest peak was {format_size(int(peaks.max()))}, the largest request {format_size(int(asked.max()))}. "
        f"Of what was requested, {used:.0%} was used at the peaks; a request covers the worker and its libraries too."
    )
    return Section("requests", "Requests against peaks", (sentence,), figures=tuple(figures))


def _known(column: pa.ChunkedArray) -> Floats:
    """Values of a column, NaN where it has 0: nothing was measured before the simulation ended."""
    values = floats(column)
    return np.where(values > 0, values, np.nan)


def _over_time(ended_s: Floats, asked: Floats, peaks: Floats) -> Lines | None:
    is_known = ~np.isnan(ended_s)
    if not is_known.any():
        return None
    ended_s, asked, peaks = ended_s[is_known], asked[is_known], peaks[is_known]
    span_s = max(float(ended_s.max()), 1e-6)
    bins = np.clip((ended_s / span_s * N_BINS).astype(np.int64), 0, N_BINS - 1)
    used = np.unique(bins)
    lines = []
    for what, values in (("request", asked), ("peak", peaks)):
        groups = [values[bins == each] for each in used]
        lines.append(Line(f"largest {what}", short([float(group.max()) for group in groups])))
        lines.append(Line(f"median {what}", short([float(np.median(group)) for group in groups])))
    x = short((used + 0.5) * span_s / N_BINS)
    return Lines(Axis("since the start", "seconds"), Axis("memory", "bytes"), x, tuple(lines))
