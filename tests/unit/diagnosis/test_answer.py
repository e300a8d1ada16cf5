"""Means over what is left are biased where need and outcome go together, which is found where it is so."""

import numpy as np
import pyarrow as pa
import pytest

from modelops_ray.diagnosis.answer import gone_together


def tables(need, outcome, kind="peak_bytes"):
    """Simulations with what they took, and an output of one row for each, in another order."""
    ids = [f"{at:032x}" for at in range(len(need))]
    other = {"peak_bytes": "seconds", "seconds": "peak_bytes"}[kind]
    simulations = pa.table({"task_id": ids, kind: need, other: [1.0] * len(ids)})
    output = pa.table({"task_id": ids[::-1], "seed": range(len(ids)), "param_beta": need, "cases": outcome[::-1]})
    return simulations, output


@pytest.mark.parametrize(("cause", "need"), [("out_of_memory", "peak_bytes"), ("timeout", "seconds")])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_outcome_that_rises_or_falls_with_the_need_is_named(cause, need, sign):
    """By ranks, so that it need not be in a line; parameters are no outcomes."""
    grown = np.exp(np.arange(30) / 3)
    found = gone_together(
        {cause}, *tables(grown, sign * np.sqrt(grown), need)[:1], "sizes", tables(grown, sign * grown)[1]
    )

    assert (need, "sizes", "cases") == found[:3]
    assert sign == pytest.approx(found.correlation)


def test_what_has_nothing_to_do_with_the_need_is_not_named():
    """Nor is anything where simulations failed by the model's own error, or few are left."""
    drawn = np.random.default_rng(1).random((2, 400))
    simulations, output = tables(drawn[0], drawn[1])
    assert gone_together({"out_of_memory"}, simulations, "sizes", output) is None

    same, of_same = tables(drawn[0], drawn[0])
    assert gone_together({"model_error"}, same, "sizes", of_same) is None
    few, of_few = tables(drawn[0][:5], drawn[0][:5])
    assert gone_together({"out_of_memory"}, few, "sizes", of_few) is None


def test_a_need_or_an_outcome_of_one_value_goes_with_nothing():
    """There is no order in it."""
    simulations, output = tables(np.full(20, 7.0), np.arange(20.0))
    assert gone_together({"out_of_memory"}, simulations, "sizes", output) is None
    simulations, output = tables(np.arange(20.0), np.full(20, np.nan))
    assert gone_together({"out_of_memory"}, simulations, "sizes", output) is None
