"""Says one line where this process is ended as it stands, and cannot say it itself.

Ray does that to a driver whose raylet or GCS has ended while a call to it is on its way: no Python code runs then.
Owns a shell that waits on a pipe for the end of this process, and hears whether it is an orderly one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LINE = (
    "modelops-ray: this process was ended as it stood, by Ray, whose raylet or GCS has ended, or from outside; "
    "what was committed is kept, run the same command to go on"
)
_SHELL = ("sh", "-c", 'read -r _ || printf "%s\\n" "$1" >&2', "sh", LINE)


@contextmanager
def last_words() -> Iterator[None]:
    """Have the line said if this process ends inside without leaving."""
    # In a session of its own: Ctrl-C is for this process, not for the shell.
    shell = subprocess.Popen(  # noqa: S603 (a command of ours)
        _SHELL, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        with suppress(OSError):
            shell.communicate(b"\n")
