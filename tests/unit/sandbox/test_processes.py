"""Which processes there are, and which child each of them belongs to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from modelops_ray.sandbox.processes import Process, descendants, families, process, processes


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
