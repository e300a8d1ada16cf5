"""The commands that tell of runs: why one ended as it did, and which there are."""

from __future__ import annotations

import re
from pathlib import Path

import click

from modelops_ray.cli.options import DEBUG, JSON, RUN_DIR, run_dir_of
from modelops_ray.report.screen import telling

_TASK_ID = re.compile(r"[0-9a-f]{8,32}")


@click.command()
@RUN_DIR
@click.argument("task_id", required=False)
@JSON
@DEBUG
def why(run_dir: str | None, *, task_id: str | None, as_json: bool) -> None:
    """Say what failed in RUN_DIR, where and in which region of the parameters; or all about the simulation TASK_ID.

    Without RUN_DIR it is about the newest run below runs/.
    """
    from modelops_ray.diagnosis.diagnosis import attempts_of, bias_of, diagnose, one_of
    from modelops_ray.report.why import print_one, print_why, why_values
    from modelops_ray.store.reader import RunReader

    if task_id is None and run_dir is not None and _TASK_ID.fullmatch(run_dir) and not Path(run_dir).exists():
        run_dir, task_id = None, run_dir
    place = run_dir_of(run_dir)
    reader = RunReader(place)
    found = diagnose(reader, place)
    one = None if task_id is None else one_of(reader, task_id, place)
    shown = [found.task_id_of(group) for group in found.groups]
    with telling() as screen:
        if as_json:
            screen.json(why_values(found))
        elif one is not None:
            print_one(screen, found, one)
        else:
            print_why(screen, found, attempts_of(reader, shown), bias_of(reader, found))


@click.command()
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@JSON
@DEBUG
def runs(folder: Path, *, as_json: bool) -> None:
    """List the runs in FOLDER, by default runs/, newest first."""
    from modelops_ray.report.summary import print_runs, runs_values
    from modelops_ray.store.runs import runs_below

    found = runs_below(folder)
    with telling() as screen:
        if as_json:
            screen.json(runs_values(found))
        else:
            print_runs(screen, found, folder)
