"""The tables for the README, as Markdown. Owns which scenarios and engines they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.compare import Row, rows
from benchmarks.records import Record
from benchmarks.report.text import INCIDENT, OURS, PLAIN, POOL, TUNED, in_order, of, points, rate, verdict

RATES = ("noop", "many_tiny", "ten_ms", "hundred_ms", "long_tail", "memory_tail", "incident-small", "large_outputs")
RATES_TOO = ("worker_loss", "incident")
BEGIN = "<!-- Written by `python -m benchmarks report` from the records. -->"
END = "<!-- End of what is written from the records. -->"
OTHERS = (
    "The other scenarios, in simulations per second; down to `long_tail` two processes without pods.",
    "`incident` is 12,000 simulations of a Starsim model of 1,000 agents.",
)
COLUMNS = (OURS, POOL, PLAIN, INCIDENT, TUNED)


def table(records: Iterable[Record]) -> str:
    """Write both tables."""
    found = rows(records)
    return "\n".join([*sweep(found), "", *OTHERS, "", *rates(found)])


def put_into(text: str, written: str) -> str:
    """Replace what stands between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"README has no {BEGIN} ... {END}"
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def sweep(found: Sequence[Row]) -> list[str]:
    """Engines by need."""
    axis = points(found, "need_sweep")
    engines = in_order(row.engine for row in of(found, "need_sweep"))
    lines = ["| need of a simulation, in shares | " + " | ".join(f"{point:g}" for point in axis) + " |"]
    lines.append("|---" * (len(axis) + 1) + "|")
    for engine in engines:
        cells = [_first(of(found, "need_sweep", engine, point)) for point in axis]
        lines.append(f"| {engine} | " + " | ".join(cells) + " |")
    return lines


def _first(found: Sequence[Row]) -> str:
    return verdict(found[0]) if found else ""


def rates(found: Sequence[Row]) -> list[str]:
    """Simulations per second by scenario."""
    lines = ["| simulations per second | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for scenario in (*RATES, *RATES_TOO):
        cells = [rate(one[0]) if (one := of(found, scenario, engine)) else "" for engine in COLUMNS]
        if any(cells):
            lines.append(f"| {scenario} | " + " | ".join(cells) + " |")
    return lines
