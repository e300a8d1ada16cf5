"""How many simulations a child runs: one, unless they are short, and of few parameter sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.runner.sharing import LIFE_FORKS, MAX_SETS, Served, Sharing


def test_a_simulation_longer_than_twenty_forks_has_a_child_of_its_own():
    """Whatever the parameter sets."""
    sharing = Sharing(fork_s=0.01)
    assert 1 == sharing.batch(Served(), [0] * 50, 1)
    sharing.simulated(0.3, is_first=True)
    assert 0 == sharing.batch(Served(1, 0.3, frozenset({0})), [0] * 49, 1)
    assert 1 == sharing.batch(Served(), [0] * 49, 1)


def test_short_ones_share_a_child_until_it_has_run_for_fifty_forks():
    """What forks cost is then a fiftieth of the time."""
    sharing = Sharing(fork_s=0.01)
    sharing.simulated(0.001, is_first=False)
    assert 100 == sharing.batch(Served(), [0] * 500, 1)
    assert 1 <= sharing.batch(Served(499, 0.499, frozenset({0})), [0] * 500, 1) <= 2
    assert 0 == sharing.batch(Served(500, LIFE_FORKS * 0.01, frozenset({0})), [0] * 500, 1)


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
def test_a_new_child_always_gets_something_and_nobody_more_than_there_is(simulation_s, fork_s, n, waiting, slots):
    """And never a fourth parameter set."""
    sharing = Sharing(fork_s=fork_s, simulation_s=simulation_s)
    assert 1 <= sharing.batch(Served(), waiting, slots) <= len(waiting)
    before = frozenset(range(min(n, MAX_SETS)))
    given_n = sharing.batch(Served(n, n * simulation_s, before), waiting, slots)
    assert 0 <= given_n <= len(waiting)
    assert n == 0 or len(before | set(waiting[:given_n])) <= MAX_SETS


def test_the_first_simulation_of_a_child_may_compile_and_does_not_count_for_the_others():
    """Else nothing short would ever share a child."""
    sharing = Sharing()
    sharing.simulated(2.0, is_first=True)
    sharing.simulated(0.001, is_first=True)
    sharing.simulated(2.0, is_first=True)
    assert sharing.simulation_s < 2.0
