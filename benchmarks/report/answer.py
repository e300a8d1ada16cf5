"""The answer: which proposal is worth taking today and up to which need, and from where on only Ray holds.

Pure: rows in, sentences out, each with the figures of the row it comes from. Owns the rules by which they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.compare import Row, number
from benchmarks.engines.raylets import node_memory_bytes
from benchmarks.models import MIB
from benchmarks.records import Record
from benchmarks.report.text import (
    ABORT,
    INCIDENT,
    OURS,
    PLAIN,
    POOL,
    PROPOSALS,
    TUNED,
    WHAT,
    counted,
    of,
    points,
    size,
)
from benchmarks.scenarios import SCENARIOS, STORE_BYTES, Layout, at_once
from benchmarks.stats import per_further

SWEEP = "need_sweep"
RATED = [one.name for one in SCENARIOS.values() if one.against_pool and one.name != SWEEP]
ENOUGH = 0.9
"""The share of the practical limit that ours should reach."""

Part = Callable[[Sequence[Row]], list[str]]


def answer(rows: Sequence[Row]) -> list[str]:
    """Say all that the records bear out."""
    parts: list[Callable[[Sequence[Row]], list[str]]] = [
        _ours,
        _ours_not_complete,
        _why_short,
        _failing,
        _proposals,
        _tuned,
        _incident,
        _rates,
        _density,
        _growth,
    ]
    return [sentence for part in parts for sentence in part(rows)]


def holds_up_to(rows: Sequence[Row], engine: str) -> float | None:
    """The largest need up to which an engine completed everything, from the smallest on; None where it never did."""
    last = None
    for point in points(rows, SWEEP):
        own = of(rows, SWEEP, engine, point)
        if not own or any(row.outcome != "complete" for row in own):
            break
        last = point
    return last


def _ours(rows: Sequence[Row]) -> list[str]:
    own = of(rows, SWEEP, OURS)
    if not own:
        return []
    complete = sum(row.outcome == "complete" for row in own)
    kills = counted(sum(row.kernel_kills for row in own), "kernel kill")
    return [f"modelops-ray completes {complete} of {len(own)} points of need_sweep, with {kills}: {_figures(own)}."]


def _ours_not_complete(rows: Sequence[Row]) -> list[str]:
    """Say where else ours did not do everything."""
    own = [row for row in rows if row.engine == OURS and row.scenario != SWEEP and row.outcome != "complete"]
    return [f"modelops-ray is not complete in {row.scenario}: {_what_happened(row)}." for row in own]


def _why_short(rows: Sequence[Row]) -> list[str]:
    """Say, wherever ours is below what it should reach because a pod holds fewer, what it declares."""
    found = []
    for row in of(rows, SWEEP, OURS):
        record, sizes = row.middle, row.middle.facts.get("request_mib")
        if row.efficiency is None or row.efficiency.median >= ENOUGH or not sizes or record.pod_bytes is None:
            continue
        mib, n = max(sizes.items(), key=lambda one: one[1])
        memory_bytes = node_memory_bytes(record.pod_bytes, STORE_BYTES)
        layout = Layout(record.pods, record.pod_bytes, record.slots)
        need_bytes = int((row.point or 0.0) * layout.share_bytes)
        fit = min(record.slots, memory_bytes // (int(mib) * MIB))
        pool_fit = at_once(layout, need_bytes) // layout.pods
        if fit >= pool_fit:
            continue
        found.append(
            f"Why not more at {row.point:g}: of {size(need_bytes)} each, {n} of {record.simulations} were declared as "
            f"{size(int(mib) * MIB)}, of which the {size(memory_bytes)} that a pod offers to Ray hold {fit} at a time; "
            f"the pool runs {pool_fit} in the bare pod."
        )
    return found


def _failing(rows: Sequence[Row]) -> list[str]:
    found = []
    for engine in (INCIDENT, PLAIN):
        by_point = sorted(of(rows, SWEEP, engine), key=lambda row: row.point or 0.0)
        first = next((row for row in by_point if row.outcome != "complete"), None)
        if first is not None:
            after = by_point[by_point.index(first) :]
            later = [f"{row.point:g}" for row in after if row.outcome == "complete"]
            again = f"; it completes {', '.join(later)} all the same" if later else ""
            found.append(f"{engine} fails at {_need(first)}: {_what_happened(first)}{again}.")
        elif by_point:
            found.append(f"{engine} completes every point of need_sweep: {_figures(by_point)}.")
    return found


def _proposals(rows: Sequence[Row]) -> list[str]:
    base = holds_up_to(rows, INCIDENT)
    found, useless = [], []
    for engine in PROPOSALS:
        own = sorted(of(rows, SWEEP, engine), key=lambda row: row.point or 0.0)
        if not own:
            continue
        last = holds_up_to(rows, engine)
        beyond = next((row for row in own if row.outcome != "complete"), None)
        after = "" if beyond is None else f"; at {beyond.point:g} {_what_happened(beyond)}"
        if engine == ABORT:
            useless += _abort(beyond)
        elif last is not None and last > (base or 0.0):
            cost = " on more memory" if _is_larger(own[0], rows) else ""
            what = f"{engine} ({WHAT[engine]})"
            found.append(f"Worth taking today: {what}, up to {last:g} times a process's share{cost}{after}.")
        else:
            useless.append(
                f"{engine} ({WHAT[engine]}) does not help: it holds {_up_to(last)}, the incident's own setting "
                f"{_up_to(base)}{after}."
            )
    return found + useless


def _abort(row: Row | None) -> list[str]:
    """Say whether it stops, which is all it is for: it looks for kills of the kernel."""
    if row is None:
        return [f"{ABORT} had nothing to stop."]
    if row.middle.kernel_kills and row.outcome == "failed":
        return [f"{ABORT} stops at {_need(row)}: {_what_happened(row)}."]
    why = "" if row.middle.kernel_kills else " Dask's own watch kills before the kernel does"
    return [f"{ABORT} does not stop what it is for: at {_need(row)}{why}: {_what_happened(row)}."]


def _tuned(rows: Sequence[Row]) -> list[str]:
    last, largest = holds_up_to(rows, TUNED), max(points(rows, SWEEP), default=None)
    found = []
    if last is not None:
        kept = "every point" if last == largest else f"up to {last:g}"
        found.append(
            f"dask-tuned holds at {kept} of need_sweep, because it is told what a simulation needs and all need the "
            f"same: {_figures(of(rows, SWEEP, TUNED))}."
        )
    tail = of(rows, "memory_tail")
    if tail:
        found.append(
            f"Where one simulation in twenty needs eight times the median (memory_tail), {TUNED} is sized for the "
            "largest, as the pool is: "
            + "; ".join(f"{row.engine} {_short(row)}" for row in tail if row.engine != POOL)
            + "."
        )
    failing = [p for p in points(rows, SWEEP) if not any(_holds(rows, e, p) for e in (*PROPOSALS, INCIDENT))]
    if failing:
        holding = [engine for engine in (OURS, PLAIN, TUNED) if _holds(rows, engine, failing[-1])]
        found.append(
            f"From {failing[0]:g} times a process's share on no single proposal of the report holds (two together were "
            f"not run); up to {failing[-1]:g} {' and '.join(holding) or 'nothing'} do{'es' * (len(holding) < 2)}."
        )
    return found


def _holds(rows: Sequence[Row], engine: str, point: float) -> bool:
    return (holds_up_to(rows, engine) or 0.0) >= point


def _up_to(last: float | None) -> str:
    return "nowhere" if last is None else f"up to {last:g}"


def _is_larger(row: Row, rows: Sequence[Row]) -> bool:
    incident = of(rows, SWEEP, INCIDENT, row.point)
    return bool(incident) and (row.middle.pod_bytes or 0) > (incident[0].middle.pod_bytes or 0)


def _incident(rows: Sequence[Row]) -> list[str]:
    found = of(rows, "incident")
    each = "; ".join(f"{row.engine} {_took(row.middle)}" for row in found)
    apart = ", not in one round" if len({row.middle.run_id for row in found}) > 1 else ""
    said = [f"The incident's 12,000 simulations with its own setting{apart}: {each}."] if found else []
    if any(row.engine == INCIDENT and row.outcome == "complete" for row in found):
        said.append(
            "So Dask holds at what one of them takes as replayed. The report gives no need of one, but four processes "
            "filled a pod there, a share each and more: that is need_sweep from 1 on."
        )
    return said


def _took(record: Record) -> str:
    cpu = "" if record.cpu_s is None else f", {record.cpu_s:,.0f} s of CPU"
    done = f"{record.done:,} of {record.simulations:,}"
    return f"{record.outcome} with {done}, {record.startup_s:.0f} s to start, {record.wall_s:,.0f} s to run{cpu}"


def _rates(rows: Sequence[Row]) -> list[str]:
    owns = [_one(rows, scenario, OURS) for scenario in RATED]
    return [_rate(own, of(rows, own.scenario)) for own in owns if own is not None and own.outcome == "complete"]


def _rate(own: Row, rows: Sequence[Row]) -> str:
    """Say what ours does, beside the incident's setting and the fastest of all others."""
    assert own.rate is not None
    text = f"{own.scenario}: modelops-ray {number(own.rate.median)} simulations per second"
    if own.efficiency is not None:
        pool = _one(rows, own.scenario, POOL)
        unstable = " (unstable)" if pool is not None and pool.rate is not None and pool.rate.is_unstable else ""
        text += f", {own.efficiency.median:.2f} of the pool{unstable}"
    others = [row for row in rows if row.engine not in {OURS, POOL} and row.middle.pod_bytes == own.middle.pod_bytes]
    rates = {row.engine: row.rate.median for row in others if row.rate is not None and row.outcome == "complete"}
    dask = next((row for row in others if row.engine == INCIDENT), None)
    if INCIDENT in rates:
        text += f", {own.rate.median / rates[INCIDENT]:.3g} times {INCIDENT}'s {number(rates[INCIDENT])}"
    elif dask is not None:
        text += f"; {INCIDENT} {_short(dask)}"
    if rates:
        fastest = max(rates, key=rates.__getitem__)
        text += f"; the fastest of the others is {fastest} with {number(rates[fastest])}"
    return f"{text}."


def _density(rows: Sequence[Row]) -> list[str]:
    slopes = {engine: density_slope(rows, engine) for engine in (OURS, INCIDENT, POOL)}
    own, dask = slopes[OURS], slopes[INCIDENT]
    if own is None or dask is None:
        return []
    each = f"{size(own)} with modelops-ray and {size(dask)} with Dask, {own / dask:.2f} of it"
    return [f"density: each further Starsim simulation in flight takes {each}."]


def density_slope(rows: Sequence[Row], engine: str) -> float | None:
    """Bytes per further simulation in flight; None where fewer than two sizes were weighed."""
    found = [(row.point, row.middle.held_bytes) for row in of(rows, "density", engine)]
    pairs = [(point, held) for point, held in found if point is not None and held]
    return per_further([p for p, _ in pairs], [h for _, h in pairs]) if len(pairs) > 1 else None


def _growth(rows: Sequence[Row]) -> list[str]:
    found = []
    for engine in (OURS, INCIDENT):
        slope = growth_slope(rows, engine)
        if slope is not None:
            own = of(rows, "driver_growth", engine)
            done = [row.point or 0 for row in own if row.outcome == "complete"]
            rest = "".join(f"; {_short(row)} at {row.point:,.0f}" for row in own if row.outcome != "complete")
            found.append(
                f"driver_growth: {slope:,.0f} bytes of the driver's own memory per simulation with {engine}, "
                f"from {min(done):,.0f} to {max(done):,.0f}{rest}."
            )
    return found


def growth_slope(rows: Sequence[Row], engine: str) -> float | None:
    """Bytes of the driver's own memory per simulation, over the sizes it completed."""
    own = [row for row in of(rows, "driver_growth", engine) if row.outcome == "complete"]
    pairs = [(row.point, row.middle.driver_own_bytes) for row in own]
    known = [(point, own_bytes) for point, own_bytes in pairs if point is not None and own_bytes]
    return per_further([p for p, _ in known], [b for _, b in known]) if len(known) > 1 else None


def _one(rows: Sequence[Row], scenario: str, engine: str) -> Row | None:
    return next(iter(of(rows, scenario, engine)), None)


def _need(row: Row) -> str:
    return f"{row.point:g} times a process's share"


def _figures(rows: Sequence[Row]) -> str:
    ordered = sorted(rows, key=lambda row: row.point or 0.0)
    return ", ".join(f"{row.point:g}: {_short(row)}" for row in ordered)


def _short(row: Row) -> str:
    if row.outcome != "complete":
        return f"{row.outcome} with {row.done} of {row.simulations}"
    if row.efficiency is None:
        return "complete"
    return f"{row.efficiency.median:.2f} of the pool"


def _what_happened(row: Row) -> str:
    record = row.middle
    parts = [f"{row.outcome} with {row.done} of {row.simulations} after {record.wall_s:.0f} s"]
    if record.lost:
        parts.append(f"{record.lost} lost")
    if record.kernel_kills:
        parts.append(counted(record.kernel_kills, "kernel kill"))
    if record.engine_kills:
        parts.append(f"{counted(record.engine_kills, 'kill')} by its own watch")
    if record.wasted_s:
        parts.append(f"{record.wasted_s:.0f} s of work thrown away")
    return ", ".join(parts)
