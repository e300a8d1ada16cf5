"""How values are written, and in which order engines appear. Owns no figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.compare import Row, number
from benchmarks.engines import ENGINES

OURS, PLAIN, POOL, INCIDENT, TUNED = "modelops-ray", "ray-plain", "pool", "dask-incident", "dask-tuned"
ABORT = "dask-abort"
PROPOSALS = (
    "dask-saturation",
    "dask-batches",
    "dask-semaphore",
    "dask-8gi",
    "dask-2x2",
    ABORT,
    "dask-progressive",
)
ORDER = (OURS, POOL, PLAIN, INCIDENT, *PROPOSALS, TUNED)
WHAT = {name: engine.what for name, engine in ENGINES.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Put engines into the order in which they are shown."""
    return sorted(set(names), key=ORDER.index)


def of(rows: Sequence[Row], scenario: str, engine: str | None = None, point: float | None = None) -> list[Row]:
    """Choose rows."""
    return [
        row
        for row in rows
        if row.scenario == scenario
        and (engine is None or row.engine == engine)
        and (point is None or row.point == point)
    ]


def points(rows: Sequence[Row], scenario: str) -> list[float]:
    """All points of a scenario's axis that were measured."""
    return sorted({row.point for row in rows if row.scenario == scenario and row.point is not None})


def verdict(row: Row) -> str:
    """Say in a few characters what came of it: its share of the pool's rate, or how it failed and how far it got."""
    if row.outcome == "complete":
        return "complete" if row.efficiency is None else f"{row.efficiency.median:.2f}"
    return f"{row.outcome} {row.done}/{row.simulations}"


def rate(row: Row) -> str:
    """Write simulations per second, or how it failed."""
    if row.outcome != "complete" or row.rate is None:
        return verdict(row)
    return number(row.rate.median) + (" (unstable)" if row.rate.is_unstable else "")


def counted(n: int, what: str) -> str:
    """Write how many of something there are."""
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


def size(n_bytes: float) -> str:
    """Write bytes with a unit."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(n_bytes) >= unit:
            return f"{n_bytes / unit:.3g} {name}"
    return f"{n_bytes:.0f} bytes"
