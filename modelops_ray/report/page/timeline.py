"""When each slot was busy, and how many simulations ran at a time.

Pure; owns which simulation ran in which slot: Ray has no numbers for slots, so each takes the first that is free.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_ray.report.page.figures import Axis, Figure, Line, Lines, Section, Spans
from modelops_ray.report.page.numbers import Floats, Indices, floats, short, whole
from modelops_ray.report.text import count, printable

MOST_SLOTS = 64
MOST_SPANS = 8000
N_BINS = 200


def timeline(simulations: pa.Table, attempts: pa.Table) -> Section | None:
    """Draw when each slot was busy, and how many simulations ran; None where no times are known."""
    started, ended, nodes, kinds = _spans(simulations, attempts)
    if not len(started):
        return None
    begin_s = float(started.min())
    start_ms = np.round((started - begin_s) * 1e3).astype(np.int64)
    end_ms = np.maximum(np.round((ended - begin_s) * 1e3).astype(np.int64), start_ms)
    slot, slots = _slots(start_ms, end_ms, nodes)
    sentences = [f"{count(len(slots), 'slot')} on {count(len(set(nodes)), 'node')}, one line each."]
    if len(slots) > MOST_SLOTS:
        sentences.append(f"The first {MOST_SLOTS} of {len(slots):,} are drawn.")
    n_unknown = simulations.num_rows - int(np.count_nonzero(kinds < 2))
    if n_unknown:
        sentences.append(f"Of {count(n_unknown, 'simulation')} it is not known when they ran.")
    is_shown = slot < MOST_SLOTS
    drawn = _merged(start_ms[is_shown], end_ms[is_shown], slot[is_shown], kinds[is_shown])
    spans = Spans(
        Axis("since the start", "seconds"), Axis("slot", "name", tuple(slots[:MOST_SLOTS])),
        ("completed", "failed", "attempt without a result"), *map(whole, drawn),
    )  # fmt: skip
    figures = (
        Figure("When each slot was busy", "", spans),
        Figure("Simulations at a time", "", _running(start_ms, end_ms)),
    )
    return Section("timeline", "Timeline", tuple(sentences), figures=figures, columns=1)


def _spans(simulations: pa.Table, attempts: pa.Table) -> tuple[Floats, Floats, list[str], Indices]:
    """What ran from when to when, and where: completed (0) and failed (1) simulations, attempts that did not count (2).

    The last attempt of a simulation that failed is that simulation itself.
    """
    lost = attempts.filter(pc.not_equal(attempts["follows"], "failed"))
    failed = pc.equal(simulations["status"], "failed").to_numpy().astype(np.int64)
    kinds = np.append(failed, np.full(lost.num_rows, 2))
    tables = simulations, lost
    started, ended = (np.concatenate([floats(each[name]) for each in tables]) for name in ("started_at", "ended_at"))
    nodes = [node or "" for each in tables for node in each["node"].to_pylist()]
    known = np.flatnonzero(~np.isnan(started) & ~np.isnan(ended))
    known = known[np.lexsort((known, started[known]))]
    return started[known], ended[known], [nodes[at] for at in known], kinds[known]


def _slots(start: Indices, end: Indices, nodes: list[str]) -> tuple[Indices, list[str]]:
    """Give each span the first slot of its node that is free; return its number, and the name of every slot."""
    free: dict[str, list[tuple[int, int]]] = {node: [] for node in sorted(set(nodes))}
    busy: dict[str, list[tuple[int, int]]] = {node: [] for node in free}
    n_slots = Counter[str]()
    own = np.empty(len(start), np.int64)
    for at, node in enumerate(nodes):
        while busy[node] and busy[node][0][0] <= start[at]:
            heappush(free[node], (heappop(busy[node])[1], 0))
        if free[node]:
            own[at] = heappop(free[node])[0]
        else:
            own[at] = n_slots[node]
            n_slots[node] += 1
        heappush(busy[node], (int(end[at]), int(own[at])))
    first: dict[str, int] = {}
    names: list[str] = []
    for node in free:
        first[node] = len(names)
        names += [f"{printable(node, 24) or 'not known'} {number + 1}" for number in range(n_slots[node])]
    return own + np.array([first[node] for node in nodes], np.int64), names


def _merged(start: Indices, end: Indices, slot: Indices, kind: Indices) -> tuple[Indices, Indices, Indices, Indices]:
    """Join spans of a kind in a slot with less between them than can be seen, if there are many."""
    gap = 0 if len(start) <= MOST_SPANS else int(end.max()) // 1500
    order = np.lexsort((start, slot))
    start, end, slot, kind = start[order], end[order], slot[order], kind[order]
    is_first = np.ones(len(start), np.bool_)
    if gap:
        is_first[1:] = (slot[1:] != slot[:-1]) | (kind[1:] != kind[:-1]) | (start[1:] - end[:-1] > gap)
    firsts = np.flatnonzero(is_first)
    last = np.append(firsts[1:], len(start)) - 1
    return start[firsts], end[last] - start[firsts], slot[firsts], kind[firsts]


def _running(start: Indices, end: Indices) -> Lines:
    """How many ran at a time, at the most in each of many intervals."""
    at = np.concatenate([start, end])
    change = np.concatenate([np.ones(len(start), np.int64), -np.ones(len(end), np.int64)])
    order = np.lexsort((change, at))
    at, running = at[order], np.cumsum(change[order])
    bins = np.minimum(at * N_BINS // max(1, int(at[-1])), N_BINS - 1)
    first = np.searchsorted(bins, np.arange(N_BINS + 1))
    before = np.append(0, running)
    most = [max(int(before[a]), int(running[a:b].max(initial=0))) for a, b in pairwise(first)]
    x = short(np.arange(N_BINS) * float(at[-1]) / 1e3 / N_BINS)
    return Lines(Axis("since the start", "seconds"), Axis("simulations"), x, (Line("running", whole(most)),))
