"""The whole program in its simulated world: seeds, each of which breaks no promise.

More of them: `uv run python -m tests.world --seeds 10000`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from support.world.promises import Promises
from support.world.world import KINDS, Plan

import modelops_ray
from tests.world import bugs
from tests.world.whole import play, shrunk, tell

SEEDS = 200


@cache
def played(seed):
    """What came of a seed, which is played once for all tests."""
    return play(Plan.draw(seed))


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_no_seed_breaks_a_promise(first):
    """Nothing committed is lost, nothing is counted twice, every session ends, and what is left can be read."""
    outcomes = [played(seed) for seed in range(first, first + 50)]
    broken = [tell(shrunk(outcome)) for outcome in outcomes if outcome.broken]
    assert [] == broken


def test_a_seed_is_one_story():
    """A seed that broke a promise breaks it again."""
    assert [played(seed).story for seed in range(20)] == [play(Plan.draw(seed)).story for seed in range(20)]


def test_every_kind_of_fault_is_met_by_one_seed_in_twenty():
    """Or the seeds would show little."""
    met = sum((played(seed).met for seed in range(SEEDS)), Counter())
    assert {} == {kind: met[kind] for kind in KINDS if met[kind] < SEEDS / 20}


def test_a_seed_that_breaks_a_promise_is_made_small_and_told(monkeypatch):
    """A person reads what is left of it: here a world whose reader finds nothing right."""

    def refuse(self, *_, **__):
        if self._world.plan.n_sets > 1:
            raise AssertionError("there are two sets")

    monkeypatch.setattr(Promises, "check_the_end", refuse)
    plan = replace(Plan.draw(3), n_sets=4)

    small = shrunk(play(plan))

    assert (2, 1, 1, frozenset()) == (
        small.plan.n_sets, small.plan.n_replicates, small.plan.n_nodes, small.plan.kinds,
    )  # fmt: skip
    assert "seed 3: AssertionError: there are two sets" == tell(small).splitlines()[0]
    assert "  2 sets of 1, 1 nodes, on a bucket; faults: none" == tell(small).splitlines()[1]


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_every_deliberate_bug_has_its_place(bug):
    """The program changes, and a bug that cannot be put in is looked for in vain."""
    path = Path(modelops_ray.__file__).parent / f"{bug.module.replace('.', '/')}.py"
    assert 1 == path.read_text().count(bug.before)
    compile(path.read_text().replace(bug.before, bug.after), path, "exec")
