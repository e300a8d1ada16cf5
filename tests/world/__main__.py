"""Plays the program in simulated worlds, from seeds: `python -m tests.world --seeds N`.

By default the whole program, from the driver to the disk; with `--core` its decisions alone, on larger and stranger
clusters. Ends with the number of seeds and broken promises, and with 1 where there are any; `--seed S` tells the story
of one, and `--bugs` how many seeds find each deliberate bug.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter

from tests.world import bugs

FOUND_WITHIN = 2000
LEAST_SHARE, ENOUGH_SEEDS = 0.05, 1000


def play_whole(first: int, n: int) -> int:
    """Play seeds of the whole program; tell which faults they met, and each broken promise by a seed made small.

    Return how many promises were broken, or kinds of faults met by too few of many seeds.
    """
    from tests.world.whole import KINDS, play_all, shrunk, tell

    met: Counter[str] = Counter()
    n_played, n_broken, began_s = 0, 0, time.monotonic()
    for n_of_batch, broken, met_there in play_all(first, n):
        n_played += n_of_batch
        met += met_there
        n_broken += len(broken)
        for outcome in broken:
            print(tell(shrunk(outcome)), flush=True)
        if n_played % 1000 == 0:
            print(f"{n_played:,} of {n:,} seeds, {n_broken} broken promises", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began_s
    print("faults met:", ", ".join(f"{kind} {n_met / n:.1%}" for kind, n_met in met.most_common()))
    print(f"{n:,} seeds, {n_broken} broken promises, {n / seconds:.0f} seeds/s")
    rare = [kind for kind in KINDS if met[kind] < n * LEAST_SHARE]
    if n >= ENOUGH_SEEDS and rare:
        print(f"met by less than {LEAST_SHARE:.0%} of the seeds: {', '.join(rare)}")
        return n_broken + len(rare)
    return n_broken


def tell_whole(seed: int) -> int:
    """Tell the story of a seed of the whole program."""
    from tests.world.whole import Plan, play, tell

    outcome = play(Plan.draw(seed))
    print(tell(outcome))
    return bool(outcome.broken)


def play_core(first: int, n: int) -> int:
    """Play seeds of the decisions alone, and tell what is wrong with each."""
    from tests.world.verdict import check

    n_found = 0
    for seed in range(first, first + n):
        found = check(seed)
        n_found += len(found)
        for what in found:
            print(f"seed {seed}: {what}", flush=True)
    print(f"{n:,} seeds, {n_found} violations")
    return n_found


def tell_core(seed: int) -> int:
    """Tell the story of a seed of the decisions alone."""
    from tests.world.cluster import play
    from tests.world.schedule import draw
    from tests.world.verdict import check

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
    return len(found)


def find_bugs() -> int:
    """Look for each deliberate bug, in a process of its own; return how many no seed finds."""
    n_missed = 0
    for bug in bugs.BUGS:
        command = [sys.executable, "-m", "tests.world", "--bug", bug.name]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        n_missed += found.returncode != 0
        print(f"{bug.name}: {(found.stdout or found.stderr[-500:]).strip()}", flush=True)
    print(f"{len(bugs.BUGS)} bugs, {n_missed} not found within {FOUND_WITHIN:,} seeds")
    return n_missed


def find_bug(name: str) -> int:
    """Put one bug in, and play seeds until one breaks a promise."""
    bugs.put_in(next(bug for bug in bugs.BUGS if bug.name == name))
    from tests.world.whole import Plan, play

    for seed in range(FOUND_WITHIN):
        outcome = play(Plan.draw(seed))
        if outcome.broken:
            print(f"{seed + 1} seeds: {outcome.broken[:160]}")
            return 0
    print(f"not found within {FOUND_WITHIN:,} seeds")
    return 1


def main() -> int:
    """Play what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, metavar="N", help="how many to play (2000)")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first of them (0)")
    parser.add_argument("--seed", type=int, metavar="S", help="play this one and tell its story")
    parser.add_argument("--core", action="store_true", help="the decisions alone")
    parser.add_argument("--bugs", action="store_true", help="look for each deliberate bug")
    parser.add_argument("--bug", choices=[bug.name for bug in bugs.BUGS], metavar="NAME", help="look for this one")
    asked = parser.parse_args()
    if asked.bugs or asked.bug is not None:
        n_bad = find_bugs() if asked.bug is None else find_bug(asked.bug)
    elif asked.seed is not None:
        n_bad = (tell_core if asked.core else tell_whole)(asked.seed)
    else:
        n_bad = (play_core if asked.core else play_whole)(asked.first, asked.seeds)
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
