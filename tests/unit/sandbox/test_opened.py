"""What is told of files that are written while a simulation runs."""

import threading

import pytest
from support.in_place import SNAPSHOT

from modelops_ray.core.events import WritePart
from modelops_ray.sandbox import opened
from modelops_ray.session.committer import CommitThread, Desk


class Heard:
    """A watcher that notes the paths that it is told of."""

    def __init__(self):
        self.paths = []

    def about_to_write(self, path, *, is_emptied, is_sure=True):
        """Note it."""
        self.paths.append(path)

    about_to_replace = about_to_enter = about_to_start = lambda self, *_, **__: None


@pytest.fixture
def heard():
    """Hear what this process writes."""
    watcher = Heard()
    opened.watch(watcher)
    yield watcher
    opened.watch(None)


class FileStore:
    """A store whose heartbeat is a file."""

    def __init__(self, path):
        self._path = path

    def commit(self, payloads, failures, attempts=()):
        """Write too."""
        self.heartbeat({})
        return ()

    def heartbeat(self, counters):
        """Write the file."""
        self._path.write_text("alive")


def test_what_our_writer_writes_is_not_told_as_the_models(tmp_path, heard):
    """Where a model runs in the same process, each of its simulations seemed to write the file of the heartbeat."""
    with CommitThread(Desk(FileStore(tmp_path / "progress.json"), None, lambda: 0.0)) as committer:
        committer.submit(WritePart((), ()), SNAPSHOT)
        while not committer.poll(0.1):
            pass
        (tmp_path / "of_the_model").write_text("x")

    assert (tmp_path / "progress.json").exists()
    assert [str(tmp_path / "of_the_model")] == heard.paths


def test_a_thread_is_heard_again_afterwards(tmp_path, heard):
    """Numbers of threads come again, and the next one may be the model's."""

    def write():
        with opened.unheard():
            (tmp_path / "ours").write_text("x")
        (tmp_path / "theirs").write_text("x")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()

    assert [str(tmp_path / "theirs")] == heard.paths
