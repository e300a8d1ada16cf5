"""Tables of parameter sets as CSV: cells, rows and columns that are odd, too many or too few."""

from __future__ import annotations

import random

CELLS = [
    "", " ", "nan", "inf", "1e999", "-1", "9" * 400, "9" * 29, '"', '"a', '"a""b"', '"a\nb"', "true", "TRUE", "\x00",
    "\r", "\u202e", "x" * 5000, "x" * 200_000, "=1+1", "1_0", "\u0663", "0x10", "1.", ".5", "seed", "replicates",
    "beta", "\x1b[31m", "1;2", "-0", "18446744073709551616", "2147483648", "9223372036854775808", "1.5", "\udcff", "{}",
]  # fmt: skip


def changed(rng: random.Random, content: bytes) -> bytes:
    """Return a table with some changes."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(rows))
        row = rows[at]
        column = rng.randrange(len(row) + 1)
        before, after = row[:column], row[column:]
        rows[at : at + 1] = rng.choice(
            [[[*before, rng.choice(CELLS), *after[1:]]], [[*before, rng.choice(CELLS), *after]],
             [before + after[1:]], [row] * rng.choice([0, 2, 50]), [[]], [row * 2]]
        )  # fmt: skip
        rows = rows or [[""]]
    ending = rng.choice(["\n", "\n", "\r\n", "\r", ";"])
    return ending.join(map(",".join, rows)).encode(errors="surrogateescape")
