"""One writer of one run directory: its name, its next numbers, and the proof that it is still the only one.

Owns appending to the log and taking back what a failed attempt wrote. Does not decide what is committed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa
from pydantic import JsonValue

from modelops_ray.errors import RunInUseError, StorageError
from modelops_ray.store.commits import CommitFile, Log, Part, append, taken_over, taker_of
from modelops_ray.store.folder import Folder, UncertainError
from modelops_ray.store.parts import write_part
from modelops_ray.store.progress import Process, say, write_progress

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time of day, with a time zone."""
    return datetime.now(UTC)


class Session:
    """Begins with an opening commit, which ends every other session: its next number is then taken."""

    def __init__(self, folder: Folder, log: Log, clock: Clock) -> None:
        self.name = _new_name(log)
        self._folder = folder
        self._clock = clock
        self._process = Process.this()
        self._identity = folder.identity()
        self._number = log.last + 1
        self._parts = 0
        self._unnamed: list[str] = []
        self._counters: dict[str, JsonValue] = {}

    def write(
        self, folder: str, table: pa.Table, positions: Sequence[tuple[int, int]] = (), *, failed: bool = False
    ) -> Part:
        """Write a part; it does not count until `append` names it."""
        self._parts += 1
        path = f"{folder}/part-{self.name}-{self._parts}.parquet"
        self._unnamed.append(path)
        return write_part(self._folder, path, table, positions, failed=failed)

    def append(
        self, study: str, added: Sequence[Part] = (), retracted: Sequence[str] = (), *, checkpoint: bool = False
    ) -> CommitFile:
        """Make one step of the log durable.

        Raises:
            RunInUseError: Another session took over.
        """
        self.require_alone()
        commit = CommitFile(
            number=self._number,
            session=self.name,
            host=self._process.host,
            pid=self._process.pid,
            time=self._clock(),
            study=study,
            added=tuple(added),
            retracted=tuple(retracted),
            checkpoint=checkpoint,
        )
        append(self._folder, commit)
        if self._identity is None:
            # Where it is gone already, it is never again what it was.
            found = self._folder.identity()
            self._identity = "gone" if found is None else found
        self._number += 1
        self._unnamed.clear()
        return commit

    @contextmanager
    def undoing(self) -> Iterator[None]:
        """Remove the parts written inside unless they were committed; tell a lost directory from a broken one."""
        try:
            yield
        except UncertainError:
            # The commit may still arrive, and then its parts count; the next session's own commit settles it.
            raise
        except StorageError:
            self._discard()
            self.require_alone()
            raise
        except BaseException:
            self._discard()
            raise

    def require_alone(self) -> None:
        """Make sure that this is still the directory and the session that began.

        Raises:
            RunInUseError: It was moved, removed, or taken over.
        """
        if self._identity is not None and self._folder.identity() != self._identity:
            raise RunInUseError(
                f"{self._folder.where()}: moved or removed while this session wrote it; "
                "this session ends here, what it committed is where the directory went"
            )
        taker = taker_of(self._folder, self._number)
        if taker is not None and taker.session != self.name:
            raise taken_over(self._folder, taker)

    def heartbeat(self, counters: Mapping[str, JsonValue] | None = None, ending: str | None = None) -> None:
        """Say that this session lives, or how it ended; without counters, those of the last time."""
        self.require_alone()
        if counters is not None:
            self._counters = dict(counters)
        write_progress(self._folder, say(self.name, self._process, self._clock(), self._counters, ending))

    def _discard(self) -> None:
        taker = taker_of(self._folder, self._number)
        if taker is not None and taker.session == self.name:
            return  # the commit is in place, only what came after it failed: the parts count
        for path in self._unnamed:
            self._folder.remove(path)
        self._unnamed.clear()


def _new_name(log: Log) -> str:
    while (name := secrets.token_hex(4)) in log.sessions:
        pass
    return name
