"""Starting a fork server: the model is imported, once, in a process that then serves.

Owns what is set before and after the import. Where a fork would not be safe, or is not wanted, the server's children
are new interpreters that load the model themselves and are kept for the next supervisor. Serving is `serving`'s
business. Runs in the model's interpreter and imports nothing of ours that needs more than the standard library and
pyarrow.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from . import child as child_side
from .boot import FAILED, command
from .descriptors import high
from .loading import aftermath
from .protocol import Terms
from .segments import Folder, Segments, record_into
from .serving import Server, forbid_forks, why_no_forks
from .threads import ThreadTracker

if TYPE_CHECKING:
    from .calling import Model


def main(step: str, path: str, given_fd: str) -> None:
    """Be a fork server, as `server.json` in the folder at `path` says.

    The step `start` leaves a process behind and tells its number through the pipe `given_fd`; `again` is one without
    the model, which listens on the socket `given_fd`.
    """
    if step == "start":
        if server := os.fork():
            os.write(int(given_fd), b"%d" % server)
            os._exit(0)
        os.close(int(given_fd))
    os.dup2(2, 1)
    _expect_signals()
    folder = Path(path)
    terms = Terms.read(folder)
    with suppress(FileNotFoundError):
        os.chdir(terms.workdir)
    _adopt_orphans()
    _raise_limit_of_files()
    # What the import makes of shared memory is the server's, for as long as it lives.
    record_fd = high(os.open(folder / "made", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
    segments = Segments(record_fd, 0, Folder().names())
    record_into(record_fd)
    if step == "start":
        listener = _listening(folder)
    else:
        listener = socket.socket(fileno=int(given_fd))
        listener.set_inheritable(False)
        listener.settimeout(None)
    notice = why_no_forks(folder) if terms.forks else ""
    model = None
    if terms.forks and not notice:
        model, listener = _model_to_fork(folder, listener, segments)
    gc.collect()
    gc.freeze()
    Server(listener, model, terms, folder, notice).run()
    segments.remove(Folder().names())


def _listening(folder: Path) -> socket.socket:
    path = folder / "socket"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(512)
        moved = socket.socket(fileno=high(listener.detach()))
    moved.settimeout(None)
    return moved


def _is_ours(listener: socket.socket, folder: Path) -> bool:
    """Whether it is still there: an import may close all that is open."""
    try:
        return bool(listener.getsockname() == str(folder / "socket"))
    except OSError:
        return False


def _model_to_fork(folder: Path, listener: socket.socket, segments: Segments) -> tuple[Model, socket.socket]:
    """Load the model; where a fork would lose or share some of it, begin again without it."""
    tracker = ThreadTracker()
    try:
        with tracker:
            model = child_side.model_of(folder)
            if not _is_ours(listener, folder):
                listener.detach()
                listener = _listening(folder)
            aftermath().settle()
            child_side.warm_up()
            aftermath().leave()
    except ModelError as error:
        (folder / FAILED).write_text(str(error))
        sys.exit(1)
    if why_not := tracker.why_not_fork() or aftermath().descriptors.why_not_fork:
        forbid_forks(folder, why_not)
        segments.remove(Folder().names())
        listener.set_inheritable(True)
        again = command("forkserver", "again", str(folder), str(listener.fileno()))
        os.execv(again[0], again)  # noqa: S606 (ourselves)
    sys.stdout.flush()
    return model, listener


def _expect_signals() -> None:
    """The process that started this one may have ignored or blocked signals, which is inherited."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _raise_limit_of_files() -> None:
    """Each child takes some descriptors, and the usual limit is that of a person's shell."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _adopt_orphans() -> None:
    """Have what children leave behind come to this process and not to another one's keeping."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1)
