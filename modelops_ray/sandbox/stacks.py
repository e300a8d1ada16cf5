"""The Python stack of a process that ends in the middle of a simulation, written by that process among what it prints.

Owns the signal that asks for it, and telling stacks from what was printed before them. A crash, `os._exit` and a kill
for time or memory each leave one; a process that the kernel killed leaves none. Standard library only.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from .held import held
from .pidfd import send_signal

ASKED = signal.SIGRTMAX - 2
"""Sent to a child that is about to be killed. Models that use signals of real time begin at the lowest."""
WAIT_S = 0.2
"""A process that does not come to write its stack does not run, and uses no more memory."""
_STEP_S = 0.001
_PENDING = re.compile(r"^(?:Sig|Shd)Pnd:\s*([0-9a-f]+)$", re.MULTILINE)
_CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)
_BEGIN = re.compile(
    r"^(?:Fatal Python error: .*|(?:Current thread 0x|Thread 0x|Stack ).*\(most recent call first\):)$", re.MULTILINE
)
_HEAD = re.compile(r"^(?:Current thread|Thread|Stack) .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')
_OTHER = re.compile(r"^(?:  \.\.\.|  <no Python frame>|  Garbage-collecting|Extension modules: .*|)$")
_OURS = re.compile(r"/_?modelops_ray/(?:sandbox|runner)/|<frozen ")


def tell_stacks(fd: int) -> None:
    """Have this process write its stack to a descriptor when it crashes, is asked, or ends by `os._exit`."""
    faulthandler.enable(fd)
    faulthandler.register(ASKED, fd)
    pid = held.pid()

    def exit_telling(status: int) -> None:
        # Processes that the model forked end by it properly.
        if held.pid() == pid:
            with suppress(OSError, ValueError):
                faulthandler.dump_traceback(fd, all_threads=False)
        held.exit(status)

    os._exit = exit_telling  # type: ignore[assignment]


def ask_for_stack(pid: int, pidfd: int) -> None:
    """Have a child write its stack, and wait until it has, `WAIT_S` seconds at most: it is to be killed now."""
    if not _mask(_CAUGHT, pid) >> (ASKED - 1) & 1:
        return
    with suppress(OSError):
        send_signal(pidfd, ASKED)
        until_s = held.monotonic_s() + WAIT_S
        while held.monotonic_s() < until_s:
            held.sleep_s(_STEP_S)
            if not _mask(_PENDING, pid) >> (ASKED - 1) & 1:
                held.sleep_s(_STEP_S)
                return


def _mask(field: re.Pattern[str], pid: int) -> int:
    """Signals of a process, as `/proc` tells them; 0 where the process has gone."""
    with suppress(OSError):
        found = 0
        for mask in field.findall(Path(f"/proc/{pid}/status").read_text()):
            found |= int(mask, 16)
        return found
    return 0


def told_apart(said: str) -> tuple[str, str]:
    """Split what a process said into what was printed and the stack at its end, the innermost frame last; "" for none.

    Of several threads the one that was asked, or crashed, stands last.
    """
    for match in _BEGIN.finditer(said):
        lines = said[match.start() :].splitlines()
        if all(_BEGIN.match(line) or _FRAME.match(line) or _OTHER.match(line) for line in lines):
            return said[: match.start()], _turned(lines)
    return said, ""


def _turned(lines: list[str]) -> str:
    threads: list[list[str]] = []
    for line in lines:
        if _HEAD.match(line):
            threads.append([line.replace("call first", "call last")])
        elif threads and (frame := _FRAME.match(line)) and not _OURS.search(frame[1]):
            threads[-1].insert(1, f'  File "{frame[1]}", line {frame[2]}, in {frame[3]}')
    with_frames = [thread for thread in threads if len(thread) > 1]
    with_frames.sort(key=lambda thread: not thread[0].startswith("Thread"))
    return "".join(f"{line}\n" for thread in with_frames for line in thread)
