"""The commands about a study on a cluster: submit, and jobs list, status, logs, stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.table import Table

from modelops_ray.cli.options import DEBUG, JSON, STUDY, given, of_run
from modelops_ray.cli.outcomes import EXIT_FAILURES, EXIT_INTERRUPTED, end, say
from modelops_ray.errors import last_line
from modelops_ray.report.screen import telling, to_stderr, to_stdout
from modelops_ray.report.text import duration

if TYPE_CHECKING:
    from modelops_ray.cluster.jobs.submission import Submission

ADDRESS = click.option("--address", metavar="URL", help="The cluster's dashboard, http://HOST:8265; or RAY_ADDRESS.")
JOB = click.argument("job", metavar="JOB")


@click.command()
@STUDY
@ADDRESS
@click.option("--out", metavar="DIR", help="Run directory, absolute: on storage that outlives the cluster.")
@click.option("--ephemeral", is_flag=True, help="The results may be lost with the cluster's head.")
@click.option("--follow", is_flag=True, help="Show what the job prints; ends with its exit code.")
@click.option("--wait", is_flag=True, help="Wait for the end; ends with the run's exit code.")
@click.option("--shards", type=click.IntRange(1, 1000), default=1, metavar="N", help="Submit N jobs, a part each.")
@click.option("--install", multiple=True, metavar="REQ", help="Install this there as well, as in starsim==3.0.1.")
@JSON
@of_run("submit")
@DEBUG
def submit(  # noqa: PLR0913 (one for each option)
    study: Path,
    *,
    address: str | None,
    out: str | None,
    ephemeral: bool,
    follow: bool,
    wait: bool,
    shards: int,
    install: tuple[str, ...],
    as_json: bool,
    model: str | None,
    **options: Any,
) -> None:
    """Run STUDY as a Ray job on the cluster at --address, or go on with it there.

    Ctrl-C leaves the job alone; how to see it again is said.
    """
    from modelops_ray import api

    if follow and shards > 1:
        raise click.UsageError("--follow shows one job; give --wait with --shards, or follow one by jobs logs")
    sent = api.submit(
        study, address=address, model=model, out=out, ephemeral=ephemeral, shards=shards, install=install,
        **given(options),
    )  # fmt: skip
    if follow or wait:
        _stay(sent, follow=follow, as_json=as_json)
    if as_json:
        to_stdout().json({"address": sent.address, "run_dir": sent.run_dir, "jobs": list(sent.ids)})
        return
    for job in sent.ids:
        to_stdout().say(job)
    say(f"see it: {_attach(sent.ids[0], sent.address)}")


def _stay(sent: Submission, *, follow: bool, as_json: bool) -> NoReturn:
    """Wait until all jobs have ended, say how, and end with the exit code of the run."""
    with _detaching(sent.ids[0], sent.address):
        if follow:
            _show(to_stderr() if as_json else to_stdout(), sent.follow())
        code = sent.wait()
    states = sent.states()
    if as_json:
        ended = [asdict(each) for each in states]
        to_stdout().json({"address": sent.address, "run_dir": sent.run_dir, "exit_code": code, "jobs": ended})
    for each in states:
        _say_end(each, shown=follow)
    raise SystemExit(code)


@click.group()
def jobs() -> None:
    """See and stop the Ray jobs of this program."""


@jobs.command(name="list")
@ADDRESS
@JSON
@DEBUG
def list_jobs(address: str | None, *, as_json: bool) -> None:
    """List the jobs of this program, the youngest first."""
    states = _dashboard(address).states()
    with telling() as screen:
        if as_json:
            screen.json({"jobs": [asdict(each) for each in states]})
        elif not states:
            screen.say("no jobs of this program")
        else:
            screen.print(_table(states))


def _table(states: Sequence[Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("JOB", "STATE", "TIME", "RUN DIRECTORY"):
        table.add_column(name, overflow="fold")
    for each in states:
        table.add_row(each.id, _state(each), _took(each), each.run_dir)
    return table


@jobs.command()
@JOB
@ADDRESS
@JSON
@DEBUG
def status(job: str, address: str | None, *, as_json: bool) -> None:
    """Say how JOB is."""
    from modelops_ray.report.summary import facts

    dashboard = _dashboard(address)
    state = dashboard.state(job)
    if as_json:
        with telling() as screen:
            screen.json(asdict(state))
        return
    rows = [("job", state.id), ("state", _state(state)), ("study", state.study), ("run directory", state.run_dir)]
    rows += [("time", _took(state)), ("last line", last_line(dashboard.log(job)) or last_line(state.message))]
    with telling() as screen:
        facts(screen, [(name, value) for name, value in rows if value])


@jobs.command()
@JOB
@ADDRESS
@click.option("--follow", is_flag=True, help="Until the job ends; ends with its exit code.")
@DEBUG
def logs(job: str, address: str | None, *, follow: bool) -> None:
    """Show what JOB has printed; with --follow, and what it will."""
    dashboard = _dashboard(address)
    dashboard.state(job)
    if not follow:
        with telling() as screen:
            _show(screen, [dashboard.log(job)])
        return
    with _detaching(job, dashboard.address):
        _show(to_stdout(), dashboard.follow(job))
        state = dashboard.wait(job)
    _say_end(state, shown=True)
    raise SystemExit(state.exit_code)


@jobs.command()
@JOB
@ADDRESS
@click.option("--no-wait", is_flag=True, help="Do not wait until it has committed what it finished.")
@DEBUG
def stop(job: str, address: str | None, *, no_wait: bool) -> None:
    """Tell JOB to end; it commits what it finished, and the same submission goes on from there."""
    from modelops_ray.cluster.jobs.package import STOP_WAIT_S

    dashboard = _dashboard(address)
    if not dashboard.stop(job):
        say(f"{job} had ended before: {_state(dashboard.state(job))}")
        return
    if no_wait:
        say(f"{job} was told to end")
        return
    with _detaching(job, dashboard.address):
        state = dashboard.wait(job, STOP_WAIT_S + 30.0)
    say(f"{job}: {_state(state)}; submit the study again to go on")


def _dashboard(address: str | None) -> Any:
    from modelops_ray.cluster.jobs.dashboard import Dashboard
    from modelops_ray.cluster.jobs.package import dashboard_address

    return Dashboard(dashboard_address(address, os.environ))


def _attach(job: str, address: str) -> str:
    return f"modelops-ray jobs logs {job} --follow --address {address}"


@contextmanager
def _detaching(job: str, address: str) -> Iterator[None]:
    """Let Ctrl-C end the looking on and not the job."""
    try:
        yield
    except KeyboardInterrupt:
        end(f"the job goes on; see it again: {_attach(job, address)}", EXIT_INTERRUPTED)


def _show(screen: Any, texts: Iterable[str]) -> None:
    from modelops_ray.report.progress import following

    with following(screen) as show:
        for text in texts:
            show(text)


def _say_end(state: Any, *, shown: bool) -> None:
    """Say how a job ended, and why where that was not seen."""
    why = ""
    if state.exit_code == EXIT_FAILURES:
        why = f": some simulations failed{'' if shown else f'; modelops-ray jobs logs {state.id} says how'}"
    elif state.exit_code and not shown:
        why = f": {last_line(state.message)}"
    say(f"{state.id} {_state(state)}{why}")


def _state(state: Any) -> str:
    """The state in lower case, and the exit code where there is one worth it."""
    word = state.status.lower()
    return word if state.exit_code in {0, None} or state.status == "STOPPED" else f"{word} ({state.exit_code})"


def _took(state: Any, clock: Callable[[], float] = time.time) -> str:
    return "" if state.started_s is None else duration(max(0.0, (state.ended_s or clock()) - state.started_s))
