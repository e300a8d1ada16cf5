"""The line of simulations that wait for a child: its order, and which of them one child is given together."""

from __future__ import annotations

import pytest
from support.models import chunk_of, replicates

from modelops_ray.runner.waiting import Waiting, affordable, work_of

MIB = 2**20
TEN = replicates(10).simulations


@pytest.fixture
def waiting():
    """Ten replicates in line."""
    line = Waiting()
    line.add(TEN)
    return line


def test_what_a_child_gives_back_is_next_in_its_old_order(waiting):
    """Simulations that were given first are not left for last."""
    given = waiting.take(3)
    waiting.put_back(given[1:])
    assert (9, [1, 2, 3]) == (len(waiting), [simulation.position for simulation in waiting.take(3)])


def test_a_closed_line_is_empty_and_stays_so(waiting):
    """What a child gives back then is left to later chunks."""
    given = waiting.take(3)
    waiting.close()
    waiting.put_back(given)
    assert 0 == len(waiting)


@pytest.mark.parametrize(("suspect", "together"), [(0, 1), (1, 1), (4, 4), (9, 8)])
def test_a_suspect_is_given_to_a_child_alone(waiting, suspect, together):
    """Those before it are given without it."""
    waiting.suspects.add(suspect)
    assert (together, suspect == 0) == (waiting.together(8), waiting.next_is_suspect)


def test_parameters_that_several_share_travel_once():
    """Each run names its parameters by their index, and its own seed."""
    simulations = [*TEN[:2], chunk_of([{"beta": 0.0}, {"beta": 1.0}]).simulations[1]]
    work = work_of(simulations, "baseline", ("r",), measure=True, marks=False)
    assert ("baseline", ("r",), True, False) == work[:4]
    assert ([{"beta": 0.5, "n": 1}, {"beta": 1.0}], [(0, 1000), (0, 1001), (1, 1001)]) == work[4:]


def test_children_are_not_given_more_text_at_once_than_a_few_megabytes():
    """The first simulation always, and replicates for nothing."""
    text = "x" * 5 * MIB
    assert 3 == affordable(chunk_of([{"beta": text, "n": 1}] * 10).simulations)
    assert 1 == affordable(chunk_of([{"beta": text * 10, "n": 1}] * 2).simulations)
    assert 10 == affordable([one._replace(params={"beta": text, "n": 1}) for one in TEN])
