"""Simulations that overlap are in different slots of their node, and attempts that did not count are seen."""

import numpy as np
import pyarrow as pa
from support.pages import SECOND_US, attempts, simulations

from modelops_ray.report.page import timeline as timeline_module
from modelops_ray.report.page.timeline import timeline


def drawn(rows, lost=None):
    """The spans and the line of what ran."""
    section = timeline(rows, attempts(rows).slice(0, 0) if lost is None else lost)
    return [figure.plot for figure in section.figures]


def rows(starts_s, ends_s, nodes):
    """Simulations that ran from when to when, and where."""
    times = {"started_at": np.array(starts_s) * SECOND_US, "ended_at": np.array(ends_s) * SECOND_US}
    return simulations(len(nodes), 1, times | {"node": nodes})


def test_what_overlaps_is_in_slots_of_its_own():
    """And a slot is used again as soon as it is free."""
    spans, running = drawn(rows([0, 1, 3, 0], [2, 4, 5, 5], ["a", "a", "a", "b"]))
    by_slot = sorted(zip(spans.slot, spans.start, spans.length, strict=True))

    assert ("a 1", "a 2", "b 1") == spans.y_axis.names
    assert [(0, 0, 2000), (0, 3000, 2000), (1, 1000, 3000), (2, 0, 5000)] == by_slot
    assert (3, 2) == (max(running.lines[0].y), running.lines[0].y[0])


def test_attempts_without_a_result_are_drawn():
    """But for the last of a simulation that failed, which is drawn as that simulation."""
    made = simulations(16, 5)
    lost = attempts(made)
    last = lost.set_column(lost.column_names.index("follows"), "follows", pa.array(["failed"] * len(lost)))

    assert len(lost) == drawn(made, lost)[0].what.count(2)
    assert 0 == drawn(made, last)[0].what.count(2)


def test_many_spans_are_joined_where_the_gap_cannot_be_seen(monkeypatch):
    """What is drawn stays few, and covers the same time."""
    made = rows(np.arange(1000), np.arange(1000) + 1, ["a"] * 1000)
    each = drawn(made)[0]
    monkeypatch.setattr(timeline_module, "MOST_SPANS", 100)
    joined = drawn(made)[0]

    assert len(joined.start) < 100 < len(each.start)
    assert sum(each.length) == sum(joined.length)


def test_slots_beyond_the_most_are_left_out_and_said():
    """A cluster of a thousand slots."""
    section = timeline(rows([0] * 100, [1] * 100, ["a"] * 100), attempts(simulations(1, 1)).slice(0, 0))

    assert "The first 64 of 100 are drawn." in section.sentences
    assert 64 == len(section.figures[0].plot.y_axis.names)
