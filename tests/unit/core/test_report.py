"""What a chunk tells, on its way from a worker to the driver."""

from __future__ import annotations

import pickle

import pytest

from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured

FAILURE = Failure(3, Cause.MODEL_ERROR, "KeyError", "'beta'", "Traceback ...")


@pytest.mark.parametrize("completed", [(), (Measured(1, 0.5, 2**20), Measured(2, 0.25, 2**21))])
def test_a_report_is_the_same_after_it_was_sent(completed):
    """Its measurements travel as columns; nothing else tells them apart."""
    sent = ChunkReport(completed, (FAILURE,), 2**26, 2**23, 2**28, None, 1000, 0.5, "10.0.0.1", "a notice", "fatal")
    assert sent == pickle.loads(pickle.dumps(sent))


def test_a_thousand_measurements_travel_in_few_bytes_each():
    """A million simulations are reported to one driver."""
    completed = tuple(Measured(position, 0.001 * position, 2**20 + position) for position in range(1000))
    assert len(pickle.dumps(ChunkReport(completed), protocol=5)) < 20_000


def test_a_failure_takes_what_its_texts_take():
    """They wait in memory for a commit."""
    assert len("'beta'") + len("Traceback ...") == FAILURE.text_bytes
