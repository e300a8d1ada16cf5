"""When what has finished is committed: at once the first time, then before too much of it waits in memory."""

from __future__ import annotations

from modelops_ray.core.journal import Journal
from modelops_ray.core.plan import Piece
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, Failure

LONG = "x" * 1000


def begun(**policy):
    """A journal that has committed before."""
    journal = Journal(Policy(**policy))
    journal.keep(0, Piece((0,), (0,), 1), 1)
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
    journal.keep(1, Piece((1,), (0,), 1), 9_000)
    assert journal.next_commit(1.0, is_last=False) is None
    failed(journal, 2)
    assert journal.next_commit(1.0, is_last=False).chunk_ids == (1,)
