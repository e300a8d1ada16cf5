"""A run that contradicts itself is stopped at the event that did it."""

from __future__ import annotations

import pytest

from modelops_ray.core.events import SubmitChunk, Ticked
from modelops_ray.core.invariants import InvariantError
from tests.support.decisions import begun, finished, of


def miscount(state):
    """Count a commit that was none."""
    state.counters.committed += 1


def lose(state):
    """Forget a chunk that was submitted."""
    state.dispatch.outstanding.popitem()


def repeat(state):
    """Have simulations run again that are running."""
    state.dispatch.pending.put_back(next(iter(state.dispatch.outstanding.values())).group)


def weigh_wrongly(state):
    """Take the outputs that wait for larger than they are."""
    state.journal.unwritten_bytes += 1


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (miscount, "8 simulations were added and 9 are accounted for"),
        (lose, "8 simulations were added and 7 are accounted for"),
        (repeat, "8 simulations were added and 9 are accounted for"),
        (weigh_wrongly, "the bytes that wait to be committed are counted wrongly"),
    ],
)
def test_a_contradiction_is_found_and_told_with_the_last_events(harm, says):
    """At the next event, whatever it is about."""
    state, actions = begun(memory_bytes=2**30, chunk=1)
    first, second, *_ = of(SubmitChunk, actions)
    state.handle(finished(first))
    harm(state)
    with pytest.raises(InvariantError) as caught:
        state.handle(finished(second))
    what, *story = str(caught.value).splitlines()
    assert says == what
    assert "ChunkFinished" in story[-1]


def test_time_alone_changes_nothing_that_could_be_wrong():
    """A tick that leads to nothing is not looked at: there are many."""
    state, _ = begun(memory_bytes=2**30)
    miscount(state)
    assert [] == state.handle(Ticked(2.0))
