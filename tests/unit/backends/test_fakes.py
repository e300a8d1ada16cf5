"""The scripted backend does what its script says, since other tests rely on it."""

import pytest
from support.fakes import FakeBackend, Fault, Script
from support.toy_chunks import chunk, run_chunk

from modelops_ray.core.events import Capacity, ChunkFailed, ChunkFinished, ChunkStarted, Node
from modelops_ray.core.report import Cause
from modelops_ray.errors import PayloadLostError


def test_a_position_fails_as_often_as_the_script_says():
    """Then it succeeds."""
    backend = FakeBackend(run_chunk, Script(faults={3: [Fault(Cause.CRASHED, kernel_killed=True)]}))
    ends = []
    for _ in range(2):
        backend.submit(chunk(3))
        ends += backend.wait(1.0)
    assert [type(end) for end in ends] == [ChunkFailed, ChunkFinished]
    assert (ends[0].cause, ends[0].kernel_killed) == (Cause.CRASHED, True)


def test_a_hanging_chunk_lets_the_timeout_pass_in_virtual_time():
    """Only the clock of the fake moves."""
    backend = FakeBackend(run_chunk, Script(hanging=frozenset({1})))
    backend.submit(chunk(1))
    assert (backend.wait(7.0), backend.clock(), backend.outstanding) == ([], 7.0, (1,))


def test_the_script_chooses_who_finishes_next_and_how_long_it_took():
    """The youngest first, two seconds each."""
    backend = FakeBackend(run_chunk, Script(pick=max, seconds=lambda _: 2.0))
    for chunk_id in (1, 2, 3):
        backend.submit(chunk(chunk_id))
    assert [backend.wait(1.0)[0].chunk_id for _ in range(3)] == [3, 2, 1]
    assert backend.clock() == 6.0


def test_a_lost_payload_cannot_be_taken():
    """The report arrived all the same."""
    backend = FakeBackend(run_chunk, Script(lost=frozenset({1})))
    backend.submit(chunk(1))
    assert isinstance(backend.wait(1.0)[0], ChunkFinished)
    with pytest.raises(PayloadLostError):
        backend.take(1)


def test_capacity_changes_when_its_time_has_come():
    """Nodes come and go by the virtual clock."""
    before, after = Capacity((Node(4.0, 1),)), Capacity(())
    backend = FakeBackend(run_chunk, Script(capacities=((0.0, before), (5.0, after))))
    assert backend.capacity() == before
    backend.wait(5.0)
    assert backend.capacity() == after


def test_an_announced_chunk_starts_before_it_ends():
    """Once, and only for chunks that ask for it."""
    backend = FakeBackend(run_chunk)
    backend.submit(chunk(1, announce=True))
    backend.submit(chunk(2))
    events = backend.wait(1.0) + backend.wait(1.0)
    assert [type(event) for event in events] == [ChunkStarted, ChunkFinished, ChunkFinished]
