"""The commands about a study: run, plan, profile, debug."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelops_ray.cli.last_words import last_words
from modelops_ray.cli.options import DEBUG, JSON, STUDY, given, of_run
from modelops_ray.cli.outcomes import EXIT_FAILURES, EXIT_INTERRUPTED, end
from modelops_ray.report.screen import telling, to_stderr, to_stdout
from modelops_ray.report.text import count
from modelops_ray.session.summary import Summary

if TYPE_CHECKING:
    from modelops_ray.session.execute import Outcome


@click.command()
@STUDY
@of_run("run", JSON, click.option("--quiet", is_flag=True, help="No display."))
@DEBUG
def run(study: Path, *, as_json: bool, quiet: bool, model: str | None, **options: Any) -> None:
    """Run STUDY to its end, or go on with it."""
    from modelops_ray import api
    from modelops_ray.report.progress import display
    from modelops_ray.session.run_config import RunConfig

    request = api.ask_to_go_on(study, model, RunConfig(**given(options)))
    with last_words(), display(quiet=quiet) as watcher:
        outcome = api.run_session(request, watcher)
    if as_json:
        to_stdout().json(outcome.summary.values())
    else:
        _print_outcome(outcome.summary)
    _exit_unless_complete(outcome)
    if request.config.check_leaks:
        with display(quiet=quiet) as watcher:
            n = api.require_no_leaks(request, watcher)
        to_stderr().say(f"no leaks: {count(n, 'simulation')} came out the same in a new process")
    if outcome.summary.failed and not request.config.tolerate_failures:
        raise SystemExit(EXIT_FAILURES)


def _print_outcome(summary: Summary) -> None:
    from modelops_ray.diagnosis.diagnosis import diagnose
    from modelops_ray.report.summary import print_summary
    from modelops_ray.report.tables import print_first_look
    from modelops_ray.report.why import print_first_lines
    from modelops_ray.store.reader import RunReader

    console = to_stdout()
    found = RunReader(summary.run_dir)
    if sizes := found.output_sizes():
        print_first_look(console, sizes, summary.completed, found.output)
        console.say()
    print_summary(console, summary)
    if summary.failed:
        print_first_lines(console, diagnose(found, summary.run_dir))
        console.say("Retry: the same command with --retry-failed")
        console.say(f"Details: modelops-ray why {summary.run_dir}")


def _exit_unless_complete(outcome: Outcome) -> None:
    """End with the code the interface promises where not every simulation has a row."""
    from modelops_ray.core.events import Ending

    if outcome.finish.ending is Ending.STOPPED:
        end(f"stopped by {outcome.why}; run the same command to go on", EXIT_INTERRUPTED)
    if outcome.finish.ending is Ending.GAVE_UP:
        end(outcome.why, 1)


@click.command()
@STUDY
@of_run("plan", JSON)
@DEBUG
def plan(study: Path, *, as_json: bool, model: str | None, **options: Any) -> None:
    """Say what STUDY would take; runs nothing."""
    from modelops_ray import api
    from modelops_ray.report.summary import print_plan

    expected = api.plan(study, model=model, **given(options))
    with telling() as screen:
        if as_json:
            screen.json(expected.values())
        else:
            print_plan(screen, expected)


@click.command()
@STUDY
@click.option("--samples", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Simulations to run.")
@JSON
@of_run("profile")
@DEBUG
def profile(study: Path, *, samples: int, as_json: bool, model: str | None, **options: Any) -> None:
    """Measure a few simulations of STUDY and keep what they took."""
    from modelops_ray import api
    from modelops_ray.report.summary import print_profile

    measured = api.profile(study, model=model, samples=samples, **given(options))
    if as_json:
        to_stdout().json(asdict(measured))
    else:
        print_profile(to_stdout(), measured)


@click.command()
@STUDY
@of_run("debug")
@DEBUG
def debug(study: Path, *, model: str | None, **options: Any) -> None:
    """Run one simulation of STUDY in this process: its prints show, breakpoint() stops, an exception opens pdb.

    It is the first that the options leave; nothing is kept of it. Ends with 3 where the simulation failed.
    """
    from modelops_ray import api
    from modelops_ray.session.debugging import debug as run_here
    from modelops_ray.session.run_config import RunConfig

    if not run_here(api.ask_to_run(study, model, RunConfig(**given(options))), to_stderr().say):
        raise SystemExit(EXIT_FAILURES)
