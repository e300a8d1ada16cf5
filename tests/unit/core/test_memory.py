"""How much memory is given: bins of peaks, limits, raises, sizes of requests and margins."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.memory import (
    MemoryModel,
    RequestSizes,
    bin_of,
    edge_of,
    first_allocation,
    partition,
    raised,
    with_margin,
)
from modelops_ray.core.overhead import Overhead

MIB = 2**20
GIB = 2**30


@given(st.dictionaries(st.integers(0, 150), st.integers(1, 50), min_size=1, max_size=12))
def test_the_first_allocation_is_the_cheapest_there_is(counts):
    """Compared with every other limit that a peak suggests."""
    peaks = sorted((edge_of(index), count) for index, count in counts.items())
    last = with_margin(peaks[-1][0])

    def cost(limit):
        return sum(n * (limit if with_margin(p) <= limit else limit + max(last, limit * 3 // 2)) for p, n in peaks)

    best = first_allocation(counts)
    assert all(cost(best) <= cost(with_margin(peak)) for peak, _ in peaks)


@given(st.integers(1, 40 * GIB), st.integers(0, 40 * GIB), st.integers(1, 6), st.integers(1, 64 * GIB))
def test_a_raise_grows_and_the_last_try_is_the_largest(limit, used, tries, top):
    """Never above the largest, never less than half as much again unless that is the largest."""
    wanted = raised(limit, used, tries, top)
    assert wanted <= top
    assert wanted >= min(top, limit * 3 // 2)
    assert tries > 1 or wanted == top


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 9)), min_size=1, max_size=8), st.integers(1, 4))
def test_request_sizes_waste_least(weights, n_sizes):
    """Against every choice of that many sizes."""
    wishes = {wish for wish, _ in weights}

    def waste(sizes):
        return sum(n * (min(s for s in sizes if s >= wish) - wish) for wish, n in weights)

    top = max(wishes)
    choices = [(*rest, top) for k in range(n_sizes) for rest in combinations(sorted(wishes - {top}), k)]
    merged = {wish: sum(n for other, n in weights if other == wish) for wish in wishes}
    chosen = partition(list(merged.items()), n_sizes)
    assert len(chosen) <= n_sizes
    assert min(waste(choice) for choice in choices) == waste(chosen)


@given(st.lists(st.tuples(st.integers(1, 64 * GIB), st.booleans()), max_size=80))
def test_at_most_twelve_request_sizes_are_in_use(wishes):
    """For any wishes, with any of them given back."""
    sizes, held = RequestSizes(12), []
    for wanted, give_back in wishes:
        size = sizes.size_for(wanted, 32 * GIB)
        assert min(wanted, 32 * GIB) <= size <= 32 * GIB
        sizes.acquire(size)
        held.append(size)
        assert len(sizes.in_use) <= 12
        if give_back:
            sizes.release(held.pop(0))


@given(st.integers(0, 400))
def test_a_bin_and_its_edge_agree(index):
    """So that a profile comes back as it was kept."""
    assert index == bin_of(edge_of(index))


def memory_model(peak_bytes, node_bytes=4 * GIB, cpus=4, given_bytes=None):
    """A model that has seen simulations of one size, on nodes of one size."""
    overhead = Overhead(100 * MIB, 10 * MIB, 200 * MIB, (node_bytes,), is_guess=False)
    model = MemoryModel(given_bytes, RequestSizes(12), overhead, slots_per_node=cpus)
    for _ in range(8):
        model.observe(peak_bytes, node_bytes)
    return model


def test_a_margin_yields_where_without_it_one_more_fits_on_a_node():
    """Two of 1.6 GiB on 4 GiB, although with a margin each would ask for more than half."""
    model = memory_model(int(1.6 * GIB))
    limit = model.limit_for(0, GIB)
    assert model.overhead.task_bytes(limit) > 2 * GIB
    assert 2 * GIB == model.request_for(limit, 4 * GIB, least_limit_bytes=model.least_for(0, limit))
    assert int(1.6 * GIB) < model.overhead.limit_bytes(2 * GIB)


def test_a_margin_stays_where_nothing_is_won_by_giving_it_up():
    """Where CPUs are what is short, where not even the bare need fits, and where the user said how much."""
    for model in (
        memory_model(int(1.6 * GIB), cpus=1),
        memory_model(int(1.9 * GIB)),
        memory_model(int(1.6 * GIB), given_bytes=int(1.8 * GIB)),
    ):
        limit = model.limit_for(0, GIB)
        request = model.request_for(limit, 4 * GIB, least_limit_bytes=model.least_for(0, limit))
        assert request >= model.overhead.task_bytes(limit)


def test_first_simulations_begin_above_what_others_overran_until_one_completes():
    """A limit that was not enough for one is not enough for its like; a measured peak says more."""
    model = MemoryModel(None, RequestSizes(12), Overhead(100 * MIB, 10 * MIB, 0))
    assert GIB == model.limit_for(0, GIB)
    model.observe_overrun(2 * GIB)
    model.observe_overrun(GIB // 2)
    assert 2.5 * GIB <= model.limit_for(0, GIB) <= 2.6 * GIB
    model.observe(100 * MIB, 8 * GIB)
    assert model.limit_for(0, GIB) < 200 * MIB
    given = MemoryModel(300 * MIB, RequestSizes(12), Overhead(100 * MIB, 10 * MIB, 0))
    given.observe_overrun(2 * GIB)
    assert 300 * MIB == given.limit_for(0, GIB)
