"""What a session said of itself is read with care, and named with the option that moves it."""

import pytest

from modelops_ray.core.bounds import Bound
from modelops_ray.diagnosis.pace import pace_of
from modelops_ray.report.why import pace, remedy

MIB = 2**20


def counters(seconds, **changes):
    """What `progress.json` holds of a session that ended."""
    told = {"seconds": seconds, "running_max": 4, "nodes": 1, "cpus": 16, "memory_bytes": 2**34} | changes
    return {"bounds": told, "request_bytes_max": 300 * MIB, "peak_bytes_max": 200 * MIB}


def test_the_longest_is_named_first_with_its_share():
    """And the figures: how many ran at a time, on what, and what they asked for."""
    told = pace_of(counters({"memory": 60.0, "start-up": 30.0, "cpus": 0.0, "end": 1.0}), {"cpus": 1.0})

    assert (Bound.MEMORY, 60 / 91) == (told.main, told.share)
    assert (
        "bound by memory for 66% of 1 min 31 s (also start-up and the first simulations 30 s); up to 4 at a time on "
        "1 node with 16 CPUs and 16.0 GiB; requests up to 300.0 MiB, used up to 200.0 MiB"
    ) == pace(told)
    assert remedy(told).startswith("--limit-memory SIZE")


def test_requests_far_above_what_was_used_are_to_be_lowered():
    """By the option for it, with a size."""
    told = pace_of(counters({"memory": 1.0}) | {"request_bytes_max": 2000 * MIB}, {})
    assert remedy(told).startswith("--memory 250Mi, ")


@pytest.mark.parametrize("bound", Bound)
def test_each_bound_has_words_and_a_remedy(bound):
    """None is left out."""
    told = pace_of(counters({str(bound): 1.0}), {})
    assert pace(told).startswith("bound by ")
    assert remedy(told)


@pytest.mark.parametrize(
    "told",
    [None, 1, [], {}, {"seconds": 5}, {"seconds": {}}, {"seconds": {"memory": "long", "cpus": -1, "end": 1e300}}],
)
def test_what_is_no_such_thing_says_nothing(told):
    """The file is another's to write."""
    assert pace_of({"bounds": told}, {}) is None
    assert pace_of({}, {}) is None
