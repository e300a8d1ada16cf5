"""Everything printed goes through a screen: it is no markup and no command, and a stream that fails ends nothing."""

import errno
import io
import os

import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.table import Table

from modelops_ray.cli import main
from modelops_ray.errors import StorageError
from modelops_ray.report.progress import Followed, Lines, _progress
from modelops_ray.report.screen import Screen, Steady, steady_streams, telling
from modelops_ray.report.tables import print_first_look, print_table
from modelops_ray.store.directory import OutputSize

HOSTILE = "x[/y] \x1b[31m[bold]\u202e :smile:"
SHOWN = r"x[/y] \x1b[31m[bold]\u202e :smile:"


def screen(width=80, encoding="utf-8", **settings):
    """A screen, and what was printed on it."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Screen(stream, width=width, **settings), lambda: stream.buffer.getvalue().decode(encoding)


class Failing(io.StringIO):
    """A stream that takes nothing, for a reason."""

    def __init__(self, number):
        super().__init__()
        self.number, self.tries = number, 0

    def write(self, _text):
        """Refuse."""
        self.tries += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("terminal", [False, True])
def test_no_line_and_no_cell_is_taken_for_markup_or_obeyed(terminal):
    """Lines, cells and headings, in a pipe and on a terminal."""
    on, printed = screen(force_terminal=terminal, color_system=None)
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    on.say(HOSTILE)
    on.print(table)

    assert 3 == printed().count(SHOWN)
    assert "\x1b" not in printed()


@pytest.mark.parametrize("names", [("beta[young]", "beta[old]"), ("x[/y]", "[red]"), (".x", "a\nb"), ("", "β")])
def test_columns_are_shown_by_their_whole_names(names):
    """Parameters and a model's own columns, in the first look and in a table."""
    on, printed = screen()
    own = dict(zip(names, ([1.0, 2.0], [3.0, 4.0]), strict=True))
    identity = {"task_id": ["a", "b"], "param_id": ["x", "y"], "replicate": [0, 0], "seed": [1, 2]}
    table = pa.table(identity | {f"param_{name}": values for name, values in own.items()} | own)
    print_first_look(on, {"summary": OutputSize(2, 100)}, 2, lambda _name: table)
    looked = printed().splitlines()[1].split()
    print_table(on, table, ["summary"])
    listed = printed().splitlines()[5].split()

    shown = [name.replace("\n", r"\n") for name in names if name]
    assert [*shown, "replicates", *shown] == looked
    assert ["replicate", *shown, *shown, "seed"] == listed


def test_what_a_stream_cannot_encode_is_an_escape_and_columns_stay_aligned():
    """A parameter may be called β where the terminal knows ASCII only."""
    on, printed = screen(encoding="ascii")
    table = Table("β", "x", box=None, pad_edge=False)
    table.add_row("1", "…")
    on.say("β…")
    on.print(table)

    assert ["\\u03b2...", "\\u03b2  x  ", "1       ..."] == [line.rstrip("\n") for line in printed().splitlines()]


@pytest.mark.parametrize("columns", ["0", "1", "²", "9" * 5000, "-3", "x"])
def test_a_terminal_of_no_width_shows_all_the_same(columns, monkeypatch):
    """What the environment says is not always a size."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    on, printed = Screen(file := io.StringIO()), file.getvalue
    print_first_look(on, {"summary": OutputSize(5, 100)}, 1, pytest.fail)

    assert "summary" in printed()


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("s"), pa.timestamp("us", "No/Where"), pa.date64()])
def test_times_that_python_cannot_hold_are_shown(kind):
    """A table of a model may hold any of Arrow's."""
    on, printed = screen()
    values = pa.array([2**62 + 1 if kind == pa.timestamp("ns") else 2**46], pa.int64()).cast(kind)
    print_table(on, pa.table({"replicate": [0], "seed": [1], "when": values}), [])

    assert "when" in printed()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_a_stream_that_fails_raises_nothing(number):
    """The first failure is kept; a reader that has gone is not tried again."""
    stream = Steady(failing := Failing(number))
    for _ in range(3):
        stream.write("text")
        stream.flush()

    assert number == stream.failure.errno
    assert (1 if number == errno.EPIPE else 3) == failing.tries


def test_a_stream_that_is_closed_takes_nothing():
    """Python has None for one that was closed before it began, and raises ValueError for one that was later."""
    closed = io.StringIO()
    closed.close()
    for stream in (Steady(None), Steady(closed)):
        stream.write("text")
        stream.flush()
        assert not stream.isatty()
        assert stream.is_broken


def test_the_display_of_a_run_goes_on_where_stderr_is_full():
    """A study does not stop for want of a line."""
    Lines(Screen(Failing(errno.ENOSPC))).note("one")


def test_a_log_of_others_moves_no_cursor_and_no_bar_it_should_not(monkeypatch):
    """What a job prints is text of others; a line that looks like progress may hold anything."""
    on, printed = screen(force_terminal=True, color_system=None)
    log = [HOSTILE, ", of , done; a; b; c", "9" * 5000 + " of 1 done; a; b; c", "1 of 2 done; \x1b[1m; \x9b; [/]"]
    with _progress(on) as progress:
        followed = Followed(progress)
        followed.show("\n".join(log) + "\n")
        [task] = progress.tasks
        assert (1, r"\x1b[1m", r"\x9b") == (
            task.completed,
            task.fields["headline"].strip(),
            task.fields["speed"].strip(),
        )

    assert SHOWN in printed()
    assert "\x1b[31m" not in printed()


def test_what_was_asked_for_and_cannot_be_printed_is_an_error(monkeypatch):
    """One line, with the reason."""
    monkeypatch.setattr("sys.stdout", Failing(errno.ENOSPC))
    with pytest.raises(StorageError, match="stdout: No space left on device; give a place"), telling() as on:
        on.say("answer")


def test_a_reader_that_has_gone_has_read_what_it_wanted(monkeypatch):
    """As in `| head -1`: no error, and the exit code stays what the command found."""
    monkeypatch.setattr("sys.stdout", Failing(errno.EPIPE))
    with telling() as on:
        on.say("answer")

    assert on.steady.is_broken


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, 1), (errno.EPIPE, 0)])
def test_a_failure_on_stdout_is_said_once_at_the_end(number, said, monkeypatch):
    """Unless the reader has gone, who need not be told."""
    monkeypatch.setattr("sys.stdout", Failing(number))
    monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
    with steady_streams():
        print("one")  # noqa: T201
        print("two")  # noqa: T201

    assert said == len(stderr.getvalue().splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "no\nsuch\x1b[31m.json"],
        ["run", "caf\udce9.json"],
        ["status", "\u202efolder"],
        ["r\nun"],
        ["run", "--mo\x1bdel"],
        ["run", "x.json", "--backend", "\x07\nlocal"],
        ["run", "x.json", "--max-failures", "9" * 10_000],
        ["jobs", "list", "--address", "http://\n\x1b"],
        ["kuberay", "check", "no\nfile.yaml"],
    ],
)
def test_every_error_is_one_line_of_text(arguments, tmp_path, monkeypatch):
    """Ours and click's, with anything typed."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments, prog_name="modelops-ray")

    assert result.exit_code in {1, 2}, result.exception
    assert "" == result.stdout
    assert 1 == len(result.stderr.splitlines())
    assert result.stderr[:-1].isprintable()
    assert 4200 > len(result.stderr)
