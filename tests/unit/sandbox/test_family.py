"""What a process and all that it started use: read while they work, and counted once."""

from __future__ import annotations

import collections
import mmap
import time
from contextlib import ExitStack

import pytest
from support.growing import STEP_BYTES, Growing

from modelops_ray.sandbox import family
from modelops_ray.sandbox.family import Family, ServerMemory
from modelops_ray.sandbox.measure import resident_parts
from modelops_ray.sandbox.processes import process

pytestmark = pytest.mark.usefixtures("nothing_to_reuse")

NEARLY = 10 * 2**20
"""What a fork copies by counting references is its own as well."""


@pytest.fixture
def fork():
    """Fork processes that do what they are told, and end them."""
    with ExitStack() as stack:

        def fork(shared=None):
            made = Growing(shared)
            stack.callback(made.end)
            return made

        yield fork


@pytest.fixture(params=[False, True], ids=["without a server", "of a server"])
def server(request):
    """Of a server, this process is it."""
    return ServerMemory() if request.param else ServerMemory(pid=0)


@pytest.fixture
def family_of(server):
    """Make a family of a head and others, and look at it exactly."""

    def family_of(head, *others):
        born = process(head.pid)
        made = Family(head.pid, born, Family(head.pid, born, 0, server).roughly_bytes(), server)
        for one in others:
            made.take_in(process(one.pid))
        made.used_bytes()
        return made

    return family_of


@pytest.fixture
def before_reading(monkeypatch):
    """Have something happen in an exact look: just before the n-th time that a process is read in it."""

    def before_reading(**planned):
        really, n_readings = family.rollup, collections.Counter()

        def slowly(pid):
            n_readings[pid] += 1
            for does in [does for one, n, does in planned.values() if (one.pid, n) == (pid, n_readings[pid])]:
                does()
            return really(pid)

        monkeypatch.setattr(family, "rollup", slowly)

    return before_reading


@pytest.fixture
def after_reading(monkeypatch):
    """Have something happen once, just after a process is read in an exact look."""

    def after_reading(one, does):
        really, left = family.rollup, [does]

        def slowly(pid):
            read = really(pid)
            if pid == one.pid and left:
                left.pop()()
            return read

        monkeypatch.setattr(family, "rollup", slowly)

    return after_reading


def test_what_is_made_while_an_exact_look_is_under_way_counts_once(fork, family_of, before_reading):
    """An exact look takes milliseconds, in which a process may make all that it will ever use."""
    head, other = fork(), fork()
    found = family_of(head, other)
    before_bytes = found.roughly_bytes()
    before_reading(other=(other, 1, other.grow))
    found.used_bytes(-1)

    assert found.roughly_bytes() - before_bytes == pytest.approx(STEP_BYTES, abs=NEARLY)


def test_a_member_that_grew_during_an_exact_look_is_looked_at_again_soon(fork, family_of, server, after_reading):
    """It may end before it is the family's turn, and its peak would lack what it made then."""
    head, other = fork(), fork()
    found = family_of(head, other)
    before_bytes = found.used_bytes(-1)
    server.n_groups = 10**6
    # Its pages are read by now, and what it has made is not.
    after_reading(other, other.grow)
    found.used_bytes(-1)

    deadline_s = time.monotonic() + 10
    while found.used_bytes() - before_bytes < STEP_BYTES - NEARLY:
        assert time.monotonic() < deadline_s
    assert found.high_bytes - before_bytes == pytest.approx(STEP_BYTES, abs=NEARLY)


@pytest.mark.parametrize("server", [True], indirect=True, ids=["of a server"])
def test_what_others_come_to_share_while_an_exact_look_is_under_way_counts_once(fork, family_of, before_reading):
    """Read one after the other, each would have its part of more processes than the one before."""
    with mmap.mmap(-1, STEP_BYTES) as shared:
        head, one, other = (fork(shared) for _ in range(3))
        found = family_of(head, one, other)
        before_bytes = found.used_bytes(-1)
        head.touch()
        before_reading(one=(one, 1, one.touch), other=(other, 2, other.touch))

        assert found.used_bytes(-1) - before_bytes == pytest.approx(STEP_BYTES, abs=NEARLY)


@pytest.mark.parametrize("server", [True], indirect=True, ids=["of a server"])
def test_shared_memory_that_several_have_mapped_since_an_exact_look_is_not_counted_by_each(fork, family_of):
    """What is known to be used is told as the peak, and one segment is one segment."""
    with mmap.mmap(-1, STEP_BYTES) as shared:
        head, one, other = (fork(shared) for _ in range(3))
        found = family_of(head, one, other)
        head.touch()
        before_bytes = found.used_bytes(-1)
        one.touch()
        other.touch()

        assert found.roughly_bytes() == pytest.approx(before_bytes, abs=NEARLY)
        assert found.used_bytes(before_bytes + STEP_BYTES) == pytest.approx(before_bytes, abs=NEARLY)


def test_a_fork_that_maps_what_its_parent_has_mapped_uses_nothing_before_it_is_looked_at(fork, family_of):
    """It has less than its parent had when it was forked, and never less than nothing."""
    with mmap.mmap(-1, STEP_BYTES) as shared:
        head, one = fork(shared), fork(shared)
        found = family_of(head)
        head.touch()
        before_bytes = found.roughly_bytes()
        one.touch()
        found.take_in(process(one.pid))

        assert found.roughly_bytes() == pytest.approx(before_bytes, abs=NEARLY)


def test_what_a_child_made_before_its_server_was_told_of_it_counts(fork, family_of):
    """The supervisor says what the child had when it gave it a simulation; the server hears of it later."""
    head = fork()
    found = family_of(head)
    had_bytes = resident_parts(head.pid).made_bytes
    head.grow()

    found.rebase(had_bytes)

    assert STEP_BYTES == pytest.approx(found.roughly_bytes(), abs=NEARLY)
