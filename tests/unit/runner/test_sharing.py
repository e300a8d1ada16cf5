"""How many simulations a child runs: one, unless they are short against what a child costs, and of few sets."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.runner.sharing import LIFE_COSTS, MAX_SETS, N_TRIED, Served, Sharing

ONE = Served(1, 0.3, frozenset({0}), 0.3)


def learned(sharing: Sharing, first_s: float, later_s: float, n: int = N_TRIED) -> Sharing:
    """Have seen `n` children run two simulations each."""
    for _ in range(n):
        sharing.simulated(Served(), [first_s])
        sharing.simulated(Served(1, first_s, frozenset({0}), first_s), [later_s])
    return sharing


def test_a_simulation_longer_than_twenty_children_cost_has_one_of_its_own():
    """For any parameter sets."""
    sharing = learned(Sharing(fork_s=0.01), 0.3, 0.3)
    assert 0 == sharing.batch(ONE, [0] * 49, 1)
    assert 1 == sharing.batch(Served(), [0] * 49, 1)
    assert 0.0 == sharing.life_s


def test_short_ones_share_a_child_until_it_has_run_for_a_hundred_times_its_cost():
    """What children cost is then a hundredth of the time."""
    sharing = learned(Sharing(fork_s=0.01), 0.001, 0.001)
    assert 100 == sharing.batch(Served(), [0] * 500, 1)
    assert 1 <= sharing.batch(Served(999, 0.999, frozenset({0})), [0] * 500, 1) <= 2
    assert 0 == sharing.batch(Served(1000, LIFE_COSTS * 0.01, frozenset({0})), [0] * 500, 1)
    assert LIFE_COSTS * 0.01 == sharing.life_s


def test_a_few_children_get_a_second_simulation_to_see_what_the_first_took_longer():
    """Until that is known, no chunk should hold a single simulation."""
    sharing = Sharing(fork_s=0.01)
    assert 1 == sharing.batch(Served(), [0] * 50, 1)
    sharing.simulated(Served(), [0.3])
    assert (1, None) == (sharing.batch(ONE, [0] * 49, 1), sharing.life_s)
    assert 0 == sharing.batch(Served(2, 0.6, frozenset({0}), 0.3), [0] * 48, 1)


def test_long_simulations_are_not_tried():
    """They have a child of their own from the beginning."""
    sharing = Sharing(fork_s=0.01)
    sharing.simulated(Served(), [60.0])
    assert (0, 0.0) == (sharing.batch(ONE, [0] * 49, 1), sharing.life_s)


def test_what_the_first_simulation_takes_longer_is_part_of_what_a_child_costs():
    """A model that compiles on its first run is not to compile for every simulation."""
    sharing = learned(Sharing(fork_s=0.01), 0.34, 0.3)
    assert 0 < sharing.batch(ONE, [0] * 49, 1)
    assert abs(sharing.warming_s - 0.04) < 1e-9
    assert abs(sharing.life_s - LIFE_COSTS * 0.05) < 1e-9


def test_simulations_that_differ_are_not_taken_for_children_that_cost_much():
    """The first of two is the longer one as often as not."""
    chance, kept_apart = random.Random(1), 0
    for _ in range(200):
        sharing = Sharing(fork_s=0.001)
        for _ in range(50):
            learned(sharing, chance.uniform(0.1, 0.9), chance.uniform(0.1, 0.9), n=1)
        kept_apart += sharing.life_s == 0.0
    assert kept_apart > 180


def test_no_child_sees_more_than_three_parameter_sets():
    """Unless the user says how many share one."""
    waiting = [0, 0, 1, 1, 2, 3, 3]
    sharing = Sharing(fork_s=1.0, simulation_s=0.0001)
    assert 5 == sharing.batch(Served(), waiting, 1)
    assert 0 == sharing.batch(Served(5, 0.0005, frozenset({0, 1, 2})), [3, 3], 1)
    assert 7 == Sharing(per_child=100, simulation_s=0.0001).batch(Served(), waiting, 1)


def test_slots_share_what_waits():
    """The last simulations of a chunk are spread over its children."""
    sharing = Sharing(fork_s=1.0, simulation_s=0.0001)
    assert 3 == sharing.batch(Served(), [0] * 10, 4)


@given(
    st.floats(1e-6, 10), st.floats(1e-4, 1), st.integers(0, 1000), st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.integers(1, 16),
)  # fmt: skip
def test_a_new_child_always_gets_something_and_none_more_than_there_is(simulation_s, fork_s, n, waiting, slots):
    """And never a fourth parameter set."""
    sharing = Sharing(fork_s=fork_s, simulation_s=simulation_s)
    assert 1 <= sharing.batch(Served(), waiting, slots) <= len(waiting)
    before = frozenset(range(min(n, MAX_SETS)))
    given_n = sharing.batch(Served(n, n * simulation_s, before), waiting, slots)
    assert 0 <= given_n <= len(waiting)
    assert n == 0 or len(before | set(waiting[:given_n])) <= MAX_SETS


def test_the_first_simulation_of_a_child_does_not_count_for_the_others():
    """Else nothing short would ever share a child of a model that compiles."""
    sharing = Sharing()
    sharing.simulated(Served(), [2.0])
    sharing.simulated(Served(1, 2.0, frozenset({0}), 2.0), [0.001])
    assert 0.001 == sharing.simulation_s
    sharing.simulated(Served(), [2.0, 0.001, 0.001])
    assert abs(sharing.simulation_s - 0.001) < 1e-9


def test_a_child_remembers_what_its_first_simulation_took():
    """However many came with it."""
    served = Served().and_then([0.5, 0.1], {3}).and_then([0.2], {4})
    assert Served(3, 0.8, frozenset({3, 4}), 0.5) == served
