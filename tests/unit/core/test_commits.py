"""When what has finished is committed: at once the first time, then before too much of it waits in memory."""

from __future__ import annotations

import random

import pytest

from modelops_ray.core.backlog import Group
from modelops_ray.core.commits import Journal
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, Failure, Follows

LONG = "x" * 1000


def begun(**policy):
    """A journal that has committed before."""
    journal = Journal(Policy(**policy))
    journal.keep(0, Group((0,), (0,), 1), 1, 0.0)
    assert journal.next_commit(0.0, is_last=False)
    journal.committed((0,), 0.0)
    return journal


def failed(journal, position, message=LONG):
    """Have a simulation fail for good."""
    journal.keep_failure(Failure(position, Cause.MODEL_ERROR, "ValueError", message, message))


def test_failures_of_which_much_is_told_do_not_wait_as_long_as_others():
    """They are in memory as well."""
    journal = begun(commit_bytes=10_000)
    for position in range(1, 5):
        failed(journal, position)
        assert journal.next_commit(1.0, is_last=False) is None
    failed(journal, 5)
    assert [1, 2, 3, 4, 5] == [failure.position for failure in journal.next_commit(1.0, is_last=False).failures]
    failed(journal, 6)
    journal.committed((), 1.0)
    assert journal.next_commit(1.0, is_last=False) is None


def test_so_many_failures_are_a_commit_whatever_is_told_of_them():
    """As so many results are."""
    journal = begun(commit_simulations=3)
    for position in range(1, 4):
        assert journal.next_commit(1.0, is_last=False) is None
        failed(journal, position, "")
    assert 3 == len(journal.next_commit(1.0, is_last=False).failures)


def test_failures_and_payloads_fill_the_same_commit():
    """What is held is the sum."""
    journal = begun(commit_bytes=10_000)
    journal.keep(1, Group((1,), (0,), 1), 9_000, 0.5)
    assert journal.next_commit(1.0, is_last=False) is None
    failed(journal, 2)
    assert journal.next_commit(1.0, is_last=False).chunk_ids == (1,)


@pytest.mark.parametrize("seed", range(30))
def test_what_has_finished_is_durable_within_ten_seconds(seed):
    """However long chunks held it, however many wait, and however long a write of up to 1.5 s takes."""
    rng = random.Random(seed)
    look_s, write_s, hold_s = rng.choice([0.05, 0.2, 0.4]), rng.uniform(0.0, 1.5), rng.uniform(0.0, 5.0)
    journal, now_s, oldest, ends_s, worst_s = begun(), 0.0, {}, None, 0.0
    chunk_id = 0
    while now_s < 200.0:
        now_s += look_s * rng.uniform(0.5, 1.0)
        for _ in range(rng.randrange(3)):
            chunk_id += 1
            oldest[chunk_id] = now_s - rng.uniform(0.0, hold_s)
            journal.keep(chunk_id, Group((chunk_id,), (0,), 1), rng.randrange(2**18), oldest[chunk_id])
        if ends_s is not None and now_s >= ends_s:
            worst_s = max(worst_s, *(now_s - oldest.pop(done) for done in journal.writing.chunk_ids))
            journal.committed(journal.writing.chunk_ids, now_s)
            ends_s = None
        if journal.next_commit(now_s, is_last=False):
            ends_s = now_s + rng.uniform(0.5, 1.0) * write_s
    assert worst_s <= 10.0
    assert journal.n_commits < 200.0


def test_what_came_while_a_commit_was_written_does_not_begin_to_wait_after_it():
    """It has waited since it ended."""
    journal = begun()
    journal.keep(1, Group((1,), (0,), 1), 1, 1.0)
    assert journal.next_commit(8.6, is_last=False).chunk_ids == (1,)
    journal.keep(2, Group((2,), (0,), 1), 1, 8.7)
    assert journal.next_commit(11.0, is_last=False) is None
    journal.committed((1,), 11.0)
    assert journal.next_commit(11.1, is_last=False) is None
    assert journal.next_commit(13.8, is_last=False).chunk_ids == (2,)


def test_where_looks_are_rare_a_commit_begins_at_the_last_one_that_is_early_enough():
    """In the driver's own process a chunk keeps it from looking."""
    journal = begun()
    journal.keep(1, Group((1,), (0,), 1), 1, 1.0)
    assert journal.next_commit(4.0, is_last=False) is None
    journal.keep(2, Group((2,), (0,), 1), 1, 4.0)
    assert journal.next_commit(7.5, is_last=False).chunk_ids == (1, 2)


def lost(journal, now_s, *positions, message="lost"):
    """Have attempts give no result."""
    failure = Failure(positions[0], Cause.NODE_LOST, "NodeDiedError", message)
    journal.keep_attempts(Group(positions, positions, 1), failure, Follows.RETRIED, 1, now_s)


def test_attempts_without_a_result_go_with_the_next_commit_of_results():
    """And take what waits with them to zero."""
    journal = begun()
    lost(journal, 1.0, 5, 6)
    assert journal.next_commit(1.0, is_last=False) is None
    journal.keep(1, Group((1,), (0,), 1), 1, 1.0)
    write = journal.next_commit(9.0, is_last=False)
    assert ((1,), [(5, 6)]) == (write.chunk_ids, [each.positions for each in write.attempts])
    journal.committed((1,), 9.0)
    assert (0, True) == (journal.unwritten_bytes, journal.is_empty)


def test_attempts_alone_wait_for_results_a_minute_and_no_longer():
    """They were lost with the driver; and they are a commit at the end."""
    journal = begun()
    lost(journal, 1.0, 5)
    lost(journal, 30.0, 6)
    assert journal.next_commit(60.9, is_last=False) is None
    assert [(5,), (6,)] == [each.positions for each in journal.next_commit(61.0, is_last=False).attempts]
    lost(journal, 62.0, 7)
    journal.committed((), 62.0)
    assert journal.next_commit(63.0, is_last=False) is None
    assert journal.next_commit(64.0, is_last=True).attempts


def test_attempts_alone_are_not_the_first_commit():
    """The first results are committed at once all the same."""
    journal = Journal(Policy())
    lost(journal, 0.0, 5)
    assert journal.next_commit(0.0, is_last=False) is None
    assert journal.next_commit(60.0, is_last=False).attempts
    journal.committed((), 61.0)
    journal.keep(1, Group((1,), (0,), 1), 1, 62.0)
    assert journal.next_commit(62.0, is_last=False).chunk_ids == (1,)


@pytest.mark.parametrize("policy", [{"commit_simulations": 3}, {"commit_bytes": 4_000}])
def test_so_many_attempts_are_a_commit(policy):
    """By their number, or by what is told of them."""
    journal = begun(**policy)
    lost(journal, 1.0, 5, 6)
    assert journal.next_commit(1.0, is_last=False) is None
    lost(journal, 1.0, 7, message=3 * LONG)
    assert [(5, 6), (7,)] == [each.positions for each in journal.next_commit(1.0, is_last=False).attempts]


def test_attempts_are_counted_until_their_simulation_has_a_durable_row():
    """A result that is lost before that is one attempt more."""
    journal = Journal(Policy(), {1: 2})
    assert [3, 1] == [journal.attempt_of(position) for position in (1, 2)]
    lost(journal, 0.0, 1, 2)
    failed(journal, 2)
    journal.keep(1, Group((1,), (0,), 1), 1, 0.0)
    assert [4, 1] == [journal.attempt_of(position) for position in (1, 2)]
    assert [(3, 1)] == [each.numbers for each in journal.next_commit(0.0, is_last=False).attempts]
    journal.committed((1,), 1.0)
    assert {} == journal.made
