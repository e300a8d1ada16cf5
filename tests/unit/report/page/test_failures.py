"""Failures are told by kind with their place, and drawn by cause over the parameters that tell most."""

import pyarrow as pa
from support.pages import simulations

from modelops_ray.report.page.design import design_of
from modelops_ray.report.page.failures import failures, retries


def section(rows):
    """The section about failures, None without any."""
    return failures(rows, design_of(rows), "model.py:simulate")


def test_a_kind_of_failure_is_told_with_where_it_is():
    """The rule for its place is that of `why`."""
    [table] = section(simulations(16, 5)).tables

    [(n, what, _, where)] = table.rows
    assert ("10", "ValueError: it does not converge") == (n, what)
    assert "beta" in where
    assert "elsewhere 0 of 70" in where


def test_bars_are_shares_of_the_simulations_with_a_value():
    """Four values of beta, of which the upper two have failures in one of four values of gamma."""
    figures = {figure.title: figure.plot for figure in section(simulations(16, 5)).figures}

    assert ([0, 0, 0.25, 0.25], [20] * 4) == (figures["Failed, by beta"].stacks[0].y, figures["Failed, by beta"].totals)
    assert [0, 0, 0, 0.5] == figures["Failed, by gamma"].stacks[0].y
    assert {0, 1} == {share for row in figures["Failed, by gamma and beta"].shares for share in row}


def test_sets_without_any_result_are_counted():
    """What is missing from the answer."""
    assert "2 parameter sets of 16 without any result." in section(simulations(16, 5)).sentences


def test_without_failures_there_is_no_section():
    """Nothing to say."""
    assert section(simulations(16, 5, {"status": ["completed"] * 80, "cause": [None] * 80})) is None


def test_attempts_are_counted_by_what_followed():
    """One that is the last of a failed simulation was not tried again."""
    rows = simulations(2, 2)
    made = pa.table(
        {"task_id": list("abc"), "cause": ["out_of_memory"] * 3, "killed_by": ["us"] * 3, "peak_bytes": [1, 2, 3],
         "limit_bytes": [4, 5, 6], "follows": ["raised", "raised", "failed"]}
    )  # fmt: skip
    found = retries(rows, made)

    assert (
        "3 attempts gave no result: 2 were tried again, 1 were the last of a simulation that failed." in found.sentences
    )
    assert ["2", "1"] == [row[0] for row in found.tables[0].rows]
