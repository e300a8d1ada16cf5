"""How long what a chunk has finished waits for its end."""

import random

import pytest

from modelops_ray.runner.holding import Holding


def chunk(seconds, most_s=5.0):
    """Simulations that take so long, one after the other, until it is enough; return how many ran and the wait."""
    holding, now_s, first_s = Holding(most_s), 0.0, None
    n = 0
    for one_s in seconds:
        n += 1
        now_s += one_s
        first_s = now_s if first_s is None else first_s
        holding.ended(now_s, one_s)
        if holding.is_enough(now_s):
            break
    assert holding.held_s(now_s) == now_s - first_s
    return n, now_s - first_s


@pytest.mark.parametrize(
    ("seconds", "n"),
    [([1.3] + [1.0] * 20, 5), ([3.0] * 20, 2), ([0.01] * 900, 500), ([12.0] + [0.1] * 900, 50), ([6.0] * 9, 2)],
    ids=["a warm-up", "two fit", "short ones", "a compilation", "longer than may be held"],
)
def test_a_chunk_ends_before_its_first_result_has_waited_too_long(seconds, n):
    """What it took before the first result is no part of that."""
    assert n == pytest.approx(chunk(seconds)[0], abs=1)


@pytest.mark.parametrize("seed", range(50))
def test_no_result_waits_longer_than_allowed_but_for_what_the_last_simulation_took_more_than_expected(seed):
    """In every mix."""
    rng = random.Random(seed)
    seconds = [rng.lognormvariate(-1.0, 1.0) for _ in range(200)]
    n, waited_s = chunk(seconds)
    ran = seconds[1:n]
    assert waited_s <= 5.0 + max(ran[-1] - min(ran[:-1] or ran), 0.0)
