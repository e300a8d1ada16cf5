"""Who has to go when memory is short, whose process is whose, and when a node crawls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from modelops_ray.sandbox.limits import (  # fmt: skip
    Crawl,
    Limit,
    Process,
    Reading,
    Strain,
    descendants,
    families,
    over_hard_limit,
    process,
    processes,
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
        assert [False, False, False, True, True, True] == [crawl.look(strain) for strain in strains]
    for strains in (
        [Strain(t, 0.6 * t, 0, 0.2) for t in range(6)],
        [Strain(t, 0.1 * t, 10 * t, 0.9) for t in range(6)],
        [Strain(t, 0.9 * (t // 2), 0, 0.9) for t in range(6)],
    ):
        crawl = Crawl()
        assert not any(crawl.look(strain) for strain in strains)


def test_whatever_a_child_started_is_its_own_also_when_it_left_the_group():
    """By group, by descent, and by having been known before its parent ended."""
    table = [
        Process(10, 1, 10, "S", 0), Process(11, 10, 10, "S", 0), Process(12, 11, 12, "S", 0),
        Process(13, 12, 12, "S", 0), Process(14, 5, 14, "S", 0), Process(20, 1, 20, "S", 0), Process(30, 1, 30, "S", 0),
    ]  # fmt: skip
    found = families({10, 20}, table, {14: 20})
    assert {10: [11, 12, 13], 20: [14]} == found


def test_the_process_table_has_this_process_and_what_it_uses_is_measured():
    """Read from the kernel."""
    me = process(os.getpid())
    assert me in processes()
    assert (os.getppid(), os.getpgid(0)) == (me.parent, me.group)
    assert process(2**22 + 1) is None


def test_a_process_that_is_hidden_from_this_user_is_as_good_as_gone(tmp_path):
    """Some systems show everybody's number and nothing else of it."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (name) S 1 7 " + "0 " * 20)
    assert [7] == [one.pid for one in processes(tmp_path)]
    (tmp_path / "7").chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # nothing is hidden from root
    try:
        assert process(7, tmp_path) is None
    finally:
        os.seteuid(user)
        (tmp_path / "7").chmod(0o700)


def test_only_the_family_is_looked_up_where_the_kernel_lists_children():
    """By descent, also outside of its group; and by number what is just being handed on."""
    code = (
        "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        sleeper = int(child.stdout.readline())
        assert [child.pid, sleeper] == [one.pid for one in descendants(child.pid)]
        assert {child.pid, sleeper} < {one.pid for one in descendants(os.getpid())}
        child.kill()
    assert sleeper not in {one.pid for one in descendants(os.getpid())}
    assert sleeper in {one.pid for one in descendants(os.getpid(), [sleeper])}
    os.kill(sleeper, signal.SIGKILL)


def test_without_lists_of_children_the_whole_process_table_is_read(tmp_path):
    """Kernels can be built without them."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (name) S 1 7 " + "0 " * 20)
    assert [7] == [one.pid for one in descendants(1, proc=tmp_path)]
