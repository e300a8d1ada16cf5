"""Which child has to end when memory is short, and when a node crawls."""

from __future__ import annotations

from modelops_ray.sandbox.limits import (  # fmt: skip
    Crawl,
    Limit,
    Reading,
    Strain,
    over_hard_limit,
    to_relieve,
)

GIB = 2**30


def reading(pid, used, limit, *, is_hard=False, cap=None):
    """A child that uses so much of so much."""
    return Reading(pid, used, Limit(limit, is_hard, cap))


def test_only_a_hard_limit_is_enforced_while_there_is_memory():
    """A learned request may turn out too small; a given one may not."""
    hard, soft = reading(1, 11, 10, is_hard=True), reading(2, 99, 10)
    assert [hard] == over_hard_limit([hard, soft, reading(3, 9, 10, is_hard=True)])
    assert to_relieve([soft], 80, 100) is None


def test_over_the_cap_nobody_goes_on_whatever_was_learned():
    """Between what was learned and the cap there is nothing to enforce while there is memory."""
    over, within = reading(1, 31, 10, cap=30), reading(2, 30, 10, cap=30)
    assert [over] == over_hard_limit([over, within])
    given = reading(3, 11, 10, is_hard=True, cap=30)
    assert [given] == over_hard_limit([given])


def test_under_pressure_the_furthest_above_its_limit_goes():
    """However much others use within theirs."""
    victim = reading(2, 15, 10)
    assert victim == to_relieve([reading(1, 900, 1000), victim, reading(3, 11, 10)], 89, 100)
    assert to_relieve([reading(1, 900, 1000)], 99, 100) is None


def test_a_node_that_crawls_loses_somebody_even_within_limits():
    """Or nobody on it would get anywhere."""
    assert 2 == to_relieve([reading(1, 1, 10), reading(2, 9, 10)], 50, 100, crawls=True).pid
    assert to_relieve([], 99, 100, crawls=True) is None


def test_waiting_for_pages_for_seconds_is_crawling_and_a_short_stall_is_not():
    """By the kernel's stall counter, or by page faults where it has none; and only near the limit."""
    for strains in (
        [Strain(t, 0.6 * t, 0, 0.9) for t in range(6)],
        [Strain(t, None, 5000 * t, 0.9) for t in range(6)],
    ):
        crawl = Crawl()
        assert [False, False, False, True, True, True] == [crawl.update(strain) for strain in strains]
    for strains in (
        [Strain(t, 0.6 * t, 0, 0.2) for t in range(6)],
        [Strain(t, 0.1 * t, 10 * t, 0.9) for t in range(6)],
        [Strain(t, 0.9 * (t // 2), 0, 0.9) for t in range(6)],
    ):
        crawl = Crawl()
        assert not any(crawl.update(strain) for strain in strains)
