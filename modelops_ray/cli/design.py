"""The command that makes a study file: design."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from modelops_ray.cli.options import DEBUG, Decorator
from modelops_ray.cli.outcomes import say
from modelops_ray.errors import UsageError
from modelops_ray.report.text import count


def _axis(flag: str, kind: str, more: str) -> Decorator:
    return click.option(flag, multiple=True, metavar=f"NAME={kind}", help=f"{more} May be repeated.")


@click.command()
@_axis("--grid", "V,V", "Every combination of these values.")
@_axis("--lhs", "LOW:HIGH", "Points of a Latin hypercube; whole numbers where LOW and HIGH are (else 0.0:1.0).")
@_axis("--sobol", "LOW:HIGH", "Points of Sobol's sequence; a larger -n keeps those of a smaller one.")
@click.option("-n", type=int, metavar="N", help="How many points of --lhs and --sobol, at each point of the grid.")
@click.option("--replicates", type=int, default=1, show_default=True, metavar="N", help="Simulations of each set.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="The same one draws the same points.")
@click.option("--model", metavar="REF", help="The study's model, as in sir.py:simulate; else give it to `run`.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="STUDY", help="The file to write.")
@DEBUG
def design(  # noqa: PLR0913 (one for each option)
    *,
    grid: tuple[str, ...],
    lhs: tuple[str, ...],
    sobol: tuple[str, ...],
    n: int | None,
    replicates: int,
    seed: int,
    model: str | None,
    out: Path,
) -> None:
    """Write a study of parameter sets on a grid, drawn at random, or both."""
    from modelops_ray.study.design import Space
    from modelops_ray.study.study import Study
    from modelops_ray.study.tables import cell

    axes = {name: [cell(each) for each in text.split(",")] for name, text in _named("--grid", grid)}
    space = Space.of(axes, lhs=dict(_ranges("--lhs", lhs)), sobol=dict(_ranges("--sobol", sobol)))
    study = Study.of_space(space, n, replicates, seed, None if model is None else _beside(out, model))
    study.save(out)
    n_sets = len(study.parameter_sets)
    say(f"{out}: {count(n_sets, 'parameter set')}, {count(n_sets * replicates, 'simulation')}")


def _ranges(flag: str, texts: tuple[str, ...]) -> Iterator[tuple[str, tuple[object, ...]]]:
    from modelops_ray.study.tables import cell

    for name, text in _named(flag, texts):
        yield name, tuple(cell(each) for each in text.split(":"))


def _named(flag: str, texts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Cut `NAME=...` in two."""
    seen = set[str]()
    for text in texts:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not name or not separator or not value:
            raise UsageError(f"{flag} {text!r}: write it as NAME=..., such as beta=0.1:0.5")
        if name in seen:
            raise UsageError(f"{flag} {text!r}: {name} is given twice; give all of its values at once")
        seen.add(name)
        yield name, value


def _beside(out: Path, model: str) -> str:
    """A model as the study file names it: a path is relative to that file."""
    where, _, function = model.rpartition(":")
    is_relative = (where.endswith(".py") or "/" in where) and not where.startswith(("/", "~"))
    return f"{os.path.relpath(where, out.parent)}:{function}" if is_relative else model
