"""What every backend promises to the driver, kept by the fake, by this process and by a real Ray alike."""

import time

import pytest
from support.fakes import FakeBackend
from support.ray_workers import importable_tests
from support.toy_chunks import chunk, run_chunk

from modelops_ray.backends.local import LocalBackend
from modelops_ray.backends.ray.backend import RayBackend
from modelops_ray.backends.ray.connect import connect
from modelops_ray.core.events import ChunkFinished, Event
from modelops_ray.errors import ModelError, PayloadLostError
from modelops_ray.session.ports import Backend

GIB = 2**30


@pytest.fixture(scope="module")
def cluster():
    """One small embedded Ray for all tests of this file."""
    with importable_tests(), connect(None, environ={}, limit_memory_bytes=2 * GIB, limit_cpus=2) as cluster:
        yield cluster


@pytest.fixture(params=["fake", "local", "ray"])
def backend(request):
    """Each backend in turn, closed afterwards."""
    makers = {
        "fake": lambda: FakeBackend(run_chunk),
        "local": lambda: LocalBackend(run_chunk),
        "ray": lambda: RayBackend(run_chunk, request.getfixturevalue("cluster")),
    }
    backend = makers[request.param]()
    yield backend
    backend.close()


def wait_for(backend: Backend, n_ends: int, patience_s: float = 60.0) -> list[Event]:
    """Collect events until this number of chunks has ended."""
    events: list[Event] = []
    deadline_s = time.monotonic() + patience_s
    while sum(isinstance(event, ChunkFinished) for event in events) < n_ends and time.monotonic() < deadline_s:
        events += backend.wait(1.0)
    return events


def test_every_submitted_chunk_ends_in_exactly_one_event(backend):
    """Twenty chunks, more than fit at once, give twenty ends and nothing after them."""
    for chunk_id in range(20):
        backend.submit(chunk(chunk_id))
    events = wait_for(backend, 20)
    assert list(range(20)) == sorted(event.chunk_id for event in events)
    assert backend.wait(0.0) == []


def test_a_report_says_what_was_completed(backend):
    """The report arrives as the chunk made it."""
    backend.submit(chunk(7))
    [event] = wait_for(backend, 1)
    assert tuple(measured.position for measured in event.report.completed) == (7,)
    assert event.report.payload_bytes == 8


def test_events_of_one_wait_are_in_the_order_of_chunks(backend):
    """Chunks finish in any order; one list of events is sorted."""
    for chunk_id in (5, 3, 9, 1):
        backend.submit(chunk(chunk_id))
    ids = []
    while len(ids) < 4:
        batch = [event.chunk_id for event in backend.wait(1.0)]
        assert sorted(batch) == batch
        ids += batch
    assert sorted(ids) == [1, 3, 5, 9]


def test_a_payload_is_handed_out_once(backend):
    """The second take finds nothing."""
    backend.submit(chunk(4))
    wait_for(backend, 1)
    payload = backend.take(4)
    assert payload.outputs["result"][0].table["x"].to_pylist() == [4.0]
    with pytest.raises(PayloadLostError, match="chunk 4"):
        backend.take(4)


def test_the_payload_of_a_chunk_that_never_was_is_lost(backend):
    """An answer is never made up."""
    with pytest.raises(PayloadLostError, match="chunk 99"):
        backend.take(99)


def test_a_cancelled_chunk_is_silent(backend):
    """Of two chunks the one not cancelled reports, and the other never does."""
    backend.submit(chunk(1, sleep_s=0.5))
    backend.submit(chunk(2))
    backend.cancel(1)
    events = wait_for(backend, 1)
    assert [event.chunk_id for event in events] == [2]
    assert backend.wait(0.2) == []
    with pytest.raises(PayloadLostError):
        backend.take(1)


def test_cancelling_an_unknown_chunk_does_nothing(backend):
    """A late decision of the driver is harmless."""
    backend.cancel(12345)
    assert backend.wait(0.0) == []


def test_waiting_for_nothing_takes_the_timeout_and_no_longer(backend):
    """An idle backend does not spin, and does not hang."""
    started_s = time.monotonic()
    assert backend.wait(0.2) == []
    assert time.monotonic() - started_s < 2.0


def test_a_wait_longer_than_the_chunk_returns_with_the_chunk(backend):
    """The timeout is for the first event, not a pause."""
    backend.submit(chunk(1))
    started_s = time.monotonic()
    assert [event.chunk_id for event in backend.wait(60.0)] == [1]
    assert time.monotonic() - started_s < 30.0


def test_capacity_holds_a_node_that_can_run_something(backend):
    """A backend that runs chunks says on what."""
    nodes = backend.capacity().nodes
    assert all(node.cpus > 0 and node.memory_bytes > 0 for node in nodes)
    assert len(nodes) >= 1


def test_a_model_that_cannot_be_loaded_ends_the_run(backend):
    """What would fail for every chunk is raised once, in the driver, with the model's message."""
    backend.submit(chunk(1, **{"raise": "ModelError"}))
    with pytest.raises(ModelError, match="as told"):
        wait_for(backend, 1)


def test_nothing_is_spilled_by_small_outputs(backend):
    """The count starts from zero with each backend."""
    backend.submit(chunk(1))
    wait_for(backend, 1)
    assert backend.spilled_bytes() == 0


def test_closing_twice_is_fine(backend):
    """With a chunk outstanding, too; afterwards nothing is reported any more."""
    backend.submit(chunk(1, sleep_s=0.2))
    backend.close()
    backend.close()
    assert backend.wait(0.0) == []
