"""`python -m benchmarks run|compare|report`: the command line of the suite. Owns options and what is printed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import records
from benchmarks.cgroups import why_not
from benchmarks.compare import Row, rows
from benchmarks.engines import ENGINES
from benchmarks.records import RECORDS, Record
from benchmarks.rounds import order, run_round
from benchmarks.scenarios import SCENARIOS, Size

README = Path(__file__).parents[1] / "README.md"
LOCAL = Path("benchmark-records")
WHERE = "Where records are: benchmark-records, or those of the repository where there are none."
console = Console(highlight=False)


@click.group()
def main() -> None:
    """Replay the incident and compare executors, by record."""


@main.command()
@click.argument("scenario", type=click.Choice(list(SCENARIOS)))
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)), help="Only these, and the pool.")
@click.option("--repeat", default=1, show_default=True, help="Rounds.")
@click.option("--size", type=click.Choice(["small", "full"]), default="full", show_default=True)
@click.option("--point", "points", multiple=True, type=float, help="Only these points of the scenario's axis.")
@click.option("--records", "folder", type=click.Path(path_type=Path), default=LOCAL, show_default=True)
def run(scenario: str, engines: Sequence[str], repeat: int, size: Size, points: Sequence[float], folder: Path) -> None:
    """Run a scenario with all engines it is about, and keep a record of each run."""
    chosen = SCENARIOS[scenario]
    console.print(f"{scenario}: {chosen.question}")
    if because := why_not():
        console.print(f"Measures without pods: {because}.")
    for number in range(repeat):
        for case in chosen.cases(size):
            if points and case.point not in points:
                continue
            wanted = engines or chosen.engines or tuple(ENGINES)
            names = order(wanted, number, against_pool=chosen.against_pool)
            console.print(f"round {number + 1}" + ("" if case.point is None else f", point {case.point:g}"))
            run_round(case, names, number, _tell, partial(records.append, folder / f"{scenario}.jsonl"))


def _tell(record: Record) -> None:
    rate = f"{record.per_second:.1f}/s" if record.per_second else "-"
    lost = f", {record.lost} lost" if record.lost else ""
    killed = record.kernel_kills + record.engine_kills
    killed_text = f", {killed} killed" if killed else ""
    console.print(
        f"  {record.engine:<17}{record.outcome:<11}{record.done}/{record.simulations} in {record.wall_s:.1f} s, "
        f"{rate}{lost}{killed_text}",
        soft_wrap=True,
    )


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--records", "folder", type=click.Path(path_type=Path), help=WHERE)
@click.option("--size", type=click.Choice(["small", "full"]), default="full", show_default=True)
def compare(names: Sequence[str], folder: Path | None, size: Size) -> None:
    """Print engines side by side, from the records."""
    found = [record for record in records.read(_there(folder), names) if record.size == size]
    for scenario in SCENARIOS:
        chosen = [row for row in rows(found) if row.scenario == scenario]
        if chosen:
            console.print(_table(scenario, chosen))


def _table(scenario: str, chosen: Sequence[Row]) -> Table:
    table = Table(title=scenario, title_justify="left", box=None, pad_edge=False)
    for name, justify in (("point", "right"), ("engine", "left"), ("outcome", "left"), ("done", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in ("per s", "of pool", "killed", "spread"):
        table.add_column(name, justify="right", no_wrap=name != "spread")
    for row in chosen:
        table.add_row(*row.cells())
    return table


@main.command()
@click.option("--records", "folder", type=click.Path(path_type=Path), help=WHERE)
def report(folder: Path | None) -> None:
    """Write an HTML report beside the records; from those of the repository, the tables of its README too."""
    from benchmarks.report import page, readme

    there = _there(folder)
    found = [record for record in records.read(there) if record.size == "full"]
    (there / "report.html").write_text(page.render(found), encoding="utf-8")
    console.print(f"wrote {there / 'report.html'}", soft_wrap=True)
    if there.resolve() == RECORDS.resolve():
        README.write_text(readme.put_into(README.read_text(encoding="utf-8"), readme.table(found)), encoding="utf-8")
        console.print(f"wrote the tables in {README.name}")


def _there(folder: Path | None) -> Path:
    return folder or (LOCAL if any(LOCAL.glob("*.jsonl")) else RECORDS)


def _end(number: int, _frame: object) -> None:
    """End as after Ctrl-C: pods, heads and clients are ended on the way out."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    main()
