"""The states of shards add up to the state of a run, and are shown as one."""

import io
from datetime import UTC, datetime

from modelops_ray.report.screen import Screen
from modelops_ray.report.summary import print_status, status_values
from modelops_ray.store.status import Status, together

NOW = datetime(2025, 3, 1, tzinfo=UTC)


def state(total, completed, failed=0, **changes):
    """A shard that ended properly, but for the changes."""
    given = {
        "causes": {"timeout": failed} if failed else {},
        "running": False,
        "heartbeat_age_s": 100.0,
        "heartbeat": NOW,
        "host": "h1",
        "pid": 1,
        "ending": "complete",
        "counters": {},
    }
    return Status(total=total, completed=completed, failed=failed, **given | changes)


RUNNING = {"running": True, "ending": None, "heartbeat_age_s": 2.0, "host": "h2", "pid": 7}


def shown(status):
    """What is printed in a pipe."""
    text = io.StringIO()
    print_status(Screen(file=text, width=80), status)
    return text.getvalue().splitlines()


def test_numbers_add_up_and_extremes_stay_extremes():
    """Every number that a session says of itself; words are left out."""
    first = state(
        9, 6, 2, counters={"attempts": 10, "wall_seconds": 5.0, "run_dir": "a", "seconds_to_first_commit": 3.0}
    )
    second = state(8, 8, counters={"attempts": 1, "wall_seconds": 9.0, "seconds_to_first_commit": None})
    whole = together({"1/3": first, "3/3": second}, ["2/3"], 25)

    assert (25, 14, 2, {"timeout": 2}) == (whole.total, whole.completed, whole.failed, whole.causes)
    assert {"attempts": 11, "wall_seconds": 9.0, "seconds_to_first_commit": 3.0} == whole.counters
    assert (("2/3",), None, False) == (whole.missing, whole.ending, whole.running)


def test_a_run_has_ended_when_all_its_shards_have():
    """In the same way, and none is missing."""
    assert "complete" == together({"1/2": state(1, 1), "2/2": state(1, 1)}, [], 2).ending
    assert together({"1/2": state(1, 1), "2/2": state(1, 0, ending="stopped")}, [], 2).ending is None


def test_who_runs_is_the_one_that_was_heard_of_last():
    """A shard that ended a second ago does not hide one that lives."""
    whole = together({"1/2": state(5, 5, heartbeat_age_s=1.0), "2/2": state(5, 1, **RUNNING)}, [], 10)

    assert (True, "h2", 7, 2.0) == (whole.running, whole.host, whole.pid, whole.heartbeat_age_s)


def test_speed_is_that_of_the_living_and_the_time_left_that_of_the_slowest():
    """A shard that is over, or not begun, says nothing about it."""
    fast = state(20, 10, **RUNNING, counters={"completed": 10, "failed": 0, "elapsed_seconds": 10.0})
    slow = state(20, 5, **RUNNING, counters={"completed": 4, "failed": 1, "elapsed_seconds": 10.0})
    over = state(20, 20, counters={"completed": 20, "wall_seconds": 1.0})
    lines = shown(together({"1/4": fast, "2/4": slow, "3/4": over}, ["4/4"], 80))

    assert "done       35 of 80 simulations (44%) committed" == lines[0]
    assert "shards     1 finished, 2 running, 1 not begun" == lines[2]
    assert "  2/4      5 of 20, running on h2 (process 7), heartbeat 2 s ago" == lines[4]
    assert "not begun  run the study with --shard 4/4" == lines[5]
    assert "speed      1.5 simulations/s, about 30 s left" == lines[6]


def test_of_many_shards_only_some_are_shown():
    """And it is said that there are more."""
    lines = shown(together({f"{i}/40": state(2, 1, ending=None) for i in range(1, 21)}, map(str, range(20)), 80))

    assert 17 == len(lines)
    assert "and 8 more; --json tells of all" in lines[-2]
    assert lines[-1].endswith(", ...")


def test_values_for_programs_hold_every_shard():
    """A run that is in none has no such keys."""
    whole = status_values(together({"2/2": state(5, 5)}, ["1/2"], 10))

    assert (10, 5, ["1/2"]) == (whole["simulations"], whole["shards"]["2/2"]["completed"], whole["shards_missing"])
    assert "shards" not in status_values(state(5, 5))
