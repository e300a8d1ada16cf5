"""The commands about a run directory: status, results, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from modelops_ray.cli.options import DEBUG, JSON, RUN_DIR, run_dir_of
from modelops_ray.report.screen import telling
from modelops_ray.report.text import count, format_size
from modelops_ray.store.export import ENDINGS, write_table

STATUS_EVERY_S = 2.0
_PRINTED = "_printed"


@click.command()
@RUN_DIR
@click.option("--follow", is_flag=True, help="Again every two seconds, until the run ends.")
@JSON
@DEBUG
def status(run_dir: str | None, *, follow: bool, as_json: bool) -> None:
    """Say how far RUN_DIR is, live or finished, from the directory alone; a path or a URI.

    Without RUN_DIR it is the newest run below runs/.
    """
    from modelops_ray import api
    from modelops_ray.report.summary import print_status, status_values

    found = api.open_run(run_dir_of(run_dir))
    for state in _states(found, follow=follow):
        with telling() as screen:
            if as_json:
                screen.json(status_values(state))
            else:
                print_status(screen, state)
        if screen.steady.is_broken:
            return


def _states(found: Any, *, follow: bool) -> Iterator[Any]:
    while True:
        state = found.status()
        yield state
        if not follow or not state.running:
            return
        time.sleep(STATUS_EVERY_S)


@click.command()
@RUN_DIR
@click.option(
    "--output",
    metavar="NAME",
    help="An output of the model, attempts (those that gave no result), or _printed (what simulations printed); "
    "default: one row per simulation.",
)
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help=f"Write {ENDINGS}.")
@JSON
@DEBUG
def results(run_dir: str | None, *, output: str | None, to: Path | None, as_json: bool) -> None:
    """Show or export the tables of RUN_DIR: committed rows only, in study order.

    Without RUN_DIR they are those of the newest run below runs/.
    """
    from modelops_ray import api
    from modelops_ray.report.tables import print_table
    from modelops_ray.report.why import print_what_was_printed

    found = api.open_run(run_dir_of(run_dir))
    table = _table(found, output)
    if to is not None:
        write_table(table, to)
    with telling() as screen:
        if as_json:
            screen.json({"rows": table.num_rows, "columns": table.column_names, "outputs": found.output_names})
        elif to is None and output == _PRINTED:
            print_what_was_printed(screen, table)
        elif to is None:
            print_table(screen, table, found.output_names)
        else:
            screen.say(f"{count(table.num_rows, 'row')} written to {to}")


def _table(found: Any, output: str | None) -> Any:
    """A table by its name; where the model has an output `attempts`, that is meant."""
    if output is None:
        return found.simulations()
    if output == _PRINTED:
        return found.printed()
    if output == "attempts" and output not in found.output_names:
        return found.attempts()
    return found.output(output)


@click.command()
@RUN_DIR
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Default: report.html in RUN_DIR."
)
@JSON
@DEBUG
def report(run_dir: str | None, *, out: Path | None, as_json: bool) -> None:
    """Write RUN_DIR as one HTML file with plots, which needs nothing else to be looked at.

    Without RUN_DIR it is about the newest run below runs/.
    """
    from modelops_ray import api

    path = api.open_run(run_dir_of(run_dir)).report(out)
    with telling() as screen:
        if as_json:
            screen.json({"file": str(path), "bytes": path.stat().st_size})
        else:
            screen.say(f"written to {path} ({format_size(path.stat().st_size)}); open it in a browser")
