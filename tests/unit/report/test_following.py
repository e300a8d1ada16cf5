"""A run on a cluster, followed from a terminal or into a pipe."""

import io

import pytest

from modelops_ray.core.events import Capacity, Node
from modelops_ray.core.view import View
from modelops_ray.report.progress import Followed, Lines, _progress, following
from modelops_ray.report.screen import Screen
from modelops_ray.session.ports import Snapshot


def printed(done, total):
    """What a run in a job prints when this number is done."""
    file = io.StringIO()
    times_s = iter([0.0, 60.0])
    lines = Lines(Screen(file=file, width=80), clock=lambda: next(times_s))
    node = Node(4.0, 8 * 2**30)
    view = View(done, 0, done, done, 3, 1, 5, 4, False, 2**30, Capacity((node,)), 2**28, 2**29)
    snapshot = Snapshot(view, 60.0, total, 0)
    lines.update(snapshot)
    lines.update(snapshot)
    return file.getvalue()


@pytest.fixture
def terminal():
    """A terminal of 80 columns."""
    return Screen(file=io.StringIO(), force_terminal=True, width=80, color_system=None)


def test_the_bar_is_where_the_job_is(terminal):
    """Its log arrives in any pieces; every other line is shown as it is."""
    text = "Ray joined\n" + printed(1200, 12_000) + "the model's [bold]line\n" + printed(3000, 12_000) + "last"
    with _progress(terminal) as progress:
        followed = Followed(progress)
        for start in range(0, len(text), 7):
            followed.show(text[start : start + 7])
        [task] = progress.tasks
        assert (3000, 12_000, False) == (task.completed, task.total, task.finished)
        assert "3 repeated with more memory" in task.fields["headline"]
        assert "memory 1.0 GiB of 8.0 GiB requested on 1 node" == task.fields["memory"]
        assert "left" in task.fields["speed"]
        followed.flush()
    shown = terminal.file.getvalue()
    assert "Ray joined" in shown
    assert "the model's [bold]line" in shown
    assert "last" in shown
    assert "12,000 done" not in shown


def test_a_pipe_gets_what_the_job_printed():
    """Byte for byte, for it may be read by a program."""
    text = printed(1, 2) + "[1, 2]\tx" + "y" * 200 + "\nend"
    pipe = Screen(file=io.StringIO(), width=80)
    with following(pipe) as show:
        for start in range(0, len(text), 50):
            show(text[start : start + 50])
    assert text == pipe.file.getvalue()


def test_a_terminal_gets_the_bar(terminal):
    """Chosen by where it is shown."""
    with following(terminal) as show:
        show(printed(1, 2))
        show("end")
    assert "1 of 2 done" not in terminal.file.getvalue()
    assert "end" in terminal.file.getvalue()
