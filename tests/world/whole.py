"""Plays seeds of the whole program in its simulated world, and makes a seed that breaks a promise small.

Owns which seeds are played, by how many processes, and how a failing one is told. The world is `support.world`'s.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.world.world import KINDS, Plan, World

__all__ = ["KINDS", "Outcome", "Plan", "play", "play_all", "shrunk", "tell"]
MEMORY = Path("/dev/shm")
_BATCH = 50
_TOLD = 60


@dataclass(frozen=True)
class Outcome:
    """What came of a seed: the broken promise, empty where all held, its story, and which faults it met with."""

    plan: Plan
    broken: str = ""
    story: tuple[str, ...] = ()
    met: Counter[str] = field(default_factory=Counter)


def play(plan: Plan) -> Outcome:
    """Play one plan to its end."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        world = World(plan, Path(folder))
        broken = ""
        try:
            world.play()
        except Exception as error:  # noqa: BLE001 (any error is a promise broken)
            broken = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".replace(folder, "")
        met = Counter({kind: 1 for kind, n in (world.met + world.disk.met + world.bucket.met).items() if n})
        return Outcome(plan, broken, tuple(line.replace(folder, "") for line in world.story), met)


def play_all(first: int, n: int, processes: int = 2) -> Iterator[tuple[int, list[Outcome], Counter[str]]]:
    """Play seeds, several at a time; yield for each batch how many, those that broke a promise, and what was met."""
    batches = [(at, min(_BATCH, first + n - at)) for at in range(first, first + n, _BATCH)]
    if processes == 1:
        yield from map(_play_batch, batches)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(_play_batch, batches)


def _play_batch(batch: tuple[int, int]) -> tuple[int, list[Outcome], Counter[str]]:
    first, n = batch
    outcomes = [play(Plan.draw(seed)) for seed in range(first, first + n)]
    met = sum((outcome.met for outcome in outcomes), Counter())
    return n, [outcome for outcome in outcomes if outcome.broken], met


def shrunk(outcome: Outcome) -> Outcome:
    """Leave out faults, sets, replicates and nodes one after the other, as long as a promise is broken."""
    smallest, tried = outcome, True
    while tried:
        tried = False
        for plan in _smaller(smallest.plan):
            found = play(plan)
            if found.broken:
                smallest, tried = found, True
                break
    return smallest


def _smaller(plan: Plan) -> Iterator[Plan]:
    for kind in sorted(plan.kinds):
        yield replace(plan, kinds=plan.kinds - {kind})
    for name in ("n_sets", "n_replicates", "n_nodes"):
        if getattr(plan, name) > 1:
            yield replace(plan, **{name: getattr(plan, name) - 1})


def tell(outcome: Outcome) -> str:
    """Describe a seed that broke a promise: what it was of, its last steps, and how to play it again."""
    plan = outcome.plan
    kinds = ", ".join(sorted(plan.kinds)) or "none"
    size = f"{plan.n_sets} sets of {plan.n_replicates}, {plan.n_nodes} nodes"
    lines = [
        f"seed {plan.seed}: {outcome.broken}",
        f"  {size}, on a {plan.place}; faults: {kinds}",
        *(f"  {line}" for line in outcome.story[-_TOLD:]),
    ]
    return "\n".join(lines)
