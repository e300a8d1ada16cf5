"""The summary of a session, by its names."""

from modelops_ray.session.summary import Summary

KEYS = [
    "run_dir", "simulations", "completed", "failed", "resumed", "attempts", "oom_retries", "infrastructure_retries",
    "wall_seconds", "simulations_per_second", "seconds_to_first_commit", "peak_bytes_max", "request_bytes_max",
    "spilled_bytes", "driver_peak_rss_bytes",
]  # fmt: skip


def test_a_session_that_had_nothing_to_do_has_every_key_in_order():
    """What it did not do is 0, and there is no time of a first commit."""
    summary = Summary(run_dir="run", simulations=4, completed=3, failed=1, resumed=4, peak_bytes_max=5,
                      request_bytes_max=6, driver_peak_rss_bytes=7)  # fmt: skip

    expected = dict(zip(KEYS, ["run", 4, 3, 1, 4, 0, 0, 0, 0, 0, None, 5, 6, 0, 7], strict=True))
    assert list(expected.items()) == list(summary.values().items())
