"""`progress.json`: who writes a run directory and how far it is, for people and for the next session.

Owns the heartbeat and the question whether another session lives. It is no truth about what is done.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, ValidationError

from modelops_ray.errors import ResultsError, RunInUseError
from modelops_ray.store.folder import Folder

NAME = "progress.json"
STALE_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one machine. `place` tells machines, boots and containers of the same host name apart."""

    host: str
    pid: int
    place: str
    started_ticks: int | None

    @classmethod
    def this(cls) -> Process:
        """Describe the process that asks."""
        return cls(socket.gethostname(), os.getpid(), _place(), _started_ticks(os.getpid()))


class Progress(BaseModel):
    """The latest word of a session; `ending` is set when it ended properly."""

    model_config = ConfigDict(frozen=True)

    session: str
    host: str
    pid: int
    place: str
    started_ticks: int | None
    heartbeat: AwareDatetime
    counters: dict[str, JsonValue]
    ending: str | None = None

    def age_s(self, now: datetime) -> float:
        """Seconds since the heartbeat; a clock that runs ahead elsewhere counts the same as one that lags."""
        return abs((now - self.heartbeat).total_seconds())

    def is_running(self, now: datetime) -> bool:
        """Whether this session may still write: not ended, heard of lately, and not a dead process of this machine."""
        return self.ending is None and self.age_s(now) < STALE_AFTER_S and not self._is_dead()

    def _is_dead(self) -> bool:
        here = Process.this()
        if self.host != here.host or self.place != here.place or not here.place:
            return False
        try:
            return _started_ticks(self.pid) != self.started_ticks
        except PermissionError:  # /proc hides other users' processes; there it counts as alive
            return False


def read_progress(folder: Folder) -> Progress | None:
    """Read the latest word, None if there is none.

    Raises:
        ResultsError: The file is damaged.
    """
    data = folder.read(NAME)
    if data is None:
        return None
    try:
        return Progress.model_validate_json(data)
    except ValidationError as error:
        raise ResultsError(
            f"{folder.where(NAME)}: not a progress file ({error.errors()[0]['msg']}); "
            "delete it, it holds nothing that counts"
        ) from error


def write_progress(folder: Folder, progress: Progress) -> None:
    """Replace the latest word."""
    folder.replace(NAME, progress.model_dump_json(indent=1).encode() + b"\n")


def say(
    session: str, process: Process, now: datetime, counters: Mapping[str, JsonValue], ending: str | None = None
) -> Progress:
    """Put together what a session says now."""
    return Progress(
        session=session,
        host=process.host,
        pid=process.pid,
        place=process.place,
        started_ticks=process.started_ticks,
        heartbeat=now,
        counters=dict(counters),
        ending=ending,
    )


def require_free(folder: Folder, now: datetime) -> None:
    """Make sure that no other session writes this directory.

    Raises:
        RunInUseError: One does, as far as can be seen from here.
    """
    found = writer(folder, now)
    if found is not None:
        raise RunInUseError(
            f"{folder.where()}: process {found.pid} on {found.host} writes this run directory, last heard of "
            f"{found.age_s(now):.0f} s ago; wait for it, stop it, or give --take-over"
        )


def writer(folder: Folder, now: datetime) -> Progress | None:
    """Return the session that writes this directory, None if there is none as far as can be seen from here."""
    found = read_progress(folder)
    return found if found is not None and found.is_running(now) else None


def _place() -> str:
    """Identify boot and process namespace; "" where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except FileNotFoundError:
        return ""


def _started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none. Zombies count as gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command may hold anything, so fields are counted from its closing parenthesis.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
