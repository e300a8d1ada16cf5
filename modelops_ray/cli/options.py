"""The options of commands: those of a run as `config` declares them, and a few that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from modelops_ray.cli.outcomes import DEBUGGING, say
from modelops_ray.config import Option, options

RAY_LEVEL = "RAY_BACKEND_LOG_LEVEL"

Command = Callable[..., None]
Decorator = Callable[[Command], Command]

STUDY = click.argument("study", type=click.Path(path_type=Path))
RUN_DIR = click.argument("run_dir", required=False)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")


def run_dir_of(given: str | None) -> str:
    """The run directory that a command is about: the newest below `runs/`, which is said, where none is named."""
    if given is not None:
        return given
    from modelops_ray.store.runs import newest_run

    newest = str(newest_run())
    say(f"the newest run is {newest}")
    return newest


def _note_debugging(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click's)
    ctx.meta[DEBUGGING] = value
    if value:
        sys.excepthook = sys.__excepthook__
    if value and RAY_LEVEL not in os.environ:
        # Its default; that it is set is what shows Ray's own messages.
        os.environ[RAY_LEVEL] = "info"
        ctx.call_on_close(lambda: os.environ.pop(RAY_LEVEL, None))


DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_note_debugging, help="Show tracebacks, and what Ray prints."
)


def of_run(command: str, *own: Decorator, **helps: str) -> Decorator:
    """Add the options of a run that a command takes; `helps` has other words for some of them.

    Its `own` options stand after those that say which part of a run is done, and before those that say what is run.
    """
    taken = [replace(one, help=helps.get(one.name, one.help)) for one in options().values() if command in one.commands]
    parts = [_click_option(each) for each in taken if "profile" not in each.commands]
    ways = [_click_option(each) for each in taken if "profile" in each.commands]

    def add(function: Command) -> Command:
        for decorator in reversed([*parts, *own, *ways]):
            function = decorator(function)
        return function

    return add


def names_of(command: str) -> list[str]:
    """The names in Python of the options of a run that a command takes."""
    return [each.name for each in options().values() if command in each.commands]


def _click_option(option: Option) -> Decorator:
    if option.kind is bool:
        return click.option(option.flag, is_flag=True, help=option.shown_help)
    kind = click.Choice(option.choices) if option.choices else option.number
    return click.option(
        option.flag, type=kind, metavar=option.metavar, help=option.shown_help, multiple=option.is_repeated
    )


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others have their defaults in `config`."""
    return {name: value for name, value in values.items() if value is not None and value is not False and value != ()}
