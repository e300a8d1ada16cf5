"""What the backend of this process does beyond the contract of all."""

import pytest
from support.toy_chunks import chunk, run_chunk

from modelops_ray.backends.local import LocalBackend
from modelops_ray.core.events import Capacity, ChunkStarted, Node
from modelops_ray.core.report import Cause


def test_running_out_of_memory_is_a_failure_of_the_chunk():
    """A larger request does not help here, but the cause is the same as everywhere."""
    backend = LocalBackend(run_chunk)
    backend.submit(chunk(1, **{"raise": "MemoryError"}))
    [event] = backend.wait(0.0)
    assert (event.cause, event.error_type, event.message) == (Cause.OUT_OF_MEMORY, "MemoryError", "as told")


def test_an_announced_chunk_starts_before_it_ends():
    """Both events come from one wait, since nothing else happens meanwhile."""
    backend = LocalBackend(run_chunk, clock=lambda: 5.0)
    backend.submit(chunk(1, announce=True))
    assert backend.wait(0.0)[0] == ChunkStarted(5.0, 1)


def test_there_is_room_for_one_simulation_at_a_time():
    """However many CPUs one asks for."""
    assert LocalBackend(run_chunk, cpus=8.0, memory_bytes=100).capacity() == Capacity((Node(8.0, 100),))


def test_an_idle_wait_sleeps_for_the_timeout():
    """The driver would spin otherwise."""
    slept: list[float] = []
    assert LocalBackend(run_chunk, sleep=slept.append).wait(3.0) == []
    assert slept == [3.0]


def test_a_mistake_of_ours_is_not_hidden():
    """In a debugger one wants to see it."""
    backend = LocalBackend(run_chunk)
    backend.submit(chunk(1, **{"raise": "KeyError"}))
    with pytest.raises(KeyError):
        backend.wait(0.0)
