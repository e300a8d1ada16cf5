"""Looking at a model: it is imported in a process that is thrown away, which tells whether it can be called.

Owns two processes. One is ours: it waits, and ends all that the other started when that is over, takes too long, or the
driver has gone. The other one imports the model, and shares no descriptor with the driver but the streams that people
read. What it reports lies in memory that both have, for an import may close every descriptor. Standard library only.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import re
import resource
import selectors
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ..errors import ModelError
from . import enforcement, names, protocol, wire
from .held import held
from .loading import MAX_MESSAGE, ModelRef, in_one_line, load_model, own_folder, reading
from .measure import private_bytes
from .pidfd import open_process
from .protocol import CannotLoad, LookAt, Looked, LookEnded

REPORT_BYTES = 2 * 2**20
PLACES_BYTES = 16 * 1024
DUMP_WITHIN_S = 2.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_FRAME = re.compile(rb'File "([^"\n]+)", line (\d+)')


def main(channel_fd: str) -> None:
    """Look at the model that the first message on a socket names, a `LookAt`, and answer with one, a `LookEnded`."""
    channel = socket.socket(fileno=int(channel_fd))
    message = wire.receive(channel)
    if message is None:
        return
    asked = LookAt(*message.header["LookAt"])
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    page = mmap.mmap(-1, REPORT_BYTES)
    places_fd, dump_fd = os.pipe()
    ours = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            channel.close()
            os.close(places_fd)
            _be_looked_at(asked, page, dump_fd, ours)
        finally:
            held.exit(70)
    os.close(dump_fd)
    code, timed_out = _awaited(pid, channel, asked.within_s)
    enforcement.end_all()
    with suppress(OSError):
        protocol.send(channel, LookEnded(code, timed_out, _place(places_fd, asked.workdir)), [_report(page)])
    held.exit(0)


def _awaited(pid: int, channel: socket.socket, within_s: float) -> tuple[int, bool]:
    """Wait for a process to end, in time and while the driver lives; return how it ended, and whether it was late."""
    pidfd = open_process(pid)
    with selectors.DefaultSelector() as selector:
        selector.register(pidfd, selectors.EVENT_READ)
        selector.register(channel, selectors.EVENT_READ)
        ready = selector.select(within_s)
        if not ready:
            # Python then writes down where it is.
            os.kill(pid, signal.SIGABRT)
            selector.unregister(channel)
            selector.select(DUMP_WITHIN_S)
    os.close(pidfd)
    with suppress(ProcessLookupError):
        if not any(key.fd == pidfd for key, _ in ready):
            os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), not ready


def _report(page: mmap.mmap) -> bytes:
    return page[4 : 4 + min(int.from_bytes(page[:4], "big"), REPORT_BYTES - 4)]


def _place(places_fd: int, folder: str) -> str:
    """Where in the model's folder the process was when a signal ended it; empty if that is not known."""
    os.set_blocking(places_fd, False)
    try:
        text = os.read(places_fd, PLACES_BYTES)
    except BlockingIOError:
        return ""
    for file, line in _FRAME.findall(text):
        path = Path(os.fsdecode(file))
        if folder and path.is_relative_to(folder):
            return f"{path.name} line {int(line)}"
    return ""


def _be_looked_at(asked: LookAt, page: mmap.mmap, dump_fd: int, parent: int) -> NoReturn:
    """Import the model and leave a report, unless this is a process that the import forked."""
    if os.getppid() != parent:
        held.exit(1)
    with suppress(OSError):
        os.setpgid(0, 0)
    with suppress(OSError):
        os.chdir(asked.workdir)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(file=dump_fd, all_threads=False)
    me = os.getpid()
    try:
        told = _told(ModelRef.from_json(asked.model), measure=asked.measure)
        if held.pid() == me:
            text = held.dumps({type(told).__name__: told}).encode()
            page[: 4 + len(text)] = len(text).to_bytes(4, "big") + text
    finally:
        held.exit(0)


def _told(ref: ModelRef, *, measure: bool) -> Looked | CannotLoad:
    """What is to be known of a model: its error, or what loading it took."""
    at_start = frozenset(sys.modules[__package__.partition(".")[0]].at_start)
    path = list(sys.path)
    try:
        known = names.shared_names([own_folder(ref)], at_start) if ref.shared is None else ref.shared
        ref = replace(ref, shared=known)
        before_bytes = private_bytes() if measure else 0
        load_model(ref)
        loading_bytes = max(0, private_bytes() - before_bytes) if measure else 0
        # Its import may have told Python of further folders; its own may be out of reach now, and is known.
        added = [entry for entry in sys.path if entry not in (*path, own_folder(ref))]
        shared = {*known, *names.shared_names(added, at_start)}
        return Looked(loading_bytes, tuple(sorted(shared)), shared > set(known), list(reading().found))
    except ModelError as error:
        return CannotLoad(str(error)[: 2 * MAX_MESSAGE])
    except BaseException as error:  # noqa: BLE001 - the boundary of the model's code, which may raise what it likes
        return CannotLoad(f"model {ref.label} cannot be called: {in_one_line(error)}"[:MAX_MESSAGE])
