"""Plays random schedules of the decision core on a simulated cluster: `python -m tests.world --seeds N`.

Ends with the number of seeds and violations, and with 1 where there are any; `--seed S` tells the story of one.
"""

from __future__ import annotations

import argparse
import sys

from tests.world.cluster import play
from tests.world.schedule import draw
from tests.world.verdict import check


def tell(seed: int) -> int:
    """Print the story of one seed, and what is wrong with it."""
    schedule = draw(seed)
    print(f"{schedule.policy}\n{schedule.machines=} {schedule.n_staying=} {schedule.kinds=}")
    for position, one in enumerate(schedule.simulations):
        print(f"  simulation {position}: {one.need_bytes / 2**20:,.1f} MiB, {one.seconds:.2f} s, {one.fate}")
    try:
        story = play(schedule, tell=True).story
    except AssertionError as error:
        story = error.story  # type: ignore[attr-defined]
    print(*story, sep="\n")
    found = check(seed)
    print(*(f"seed {seed}: {what}" for what in found), sep="\n")
    print(f"1 seeds, {len(found)} violations")
    return 1 if found else 0


def main() -> int:
    """Play what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, metavar="N", help="how many to play (2000)")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first of them (0)")
    parser.add_argument("--seed", type=int, metavar="S", help="play this one and tell its story")
    asked = parser.parse_args()
    if asked.seed is not None:
        return tell(asked.seed)
    n_found = 0
    for seed in range(asked.first, asked.first + asked.seeds):
        found = check(seed)
        n_found += len(found)
        for what in found:
            print(f"seed {seed}: {what}", flush=True)
    print(f"{asked.seeds} seeds, {n_found} violations")
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main())
