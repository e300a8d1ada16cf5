"""A process that ends in the middle of a simulation leaves its stack, apart from what it printed."""

import os
import subprocess
import sys
import textwrap

import pytest

from modelops_ray.sandbox.pidfd import open_process
from modelops_ray.sandbox.stacks import ask_for_stack, told_apart

PROGRAM = """
import ctypes, os, signal, sys, time
from modelops_ray.sandbox.stacks import tell_stacks
tell_stacks(2)

def simulate():
    print("day 1", file=sys.stderr, flush=True)
    {end}

simulate()
"""


def said_by(end, *, ask=False):
    """What a process prints that ends in this way."""
    source = textwrap.dedent(PROGRAM).replace("{end}", end)
    child = subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.PIPE, text=True)
    if ask:
        assert ["day 1\n", "day 2\n"] == [child.stderr.readline() for _ in range(2)]
        pidfd = open_process(child.pid)
        ask_for_stack(child.pid, pidfd)
        os.close(pidfd)
        child.kill()
    _, said = child.communicate()
    return child.returncode, said


@pytest.mark.parametrize(("end", "code"), [("ctypes.string_at(0)", -11), ("os._exit(7)", 7), ("os.abort()", -6)])
def test_a_crash_or_an_exit_leaves_the_stack(end, code):
    """With the innermost frame last, and none of ours."""
    returned, said = said_by(end)
    printed, stack = told_apart(said)

    assert code == returned
    assert "day 1\n" == printed
    frames = [line for line in stack.splitlines() if line.startswith("  File ")]
    assert '  File "<string>", line 8, in simulate' in frames
    assert frames.index('  File "<string>", line 10, in <module>') < frames.index(
        '  File "<string>", line 8, in simulate'
    )
    assert "stacks.py" not in stack


def test_a_process_that_is_asked_leaves_the_stack_and_goes_on():
    """Also while it waits in the kernel."""
    returned, said = said_by('print("day 2", file=sys.stderr, flush=True); time.sleep(60)', ask=True)
    _, stack = told_apart(said)

    assert -9 == returned
    assert stack.endswith("line 8, in simulate\n")


def test_a_process_that_does_not_expect_to_be_asked_is_left_alone():
    """The signal would end it."""
    child = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "1\n" == child.stdout.readline()
    pidfd = open_process(child.pid)
    ask_for_stack(child.pid, pidfd)
    os.close(pidfd)
    child.communicate("\n")
    assert 0 == child.returncode


def test_a_fork_of_the_models_own_that_exits_leaves_nothing():
    """`multiprocessing` ends its processes that way."""
    returned, said = said_by("pid = os.fork() or os._exit(0); os.waitpid(pid, 0)")
    assert (0, "day 1\n") == (returned, said)


@pytest.mark.parametrize(
    ("said", "printed", "has_stack"),
    [
        ("day 1\nday 2\n", "day 1\nday 2\n", False),
        ("", "", False),
        ('Stack (most recent call first):\n  File "a.py", line 1 in f\nand on it goes\n', None, False),
        ('x\nCurrent thread 0x01 (most recent call first):\n  File "a.py", line 1 in f\n', "x\n", True),
    ],
)
def test_only_what_stands_at_the_end_is_a_stack(said, printed, has_stack):
    """A model may print one, and go on."""
    assert (said if printed is None else printed, has_stack) == (told_apart(said)[0], bool(told_apart(said)[1]))


def test_the_thread_that_was_asked_stands_last():
    """Others are kept before it."""
    said = (
        'Current thread 0x01 (most recent call first):\n  File "a.py", line 1 in f\n  File "a.py", line 9 in g\n\n'
        'Thread 0x02 (most recent call first):\n  File "b.py", line 2 in h\n'
    )
    assert [
        "Thread 0x02 (most recent call last):",
        '  File "b.py", line 2, in h',
        "Current thread 0x01 (most recent call last):",
        '  File "a.py", line 9, in g',
        '  File "a.py", line 1, in f',
    ] == told_apart(said)[1].splitlines()
