"""Does harm to real runs on a real Ray: `python -m tests.chaos --seed S --faults N`.

Plays one study after another, of the seeds S, S + 1, ..., until N faults are done. Ends with a table, the number of
faults and what was lost; with 1 where anything was wrong. A study that went wrong is played again by its own seed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> int:
    """Play what was asked for."""
    from tests.chaos import disks
    from tests.chaos.play import play
    from tests.chaos.schedule import Kind, draw
    from tests.chaos.table import table

    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the seed of the first study (0)")
    parser.add_argument("--faults", type=int, default=20, metavar="N", help="how many faults (20)")
    parser.add_argument("--only", metavar="KIND", action="append", choices=[*map(str, Kind)], help="only this kind")
    parser.add_argument("--cluster", action="store_true", help="on a cluster of two nodes, not on a Ray of its own")
    parser.add_argument("--tell", action="store_true", help="tell what happens in every study")
    asked = parser.parse_args()
    disks.apart(os.environ, [sys.executable, "-m", "tests.chaos", *sys.argv[1:]])
    stories, n_left = [], asked.faults
    for seed in itertools.count(asked.seed):
        if n_left <= 0:
            break
        story = play(draw(seed, [Kind(name) for name in asked.only or Kind], on_cluster=asked.cluster), n_left)
        stories.append(story)
        n_left -= len(story.wounds)
        if story.violations or asked.tell:
            print(story.schedule, *story.told, sep="\n")
        for what in story.violations:
            print(f"seed {seed}: {what}")
        print(f"seed {seed}: {', '.join(map(str, story.wounds))}; {asked.faults - n_left} in all", flush=True)
    n_wrong = sum(len(story.violations) for story in stories)
    print(table(stories))
    print(f"everything was gone within {max(story.gone_in_s for story in stories):.1f} s of the end of each study")
    print(f"{asked.faults - n_left} faults, {n_wrong} lost")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
