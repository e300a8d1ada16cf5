"""The HTML page: the answer first, then the plots, then every row. Owns its order and its words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.compare import Row, rows
from benchmarks.records import Record
from benchmarks.report import plots
from benchmarks.report.answer import SWEEP, answer
from benchmarks.report.text import ORDER, WHAT, of, points, size
from benchmarks.scenarios import GRACE_S, SCENARIOS, STUCK_AFTER, STUCK_AFTER_SLOW

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { text-align: left; white-space: nowrap; padding: 2px 8px; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
p.note { color: #555; font-size: 13px; }
.wide { overflow-x: auto; }
"""
HEADS = (
    "scenario",
    "point",
    "engine",
    "outcome",
    "done",
    "lost",
    "per second",
    "of pool",
    "spread",
    "start s",
    "wall s",
)
HEADS_TOO = ("CPU s", "first s", "kernel", "own kills", "restarts", "retries", "wasted s", "spilled", "largest pod")
RATES = ("many_tiny", "ten_ms", "hundred_ms", "long_tail", "memory_tail", "large_outputs", "worker_loss")
OVER_TIME_AT = 1.3


def render(records: Sequence[Record]) -> str:
    """Write the page."""
    found = rows(records)
    body = [
        "<h1>Dask and Ray on the incident's pods</h1>",
        _place(records),
        "<h2>Answer</h2>",
        "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in answer(found)) + "</ul>",
        *_sections(records, found),
        "<h2>All rows</h2>",
        _table(found),
        "<h2>How it was measured</h2>",
        *(f"<p>{escape(text)}</p>" for text in _method(records)),
        "<h2>Engines</h2>",
        "<ul>" + "".join(f"<li><b>{name}</b>: {escape(WHAT[name])}</li>" for name in ORDER) + "</ul>",
    ]
    head = f"<meta charset=utf-8><title>Dask and Ray on the incident's pods</title><style>{CSS}</style>"
    return f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"


def _sections(records: Sequence[Record], found: Sequence[Row]) -> list[str]:
    parts: list[str] = []
    if of(found, SWEEP):
        at = min(points(found, SWEEP), key=lambda point: abs(point - OVER_TIME_AT))
        there = [record for record in records if record.scenario == SWEEP and record.point == at]
        parts += _plot("From which need on does each engine fail?", plots.needs(found), SCENARIOS[SWEEP].question)
        parts += _plot(f"Simulations done over time, each needing {at:g} shares", plots.over_time(there), "")
        parts += _plot(
            f"Memory of each pod, each simulation needing {at:g} shares",
            plots.memory(there),
            "Dashed: the pod's limit.",
        )
    if any(of(found, name) for name in RATES):
        parts += _plot(
            "Rates, as shares of the pool's", plots.efficiency(found, RATES), "Bars: medians; lines: extremes."
        )
    if of(found, "density"):
        parts += _plot("Memory of Starsim simulations in flight", plots.density(found), SCENARIOS["density"].question)
    if of(found, "driver_growth"):
        parts += _plot("The driver's memory", plots.growth(found), SCENARIOS["driver_growth"].question)
    return parts


def _plot(title: str, picture: str, note: str) -> list[str]:
    return [f"<h2>{escape(title)}</h2>", picture, f'<p class="note">{escape(note)}</p>']


def _place(records: Sequence[Record]) -> str:
    if not records:
        return "<p>No records.</p>"
    last = records[-1]
    where = f"{last.place.cpus} cores, {size(last.place.memory_bytes)}, Linux {last.place.kernel}"
    what = ", ".join(f"{name} {version}" for name, version in last.versions.items())
    days = sorted({record.time[:10] for record in records})
    pods = f"Without pods: {last.place.no_pods_because}." if last.place.no_pods_because else "Pods are memory cgroups."
    return f"<p>{escape(where)}; {escape(what)}. Measured {days[0]} to {days[-1]}. {escape(pods)}</p>"


def _table(found: Sequence[Row]) -> str:
    ordered = sorted(
        found, key=lambda row: (list(SCENARIOS).index(row.scenario), row.point or 0, ORDER.index(row.engine))
    )
    head = "".join(f"<th>{name}</th>" for name in (*HEADS, *HEADS_TOO))
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(row)) + "</tr>\n" for row in ordered)
    return f'<div class="wide"><table><tr>{head}</tr>\n{lines}</table></div>'


def _cells(row: Row) -> list[str]:
    record, shown = row.middle, row.cells()
    return [
        row.scenario,
        *shown[:4],
        str(record.lost),
        *shown[4:6],
        shown[7],
        f"{record.startup_s:.1f}",
        f"{record.wall_s:.1f}",
        _or_dash(record.cpu_s, ".0f"),
        _or_dash(record.first_result_s, ".1f"),
        str(row.kernel_kills),
        str(row.engine_kills),
        str(record.pod_restarts),
        _or_dash(record.retries, "d"),
        _or_dash(record.wasted_s, ".0f"),
        size(record.spilled_bytes) if record.spilled_bytes else "-",
        size(max((pod.peak_bytes for pod in record.pod_records), default=0)),
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


METHOD = """
Each pod has a memory limit of its own, its processes see it as a container's, the kernel kills in it, and such a kill
takes the whole pod, which is started again with a kubelet's pauses. CPUs are not limited.

The practical limit is the pool: processes that have imported the model, as many per pod as fit by arithmetic
((pod - 64 MiB) / (need + 64 MiB), at most the 4 of the report), without anything beside them. A Ray pod also holds a
raylet, its agents and idle workers, and declares to Ray what is left beside them.

Rates count from the first result until the last one is kept. Learning what a simulation needs is part of that, and
costs modelops-ray up to a tenth of half a minute; starting the engine and its workers is not, nor, with Dask,
submitting until the first result. Start seconds are those until the workers were there, wall seconds all that follow;
where there are no pods, modelops-ray starts its Ray in the latter. modelops-ray writes Parquet; no other engine keeps
anything.

noop is in 300 replicates of each parameter set. At most three sets share a process of modelops-ray, so that with fewer
replicates of nothing at all it would be forks that are measured; many_tiny has the 30 of the incident.

Of the pool's: an engine's rate over the mean of the pools of its round. Pods of another size count by how many more
simulations they hold at once. dask-tuned is told what the largest simulation needs, and only that.

The pool runs first and last in every round; that is how far two runs of the same differ.
"""


def _method(records: Sequence[Record]) -> list[str]:
    sweep = next((record for record in records if record.scenario == SWEEP), None)
    pods = ""
    if sweep is not None and sweep.pod_bytes:
        pods = (
            f"need_sweep has {sweep.pods} pods of {size(sweep.pod_bytes)} on {sweep.place.cpus} cores: the incident's "
            f"pod with its {sweep.slots} processes, because what an interpreter needs does not shrink with a pod. "
            "dask-8gi has as many pods, each twice as large: twice the hardware."
        )
    stuck = (
        f"An engine is stuck after {STUCK_AFTER:g} times what the practical limit should take ({STUCK_AFTER_SLOW:g} "
        f"times where simulations need little memory), and {GRACE_S:g} s."
    )
    return [pods, *METHOD.strip().split("\n\n"), stuck]
