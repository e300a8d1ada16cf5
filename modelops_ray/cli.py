"""The command line: options to knobs, outcomes to exit codes, errors to one line. Nothing is decided here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

import modelops_ray
from modelops_ray.errors import ModelopsRayError

EXIT_FAILURES = 3
EXIT_INTERRUPTED = 130
STATUS_EVERY_S = 2.0
_DEBUGGING = "modelops_ray.debugging"

F = TypeVar("F", bound=Callable[..., None])


class _Commands(click.Group):
    """Turns errors into one line on stderr and their exit code; with --debug the traceback of ours shows."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments before the command."""
        with _one_line(lambda: False):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _one_line(lambda: bool(ctx.meta.get(_DEBUGGING))):
            return super().invoke(ctx)


@contextmanager
def _one_line(is_debugging: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        command = error.ctx.command_path if error.ctx is not None else "modelops-ray"
        _end(f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code)
    except ModelopsRayError as error:
        if is_debugging():
            raise
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        _end("interrupted; run the same command to go on", EXIT_INTERRUPTED)


def _end(message: str, code: int) -> NoReturn:
    click.echo(f"modelops-ray: {message}", err=True)
    raise click.exceptions.Exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(modelops_ray.__version__, prog_name="modelops-ray")
def main() -> None:
    """Run simulation studies on Ray: memory measured, learned and declared; nothing lost."""


_STUDY = click.argument("study", type=click.Path(path_type=Path))
_RUN_DIR = click.argument("run_dir", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")


def _note_debugging(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click's)
    ctx.meta[_DEBUGGING] = value


_DEBUG = click.option("--debug", is_flag=True, expose_value=False, callback=_note_debugging, help="Show tracebacks.")

_ASK = (
    click.option("--model", metavar="REF", help="path/to/file.py:function or package.module:function."),
    click.option("--address", metavar="ADDR", help="'auto' or HOST:PORT of a running Ray; default: an own one."),
    click.option("--backend", type=click.Choice(["ray", "local"]), help="'local' runs in this process."),
    click.option("--cpus", type=float, metavar="N", help="CPUs per simulation (1)."),
    click.option("--memory", metavar="SIZE", help="First request per simulation (512Mi, 4Gi); still raised."),
    click.option("--max-memory", metavar="SIZE", help="The most a simulation may be given."),
    click.option("--limit-memory", metavar="SIZE", help="What an own Ray may use of this machine."),
    click.option("--limit-cpus", type=int, metavar="N", help="CPUs of an own Ray; may exceed the machine's."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Per simulation (1800), 0 for none."),
    click.option("--attempts", type=int, metavar="N", help="Attempts that run out of memory or crash (5)."),
    click.option("--max-failures", metavar="N|P%", help="Stop when so many simulations failed."),
    click.option(
        "--isolation",
        type=click.Choice(["fork", "reuse", "fresh", "none"]),
        help="A fork of the loaded model (fork), a process that goes on (reuse), a new interpreter (fresh), or none.",
    ),
    click.option("--per-child", type=int, metavar="N", help="Simulations per process, instead of adapted."),
    click.option("--chunk", type=int, metavar="N", help="Simulations per task, instead of adapted."),
    click.option("--window", type=int, metavar="N", help="Tasks outstanding, instead of adapted."),
    click.option("--seeds", type=click.Choice(["job-file", "dask-compatible"]), help="Seed policy (job-file)."),
    _DEBUG,
)


def _asking(command: F) -> F:
    """Add the options that say what to run and how."""
    for option in reversed(_ASK):
        command = option(command)
    return command


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others have their defaults in `config`."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


@main.command()
@_STUDY
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Run directory (runs/<study>-<8 hex>).")
@click.option("--fresh", is_flag=True, help="Start over; the old run is moved aside.")
@click.option("--retry-failed", is_flag=True, help="Repeat what failed.")
@click.option("--only", metavar="TASK_ID", help="Run one simulation.")
@click.option("--take-over", is_flag=True, help="Go on although another session seems to write.")
@click.option("--tolerate-failures", is_flag=True, help="Exit 0 instead of 3.")
@click.option("--check-leaks", is_flag=True, help="At the end, compare a few simulations with new processes.")
@_JSON
@click.option("--quiet", is_flag=True, help="No display.")
@_asking
def run(study: Path, *, as_json: bool, quiet: bool, model: str | None, **options: Any) -> None:
    """Run STUDY to its end, or go on with it."""
    from modelops_ray import api
    from modelops_ray.report.progress import display

    config = api.configure(**_given(options))
    with display(quiet=quiet) as watcher:
        outcome = api.run_session(study, model, config, watcher)
    if as_json:
        click.echo(json.dumps(outcome.summary))
    else:
        _print_outcome(outcome.summary)
    _exit_unless_complete(outcome)
    if config.check_leaks:
        with display(quiet=quiet) as watcher:
            n = api.require_no_leaks(study, model, config, watcher)
        click.echo(f"no leaks: {n} simulations came out the same in a new process", err=True)
    if outcome.summary["failed"] and not config.tolerate_failures:
        raise SystemExit(EXIT_FAILURES)


def _print_outcome(summary: dict[str, Any]) -> None:
    from modelops_ray.report.summary import print_failures, print_summary
    from modelops_ray.report.tables import print_first_look
    from modelops_ray.store.reader import RunReader

    console = Console(highlight=False)
    found = RunReader(summary["run_dir"])
    if sizes := found.output_sizes():
        print_first_look(console, sizes, found.output)
        console.print()
    print_summary(console, summary)
    if summary["failed"]:
        print_failures(console, found.failures(), summary["run_dir"])


def _exit_unless_complete(outcome: Any) -> None:
    """End with the code the interface promises where not every simulation has a row."""
    from modelops_ray.core.events import Ending

    ending, message = outcome.finish.ending, outcome.finish.message
    if ending is Ending.STOPPED:
        click.echo(f"modelops-ray: stopped by {message}; run the same command to go on", err=True)
        raise SystemExit(EXIT_INTERRUPTED)
    if ending is Ending.GAVE_UP:
        click.echo(f"modelops-ray: {message}", err=True)
        raise SystemExit(1)


@main.command()
@_STUDY
@_JSON
@_asking
def plan(study: Path, *, as_json: bool, model: str | None, **options: Any) -> None:
    """Say what STUDY would take; runs nothing."""
    from modelops_ray import api
    from modelops_ray.report.summary import print_plan

    expected = api.plan(study, model=model, **_given(options))
    if as_json:
        click.echo(json.dumps(expected.values()))
    else:
        print_plan(Console(highlight=False), expected)


@main.command()
@_STUDY
@click.option("--samples", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Simulations to run.")
@_JSON
@_asking
def profile(study: Path, *, samples: int, as_json: bool, model: str | None, **options: Any) -> None:
    """Measure a few simulations of STUDY and keep what they took."""
    from modelops_ray import api
    from modelops_ray.report.summary import print_profile

    measured = api.profile(study, model=model, samples=samples, **_given(options))
    if as_json:
        click.echo(json.dumps(asdict(measured)))
    else:
        print_profile(Console(highlight=False), measured)


@main.command()
@_RUN_DIR
@click.option("--follow", is_flag=True, help="Again every two seconds, until the run ends.")
@_JSON
@_DEBUG
def status(run_dir: Path, *, follow: bool, as_json: bool) -> None:
    """Say how far RUN_DIR is, live or finished, from the directory alone."""
    from modelops_ray import api
    from modelops_ray.report.summary import print_status, status_values

    found = api.open_run(run_dir)
    console = Console(highlight=False)
    for state in _states(found, follow=follow):
        if as_json:
            click.echo(json.dumps(status_values(state)))
        else:
            print_status(console, state)


def _states(found: Any, *, follow: bool) -> Iterator[Any]:
    while True:
        state = found.status()
        yield state
        if not follow or not state.running:
            return
        time.sleep(STATUS_EVERY_S)


@main.command()
@_RUN_DIR
@click.option("--output", metavar="NAME", help="An output of the model; default: one row per simulation.")
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="Write .parquet, .csv or .arrow.")
@_JSON
@_DEBUG
def results(run_dir: Path, *, output: str | None, to: Path | None, as_json: bool) -> None:
    """Show or export the tables of RUN_DIR: committed rows only, in study order."""
    from modelops_ray import api
    from modelops_ray.report.tables import print_table
    from modelops_ray.store.tables import write_table

    found = api.open_run(run_dir)
    table = found.simulations() if output is None else found.output(output)
    if to is not None:
        write_table(table, to)
    if as_json:
        click.echo(json.dumps({"rows": table.num_rows, "columns": table.column_names, "outputs": found.output_names}))
    elif to is None:
        print_table(Console(highlight=False), table, found.output_names)
    else:
        click.echo(f"{table.num_rows:,} rows written to {to}")
