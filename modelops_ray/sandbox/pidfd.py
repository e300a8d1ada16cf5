"""Handles of processes, whose numbers may pass to others, by system call.

Owns the two calls, and the names of signals. Python has the calls only where it was built against a C library that knew
them, which those of conda and of many images were not. Standard library only: it also runs in the model's interpreter.
"""

from __future__ import annotations

import ctypes
import os
import signal

# The same on every architecture that Python has wheels for.
_PIDFD_SEND_SIGNAL = 424
_PIDFD_OPEN = 434
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def open_process(pid: int) -> int:
    """Return a descriptor of a process, which is readable once that has ended; OSError if there is none."""
    return _called(_PIDFD_OPEN, pid, 0)


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process of a descriptor; ProcessLookupError once it has ended."""
    _called(_PIDFD_SEND_SIGNAL, pidfd, number, 0, 0)


def signal_name(number: int) -> str:
    """Return the name of a signal; those of real time have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _called(call: int, *arguments: int) -> int:
    returned = int(_libc.syscall(*map(ctypes.c_long, (call, *arguments))))
    if returned < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return returned
