"""Gives mutated input to the program: `python -m tests.mutations --seed S --inputs N`.

Ends with the number of inputs and of those that went wrong, and with 1 where there are any. The first of each way to
go wrong is shrunk, and left as a folder with the command line that shows it again. Every input has a seed of its own,
from S on.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.mutations.inputs import Input
from tests.mutations.process import Worker
from tests.mutations.shrinking import shrunk

SHRINKING_S = 30.0
EVERY = 66
"""Of so many inputs one goes through the real command line as well."""

REALLY = " (command line)"


class Tally:
    """What was seen so far; `wrong` are the seeds of what went wrong, with what it was."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._n: defaultdict[str, int] = defaultdict(int)
        self._n_refused: defaultdict[str, int] = defaultdict(int)
        self._most_seconds: defaultdict[str, float] = defaultdict(float)
        self._peak_bytes: defaultdict[str, int] = defaultdict(int)
        self.wrong: list[str] = []

    def add(self, answer: dict[str, Any]) -> None:
        """Count an answer."""
        kind = answer["kind"]
        self._n[kind] += 1
        self._n_refused[kind] += answer["exit_code"] in {1, 2}
        self._most_seconds[kind] = max(self._most_seconds[kind], answer["seconds"])
        self._peak_bytes[kind] = max(self._peak_bytes[kind], answer["peak_bytes"])
        if answer["wrong"]:
            self.wrong.append(f"seed {answer['input']['seed']}: {kind}: {answer['wrong'][0]}")

    @property
    def n(self) -> int:
        """How many inputs were judged, the same by the real command line aside."""
        return sum(n for kind, n in self._n.items() if not kind.endswith(REALLY))

    def table(self) -> str:
        """The counts of each kind."""
        rows = [f"{'kind':26}{'inputs':>8}{'refused':>9}{'most CPU s':>12}{'peak MB':>9}"]
        rows += [
            f"{kind:26}{n:>8,}{self._n_refused[kind]:>9,}{self._most_seconds[kind]:>12.2f}"
            f"{self._peak_bytes[kind] / 1e6:>9.0f}"
            for kind, n in sorted(self._n.items())
        ]
        return "\n".join(rows)


def judged(
    worker: Worker, seeds: range, every: int = EVERY, keep_in: Path | None = None, only: str | None = None
) -> Tally:
    """Give the program the inputs of these seeds, one of `every` also by the real command line.

    With `keep_in`, what goes wrong for the first time in its way is shrunk and kept there, and told. With `only`, those
    that run no simulations ("quick"), or the others ("slow").
    """
    tally = Tally()
    ways: set[str] = set()
    for seed in seeds:
        if only is not None and only != _pace(worker.ask(seed=seed, only_draw=True)["input"]):
            continue
        for really in [False, True] if seed % every == 0 else [False]:
            answer = worker.ask(seed=seed, really=really)
            answer["kind"] += REALLY * really
            tally.add(answer)
            if not answer["wrong"] or keep_in is None:
                continue
            print(tally.wrong[-1], flush=True)
            way = _way(answer["wrong"][0])
            if way not in ways:
                ways.add(way)
                print(_shortest(worker, Input.from_json(answer["input"]), way, keep_in, really=really), flush=True)
    return tally


def _pace(asked: dict[str, Any]) -> str:
    return "slow" if asked["arguments"][:1] in (["run"], ["profile"]) else "quick"


def _way(wrong: str) -> str:
    """What went wrong, without the numbers that it goes with."""
    return re.sub(r"[0-9.]+", "N", wrong)[:60]


def _shortest(worker: Worker, asked: Input, way: str, keep_in: Path, *, really: bool) -> str:
    """Shrink an input, leave it in a folder, and return the script that shows it again."""

    def fails(smaller: Input) -> bool:
        return way in map(_way, worker.ask(input=smaller.to_json(), really=really)["wrong"])

    small = shrunk(asked, fails, most_s=SHRINKING_S)
    return str(worker.ask(input=small.to_json(), keep=str(keep_in / f"seed-{asked.seed}"))["script"])


def main() -> int:
    """Judge what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first seed (0)")
    parser.add_argument("--inputs", type=int, default=1000, metavar="N", help="how many, a seed each (1000)")
    parser.add_argument("--keep", type=Path, default=Path("mutations-failed"), metavar="DIR", help="for failures")
    parser.add_argument("--only", choices=["quick", "slow"], help="what runs no simulations, or the others")
    asked = parser.parse_args()
    start_s = time.monotonic()
    with Worker() as worker:
        tally = judged(
            worker, range(asked.seed, asked.seed + asked.inputs), keep_in=asked.keep.absolute(), only=asked.only
        )
    print(tally.table())
    print(f"{time.monotonic() - start_s:.0f} s")
    print(f"{tally.n} inputs, {len(tally.wrong)} wrong")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
