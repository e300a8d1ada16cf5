"""The options that several commands share, and which of them were given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from modelops_ray.cli.outcomes import DEBUGGING

RAY_LEVEL = "RAY_BACKEND_LOG_LEVEL"

F = TypeVar("F", bound=Callable[..., None])

STUDY = click.argument("study", type=click.Path(path_type=Path))
RUN_DIR = click.argument("run_dir")
SHARD = click.option("--shard", metavar="I/N", help="Part I of N of the study, by parameter set.")
OUT = click.option("--out", metavar="DIR", help="Run directory, a path or s3://, gs://, az:// (runs/<study>-<8 hex>).")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")


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

_ASK = (
    click.option("--model", metavar="REF", help="path/to/file.py:function or package.module:function."),
    click.option(
        "--address", metavar="ADDR", help="'auto' or HOST:PORT of a running Ray; default: starts its own Ray."
    ),
    click.option("--backend", type=click.Choice(["ray", "local"]), help="'local' runs in this process."),
    click.option("--cpus", type=float, metavar="N", help="CPUs per simulation (1)."),
    click.option("--memory", metavar="SIZE", help="First request per simulation (512Mi, 4Gi); still raised."),
    click.option("--max-memory", metavar="SIZE", help="The most a simulation may be given."),
    click.option("--limit-memory", metavar="SIZE", help="Limit for that Ray, of this machine's memory."),
    click.option("--limit-cpus", type=int, metavar="N", help="Limit for that Ray; may exceed the machine's."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Per simulation (1800), 0 for none."),
    click.option("--attempts", type=int, metavar="N", help="Attempts that run out of memory or crash (5)."),
    click.option("--max-failures", metavar="N|P%", help="Stop when N simulations, or P% of all, failed."),
    click.option(
        "--isolation",
        type=click.Choice(["fork", "reuse", "fresh", "none"]),
        help="A fork of the loaded model (fork), a process that goes on (reuse), a new interpreter (fresh), or none.",
    ),
    click.option("--per-child", type=int, metavar="N", help="Simulations per process, instead of adapted."),
    click.option("--chunk", type=int, metavar="N", help="Simulations per task, instead of adapted."),
    click.option("--window", type=int, metavar="N", help="Tasks outstanding, instead of adapted."),
    click.option("--seeds", type=click.Choice(["job-file", "dask-compatible"]), help="Seed policy (job-file)."),
    DEBUG,
)


def asking(command: F) -> F:
    """Add the options that say what to run and how."""
    for option in reversed(_ASK):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others have their defaults in `config`."""
    return {name: value for name, value in options.items() if value is not None and value is not False}
