"""A GCS that is gone is noticed, and given up at once or after a time in which it may come back."""

import socket
from contextlib import ExitStack, suppress

import pytest

from modelops_ray.backends.ray.gcs import COMES_BACK_WITHIN_S, LOOK_EVERY_S, GcsWatch
from modelops_ray.errors import BackendError


@pytest.fixture
def server():
    """Something that listens, as a GCS does, and does not answer, as one that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def now_s():
    """The time, to be changed."""
    return [100.0]


def watch_of(server, now_s, *, comes_back):
    """A watch of where this server listens."""
    return GcsWatch(f"127.0.0.1:{server.getsockname()[1]}", lambda: now_s[0], comes_back=comes_back)


def test_one_that_listens_is_there(server, now_s):
    """It need not answer: a machine that is busy answers late."""
    watch = watch_of(server, now_s, comes_back=False)
    assert not watch.is_away
    watch.require()


def test_an_own_one_that_has_ended_is_given_up_at_once(server, now_s):
    """It is started once; the message names where it was."""
    watch = watch_of(server, now_s, comes_back=False)
    server.close()
    with pytest.raises(BackendError, match=r"^Ray failed: its GCS at 127.0.0.1:\d+ is gone: .*; start the same"):
        watch.require()


def test_it_is_looked_for_once_a_second_at_most(server, now_s):
    """A run asks many times a second."""
    watch = watch_of(server, now_s, comes_back=False)
    watch.require()
    server.close()
    now_s[0] += 0.9 * LOOK_EVERY_S
    assert not watch.is_away
    now_s[0] += 0.2 * LOOK_EVERY_S
    assert watch.is_away


def test_one_of_a_cluster_may_come_back(server, now_s):
    """Its head starts it again; being away twice for a short time is not being away for long."""
    watch = watch_of(server, now_s, comes_back=True)
    port = server.getsockname()[1]
    server.close()
    watch.require()
    now_s[0] += COMES_BACK_WITHIN_S - 1.0
    watch.require()
    assert watch.is_away
    with socket.create_server(("127.0.0.1", port)):
        now_s[0] += LOOK_EVERY_S
        assert not watch.is_away
    now_s[0] += LOOK_EVERY_S
    watch.require()
    now_s[0] += COMES_BACK_WITHIN_S
    with pytest.raises(BackendError, match="is gone"):
        watch.require()


@pytest.mark.parametrize("comes_back", [False, True])
def test_one_that_cannot_take_a_connection_has_not_ended_where_it_is_of_this_machine(now_s, comes_back):
    """Its queue is full; of another machine that cannot be told from one that is gone, and is waited for."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        with suppress(TimeoutError):
            while True:
                waiting.enter_context(socket.create_connection(full.getsockname(), 0.1))
        watch = watch_of(full, now_s, comes_back=comes_back)
        assert comes_back == watch.is_away
        watch.require()
