"""How a fault is done to a run, and how it is taken back.

Owns finding the process that is meant. When a fault is due is the schedule's, what must hold then is `play`'s.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from support.studies import Command, Place

from tests.chaos.schedule import Fault, Kind

Lift = Callable[[], None]
_SERVER = "at_start = tuple(sys.modules)"


def victims(kind: Kind, place: Place, command: Command) -> list[int]:
    """Find the processes that a kind of fault may hit, by the word it ends with."""
    who = kind.split(" ", 1)[1]
    if who == "driver":
        return [command.process.pid]
    if who in {"raylet", "GCS"}:
        name = {"raylet": "raylet", "GCS": "gcs_server"}[who]
        return [pid for pid in place.processes() if _name_of(pid) == name]
    if who == "worker":
        return [pid for pid, title in place.processes("ray::").items() if title.startswith("ray::modelops-chunk")]
    forked = set(place.processes(_SERVER))
    children = [pid for pid in forked if _parent_of(pid) in forked]
    return children if who == "child" else sorted(forked - set(children))


def do(fault: Fault, place: Place, command: Command) -> Lift | None:
    """Do it to one of those it may hit, and return how it is taken back; None if there is none to hit."""
    found = sorted(victims(fault.kind, place, command))
    if not found:
        return None
    pid = found[int(fault.chance * len(found))]
    deed = fault.kind.split(" ", 1)[0]
    number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "interrupt": signal.SIGTERM}[deed]
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return (lambda: _wake(pid)) if deed == "stop" else (lambda: None)
    return None


def _wake(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _parent_of(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
