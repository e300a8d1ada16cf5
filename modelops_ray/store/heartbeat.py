"""`progress.json`: which session writes a run directory and how far it is, for people and for the next session.

Owns the heartbeat, and whether another session is alive. Does not say what is done: the commits do.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from modelops_ray.errors import ResultsError, RunInUseError
from modelops_ray.sandbox.machine import process_space
from modelops_ray.sandbox.processes import existing
from modelops_ray.store.storage.base import Folder

NAME = "progress.json"
STALE_AFTER_S = 60.0
DOUBTFUL_UNTIL_S = 900.0
LISTEN_EVERY_S, LISTENINGS = 0.5, 14
"""A heartbeat comes every 3 s, and less often while a commit takes long."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one machine. `place` tells machines, boots and containers of the same host name apart."""

    host: str
    pid: int
    place: str
    started_ticks: int | None

    @classmethod
    def this(cls) -> ProcessIdentity:
        """Describe the process that asks."""
        return cls(socket.gethostname(), os.getpid(), process_space(), _started_ticks(os.getpid()))


def _storable(value: JsonValue) -> JsonValue:
    """Show the bytes of a path that is not UTF-8 as escapes, for JSON holds text only."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


class Progress(BaseModel):
    """The last heartbeat of a session of the run with this id; `ending` is set if the session ended by itself."""

    model_config = ConfigDict(frozen=True)

    run: str | None = None
    session: str
    host: str
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    place: str
    started_ticks: Annotated[int, Field(ge=0, lt=2**62)] | None
    heartbeat: AwareDatetime
    counters: dict[str, Annotated[JsonValue, BeforeValidator(_storable)]]
    ending: str | None = None

    def age_s(self, now: datetime) -> float:
        """Seconds since the heartbeat; below 0 where the clock of its machine is ahead."""
        return (now - self.heartbeat).total_seconds()

    def is_running(self, now: datetime) -> bool:
        """Whether this session may still write: not ended, its heartbeat recent, its process not dead on this machine.

        A heartbeat in the future comes from a clock that is ahead: its age is not known, and it counts as recent.
        """
        return self.ending is None and self.age_s(now) < STALE_AFTER_S and not self._is_dead()

    def is_doubtful(self, now: datetime) -> bool:
        """Whether it counts as over by the clock of another machine, which may be wrong."""
        here = ProcessIdentity.this()
        is_elsewhere = (self.host, self.place) != (here.host, here.place) or not here.place
        return self.ending is None and is_elsewhere and STALE_AFTER_S <= self.age_s(now) < DOUBTFUL_UNTIL_S

    def _is_dead(self) -> bool:
        here = ProcessIdentity.this()
        if self.host != here.host or self.place != here.place or not here.place:
            return False
        try:
            return _started_ticks(self.pid) != self.started_ticks
        except PermissionError:  # /proc hides other users' processes: one of them counts as alive
            return False


def read_progress(folder: Folder, run: str | None = None) -> Progress | None:
    """Read the last heartbeat, None if there is none, or it is of another run than the one asked for.

    ResultsError if the file is damaged.
    """
    data = folder.read(NAME)
    if data is None:
        return None
    try:
        found = Progress.model_validate_json(data)
    except ValidationError as error:
        raise ResultsError(
            f"{folder.where(NAME)}: not a progress file ({error.errors()[0]['msg'][:200]}); "
            "delete it, it holds nothing that counts"
        ) from error
    return None if run and found.run not in (None, run) else found


def write_progress(folder: Folder, progress: Progress) -> None:
    """Replace the last heartbeat."""
    folder.replace(NAME, progress.model_dump_json(indent=1).encode() + b"\n")


def require_free(folder: Folder, run: str | None, now: datetime) -> None:
    """Make sure that no other session writes this directory, as far as can be seen from here; else RunInUseError.

    `run` is the id of its run, None where that is not known.
    """
    found = writer(folder, run, now)
    if found is not None:
        raise _in_use(folder, found, _when(found.age_s(now)))


def require_silent(folder: Folder, run: str | None, now: datetime, sleep: Callable[[float], None]) -> None:
    """Do as `require_free`; where a session counts as over only by the clock of another machine, wait for a heartbeat.

    RunInUseError if one comes.
    """
    require_free(folder, run, now)
    before = read_progress(folder, run)
    if before is None or not before.is_doubtful(now):
        return
    for _ in range(LISTENINGS):
        sleep(LISTEN_EVERY_S)
        after = read_progress(folder, run)
        if after is not None and after != before and after.ending is None:
            raise _in_use(folder, after, f"just now, by a clock that is {after.age_s(now):.0f} s behind")


def writer(folder: Folder, run: str | None, now: datetime) -> Progress | None:
    """Return the session that writes this directory, None if there is none as far as can be seen from here."""
    found = read_progress(folder, run)
    return found if found is not None and found.is_running(now) else None


def _in_use(folder: Folder, found: Progress, when: str) -> RunInUseError:
    return RunInUseError(
        f"{folder.where()}: process {found.pid} on {found.host} writes this run directory, last heard of "
        f"{when}; wait for it, stop it, or give --take-over"
    )


def _when(age_s: float) -> str:
    return f"{age_s:.0f} s ago" if age_s > -1 else f"by a clock that is {-age_s:.0f} s ahead of this machine's"


def _started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none. Zombies count as gone."""
    found = existing(pid)
    return None if found is None or found.has_ended else found.started_ticks
