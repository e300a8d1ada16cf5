"""Errors to one line on stderr and their exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from modelops_ray.errors import ModelopsRayError

EXIT_FAILURES = 3
EXIT_INTERRUPTED = 130
DEBUGGING = "modelops_ray.debugging"


class Commands(click.Group):
    """Turns errors into one line on stderr and their exit code; with --debug the traceback of ours shows."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments before the command."""
        with _one_line(lambda: False):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _one_line(lambda: bool(ctx.meta.get(DEBUGGING))):
            return super().invoke(ctx)


@contextmanager
def _one_line(is_debugging: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        command = error.ctx.command_path if error.ctx is not None else "modelops-ray"
        end(f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code)
    except ModelopsRayError as error:
        if is_debugging():
            raise
        end(str(error), error.exit_code)
    except KeyboardInterrupt:
        end("interrupted; run the same command to go on", EXIT_INTERRUPTED)


def end(message: str, code: int) -> NoReturn:
    """Say one line on stderr and leave with an exit code."""
    click.echo(f"modelops-ray: {message}", err=True)
    raise click.exceptions.Exit(code)
