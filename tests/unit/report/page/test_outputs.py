"""The column that is the time is found, and bands are those of the simulations that they are said to be of."""

import numpy as np
import pyarrow as pa
import pytest

from modelops_ray.report.page.design import design_of
from modelops_ray.report.page.outputs import MOST_TIMES, Output, course_of, fans, is_single, singles

N_DAYS = 4


def output(n_simulations=2, **columns):
    """An output of `N_DAYS` rows for each simulation."""
    n = len(next(iter(columns.values()))) // n_simulations
    return Output("out", pa.table(columns), np.repeat(np.arange(n_simulations), n))


def drawn(made, betas=(1.0, 2.0)):
    """The plots of an output of simulations with these values of beta."""
    rows = pa.table({"param_id": [f"{beta}" for beta in betas], "param_beta": list(betas)})
    return fans(made, design_of(rows), 6)


DAYS = list(range(N_DAYS)) * 2


@pytest.mark.parametrize(
    ("columns", "time"),
    [
        ({"day": DAYS, "cases": np.arange(8)}, "day"),
        ({"cases": np.arange(8.0), "Day": DAYS}, "Day"),
        ({"generation": DAYS, "cases": np.arange(8.0)}, "generation"),
        ({"when": pa.array(DAYS, pa.date32()), "cases": np.arange(8.0)}, "when"),
    ],
)
def test_the_time_has_another_value_in_each_row_of_a_simulation(columns, time):
    """One that is called so comes first, then one whose values simulations share."""
    assert time == course_of(output(**columns)).time


def test_rows_that_share_a_time_are_told_apart_by_a_column_of_names():
    """Age groups: each has a plot of its own."""
    made = output(day=[0, 0, 1, 1] * 2, age=["young", "old"] * 4, cases=np.arange(8.0))
    figures, left_out = drawn(made)

    assert "age" == course_of(made).split
    assert ["out: cases, age young", "out: cases, age old"] == [figure.title for figure in figures]
    assert [] == left_out


def test_without_a_column_of_times_nothing_is_drawn():
    """Agents, say: several rows with the same values."""
    assert course_of(output(day=[0, 0, 0, 0] * 2, x=[1.0] * 8)) is None


def test_a_band_is_of_the_simulations_with_its_value():
    """The medians of two parameter sets are their simulations'."""
    [figure], _ = drawn(output(day=DAYS, cases=[1, 2, 3, 4, 10, 20, 30, 40]))
    bands = {band.name: band.quantiles[2] for band in figure.plot.views[0].bands}

    assert {"beta 1": [1, 2, 3, 4], "beta 2": [10, 20, 30, 40]} == bands
    assert [5.5, 11, 16.5, 22] == figure.plot.all.quantiles[2]


def test_a_value_without_results_has_no_band():
    """All of its simulations failed."""
    rows = pa.table({"param_id": list("abc"), "param_beta": [1.0, 2.0, 3.0]})
    [figure], _ = fans(output(day=DAYS, cases=np.arange(8.0)), design_of(rows), 6)

    assert ["beta 1", "beta 2"] == [band.name for band in figure.plot.views[0].bands]


def test_of_many_times_a_few_are_drawn_the_first_and_the_last_among_them():
    """And that is said."""
    n = 1000
    [figure], _ = drawn(output(day=list(range(n)) * 2, cases=np.arange(2.0 * n)))

    assert (0, 999, MOST_TIMES) == (figure.plot.x[0], figure.plot.x[-1], len(figure.plot.x))
    assert f"{MOST_TIMES} of 1,000 times" in figure.note


def test_times_of_their_own_are_put_into_intervals():
    """As the times of events are."""
    times = np.sort(np.random.default_rng(0).random((40, 25)), axis=1).ravel()
    [figure], _ = drawn(output(40, time=times, alive=np.tile(np.arange(25.0), 40)), tuple(map(float, range(40))))

    assert MOST_TIMES == len(figure.plot.x)
    assert "intervals" in figure.note


def test_columns_beyond_the_most_are_named():
    """Nothing is left out silently."""
    made = output(day=DAYS, **{f"c{at}": np.arange(8.0) for at in range(9)})
    figures, left_out = drawn(made)

    assert 6 == len(figures)
    assert ["out: c6", "out: c7", "out: c8"] == left_out


def test_one_row_per_simulation_is_drawn_over_the_parameters():
    """The point of a set is the median of its simulations."""
    rows = pa.table({"param_id": list("aaab"), "param_beta": [1.0, 1.0, 1.0, 2.0]})
    made = Output("out", pa.table({"size": [1.0, 2.0, 6.0, 8.0], "word": list("abcd")}), np.arange(4))
    [figure], _ = singles(made, design_of(rows), 6)

    assert is_single(made)
    assert ([1, 2], [2, 8]) == (figure.plot.x, figure.plot.y)


def test_points_are_coloured_by_the_other_parameter():
    """So that what both do together is seen."""
    sets = [(beta, gamma) for beta in (1.0, 2.0) for gamma in (0.1, 0.2)]
    columns = {"param_id": list("abcd"), "param_beta": [s[0] for s in sets], "param_gamma": [s[1] for s in sets]}
    made = Output("out", pa.table({"size": [1.0, 2.0, 3.0, 4.0]}), np.arange(4))
    [over_beta, over_gamma], _ = singles(made, design_of(pa.table(columns)), 6)

    assert ([1, 1, 2, 2], "gamma", ("0.1", "0.2"), [0, 1, 0, 1]) == (
        over_beta.plot.x, over_beta.plot.shaded_by, over_beta.plot.shades, over_beta.plot.shade,
    )  # fmt: skip
    assert "beta" == over_gamma.plot.shaded_by


def test_without_parameters_that_vary_values_are_counted():
    """Many replicates of one set."""
    made = Output("out", pa.table({"size": np.arange(50.0)}), np.arange(50))
    [figure], _ = singles(made, design_of(pa.table({"param_id": ["a"] * 50, "param_beta": [1.0] * 50})), 6)

    assert 50 == sum(figure.plot.stacks[0].y)


def test_columns_of_any_type_are_drawn_or_passed_over():
    """Whatever a model returns, the page of its run is written."""
    n = 8
    columns = {
        "day": DAYS, "half": np.arange(n, dtype=np.float16), "decimal": pa.array(range(n)).cast(pa.decimal128(21, 2)),
        "truth": [True, False] * 4, "large": np.full(n, 2**64 - 1, np.uint64), "extreme": [1e308, -1e308] * 4,
        "missing": pa.nulls(n), "never": [np.nan, np.inf] * 4, "text": list("abcdefgh"), "list": [[1]] * n,
        "moment": pa.array(range(n), pa.time64("us")), "span": pa.array(range(n), pa.duration("s")),
        "record": [{"a": 1}] * n, "octets": [b"x"] * n,
    }  # fmt: skip
    figures, left_out = drawn(output(**columns))

    assert ["half", "decimal", "truth", "large", "extreme", "never"] == [each.plot.y_axis.label for each in figures]
    assert [] == left_out
