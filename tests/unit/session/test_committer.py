"""The committing thread: it commits in order, beats while there is nothing to commit, and ends with its session."""

import threading

import pytest
from support.in_place import SNAPSHOT

from modelops_ray.core.events import PartCommitted, PayloadLost, WritePart
from modelops_ray.core.report import Cause, FailedAttempts, Failure, Follows
from modelops_ray.errors import PayloadLostError, StorageError
from modelops_ray.session import committer
from modelops_ray.session.committer import CommitThread, Desk


class Store:
    """Keeps what it is told; `error` is raised by the first commit."""

    def __init__(self, error=None):
        self.commits, self.beats, self.error = [], [], error
        self.has_beaten = threading.Event()

    def commit(self, payloads, failures, attempts=()):
        """Keep it."""
        if self.error is not None:
            raise self.error
        self.commits.append((payloads, failures))
        self.attempts = attempts
        return ()

    def heartbeat(self, counters):
        """Keep it."""
        self.beats.append(counters)
        self.has_beaten.set()


def take(chunk_id):
    """Hand out a text as payload; that of chunk 2 is lost."""
    if chunk_id == 2:
        raise PayloadLostError("gone")
    return f"payload {chunk_id}"


def thread(store):
    """Make a committer of a store."""
    return CommitThread(Desk(store, take, lambda: 7.0))


def ended(writing):
    """Wait for the end of one commit."""
    while not (events := writing.poll(0.1)):
        pass
    return events


def test_a_commit_says_what_is_durable_and_what_was_lost():
    """Given three chunks of which one payload is lost, two are committed, and the heartbeat shows the run as it was."""
    store = Store()
    with thread(store) as writing:
        writing.submit(WritePart((1, 2, 3), ()), SNAPSHOT)
        assert [PayloadLost(7.0, 2), PartCommitted(7.0, (1, 3))] == ended(writing)
    assert [(["payload 1", "payload 3"], ())] == store.commits
    assert {
        "completed": 4,
        "failed": 1,
        "resumed": 2,
        "attempts": 5,
        "oom_retries": 0,
        "infrastructure_retries": 0,
        "outstanding": 1,
        "elapsed_seconds": 1.0,
    } == store.beats[0]


def test_an_attempt_that_ended_unseen_ended_when_the_run_learned_of_it():
    """Three seconds before it is committed, by a clock of its own; of the others a worker has said when."""
    store = Store()
    seen, unseen = (
        FailedAttempts((0,), (1,), Failure(0, Cause.CRASHED, "E", "no", ended_unix_s=at), Follows.RETRIED, 1, 1, 4.0)
        for at in (50.0, None)
    )
    desk = Desk(store, take, lambda: 7.0, lambda: 1003.0)
    desk.commit(WritePart((), (), (seen, unseen)), SNAPSHOT)
    assert [50.0, 1000.0] == [each.failure.ended_unix_s for each in store.attempts]


def test_it_beats_by_itself_while_the_driver_is_busy(monkeypatch):
    """Given no commit and no further word of the driver, the store is told all the same."""
    monkeypatch.setattr(committer, "HEARTBEAT_EVERY_S", 0.001)
    store = Store()
    with thread(store) as writing:
        writing.update(SNAPSHOT)
        assert store.has_beaten.wait(60)
    assert 4 == store.beats[0]["completed"]


@pytest.mark.parametrize("error", [StorageError("runs/x: no space left on the device"), ZeroDivisionError("a bug")])
def test_a_commit_that_fails_is_told_at_every_poll(error):
    """Whether the disk is full or the store has a bug, the run ends with it instead of waiting for ever."""
    with thread(Store(error)) as writing:
        writing.submit(WritePart((1,), ()), SNAPSHOT)
        for _ in range(2):
            with pytest.raises(type(error), match=str(error)):
                ended(writing)


def test_the_thread_ends_with_the_session():
    """Nothing of a session outlives it."""
    with thread(Store()):
        assert [name for name in names() if name.startswith("modelops-ray-writer")]
    assert not [name for name in names() if name.startswith("modelops-ray-writer")]


def names():
    """The names of all threads."""
    return [each.name for each in threading.enumerate()]
