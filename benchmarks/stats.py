"""What is computed from what was measured; pure, so that it is tested without measuring.

Owns rates, medians, spreads and the word "unstable". Reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median, stdev
from typing import NamedTuple, TypeVar

Progress = list[tuple[float, int, int, int]]
"""(seconds, done, committed, lost), in order."""

UNSTABLE_SIGMA = 0.1
UNSTABLE_EXTREME = 0.5
T = TypeVar("T")


class Spread(NamedTuple):
    """Some values of one quantity: the middle, the outermost, and whether they say little about it."""

    median: float
    low: float
    high: float
    is_unstable: bool


def spread(values: Sequence[float]) -> Spread:
    """Summarise repeats: unstable where sigma is a tenth of the mean, or an extreme is half off."""
    middle = median(values)
    low, high = min(values), max(values)
    sigma = stdev(values) if len(values) > 1 else 0.0
    far = max(high - middle, middle - low) > UNSTABLE_EXTREME * middle
    return Spread(middle, low, high, sigma >= UNSTABLE_SIGMA * mean(values) > 0 or far)


def per_second(progress: Progress) -> float | None:
    """Results per second from the first one until the last is kept.

    What comes before the first is start-up, for every engine. What comes after counts, finding out what a simulation
    needs included. Nothing later would do as a beginning: by then, an engine that tells of results by the chunk has
    many that it did not tell yet, and would seem faster than it is. None where no second moment had results.
    """
    with_results = [(seconds, done, committed) for seconds, done, committed, _ in progress if done]
    if not with_results:
        return None
    began_s, already, _ = with_results[0]
    ended_s, _, kept = max(with_results, key=lambda row: (row[2], -row[0]))
    if kept <= already or ended_s <= began_s:
        return None
    return round((kept - already) / (ended_s - began_s), 4)


def per_further(sizes: Sequence[float], quantities: Sequence[float]) -> float:
    """Fit a line and return its slope: what each further one adds."""
    mean_size, mean_quantity = mean(sizes), mean(quantities)
    square = sum((size - mean_size) ** 2 for size in sizes)
    return sum((s - mean_size) * (q - mean_quantity) for s, q in zip(sizes, quantities, strict=True)) / square


def thinned(rows: Sequence[T], most: int) -> list[T]:
    """Keep at most `most` rows, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    step = (len(rows) - 1) / (most - 1)
    return [rows[round(i * step)] for i in range(most)]
