"""One writer of one run directory: its name, its next numbers, and the proof that it is still the only one.

Owns appending to the log and taking back what a failed attempt wrote. Does not decide what is committed.

A session that wakes late does no harm: it writes to the directory that it holds, its parts have names that no commit
of another session names, and its commits carry the id of their run and the digest of the commit before.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
from pydantic import JsonValue

from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.store import commits
from modelops_ray.store.commits import CommitFile, Files, Log, Part
from modelops_ray.store.heartbeat import ProcessIdentity, Progress, write_progress
from modelops_ray.store.parts import Runs, write_part
from modelops_ray.store.run_json import NAME, Growth, RunJson
from modelops_ray.store.storage.base import Folder, UncertainError

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time of day, with a time zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session takes from outside; no two sessions have the same.

    `clock` reads the time of day with a time zone, `sleep` waits for that many seconds, `token` draws that many random
    bytes as hexadecimal digits, and `process` describes the process that writes.
    """

    clock: Clock = utc_now
    token: Callable[[int], str] = field(default_factory=lambda: secrets.token_hex)
    process: Callable[[], ProcessIdentity] = field(default_factory=lambda: ProcessIdentity.this)
    sleep: Callable[[float], None] = field(default_factory=lambda: time.sleep)


REAL = Surroundings()


class Session:
    """Begins with an opening commit, which ends every other session: its next number is then taken."""

    def __init__(self, folder: Folder, run: RunJson, mark: Hashable, log: Log, around: Surroundings) -> None:
        """Prepare a session in a run directory that is held; `mark` is that of its `run.json`, as it was read."""
        self.name = _new_name(log, around)
        self._folder = folder
        self._commits = folder.inside(commits.FOLDER).hold(make=True)
        self._run, self._mark = run, mark
        self._clock = around.clock
        self._process = around.process()
        self._number = log.last + 1
        self._tip = log.tip
        self._is_chained = log.is_chained
        self._parts = 0
        self._unnamed: list[str] = []
        self._counters: dict[str, JsonValue] = {}

    def write(self, folder: str, table: pa.Table, positions: Runs = (), *, failed: bool = False) -> Part:
        """Write a part, which does not count until `append` names it; RunInUseError if the directory is another one."""
        self._require_place()
        self._parts += 1
        path = f"{folder}/part-{self.name}-{self._parts}.parquet"
        self._unnamed.append(path)
        return write_part(self._folder, path, table, positions, failed=failed)

    def append(
        self,
        study: str,
        added: Sequence[Part] = (),
        retracted: Sequence[str] = (),
        *,
        grown: Growth | None = None,
        closed: bool = False,
        files: Files | None = None,
    ) -> CommitFile:
        """Make one step of the log durable; after this it holds. In a run that has `grown` it replaces all before.

        RunInUseError if another session took over, or the directory is another one.
        """
        self.require_alone()
        commit = CommitFile(
            run=self._run.id,
            previous=self._tip,
            number=self._number,
            session=self.name,
            host=self._process.host,
            pid=self._process.pid,
            time=self._clock(),
            study=study,
            added=tuple(added),
            retracted=tuple(retracted),
            checkpoint=grown is not None,
            grown=grown,
            closed=closed,
            files=files,
        )
        while not self._commits.create(commits.file_name(commit.number), data := commits.encode(commit)):
            # Just taken: by a session of this run, which ends this one, or by a late one of another run.
            if (taker := self._taker()) is not None:
                raise commits.taken_over(self._folder.where(), taker)
            commit = commit.model_copy(update={"number": self._number})
        self._number, self._tip, self._is_chained = commit.number + 1, commits.digest_of(data), True
        self._unnamed.clear()
        self._require_place()
        return commit

    @contextmanager
    def undoing(self) -> Iterator[None]:
        """Remove the parts written inside unless they were committed."""
        with self.blaming(), ExitStack() as undo:
            undo.callback(self._discard)
            try:
                yield
            except UncertainError:
                # The commit may still arrive, and then its parts count; the next session's own commit settles it.
                undo.pop_all()
                raise
            undo.pop_all()

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Raise RunInUseError in place of an error that comes of a directory taken over, moved or removed."""
        try:
            yield
        except (RunInUseError, UncertainError):
            raise
        except (ResultsError, StorageError):
            self.require_alone()
            raise

    def require_alone(self) -> None:
        """Make sure that this is still the directory and the session that began.

        RunInUseError if it was moved, removed, or taken over.
        """
        self._require_place()
        taker = self._taker()
        if taker is not None and taker.session != self.name:
            raise commits.taken_over(self._folder.where(), taker)

    def _taker(self) -> CommitFile | None:
        """The commit of this run that has the next number; numbers that late sessions of other runs took are passed."""
        self._number, taker = commits.next_of(self._commits, self._run, self._number, is_chained=self._is_chained)
        return taker

    def _require_place(self) -> None:
        if not self._commits.is_in_place() or self._folder.mark(NAME) != self._mark:
            raise RunInUseError(
                f"{self._folder.where()}: moved or removed while this session wrote it; "
                "this session ends here, what it committed is where the directory went"
            )

    def heartbeat(self, counters: Mapping[str, JsonValue] | None = None, ending: str | None = None) -> None:
        """Say that this session lives, or how it ended; without counters, those of the last time."""
        self.require_alone()
        if counters is not None:
            self._counters = dict(counters)
        says = Progress(
            run=self._run.id,
            session=self.name,
            **asdict(self._process),
            heartbeat=self._clock(),
            counters=self._counters,
            ending=ending,
        )
        write_progress(self._folder, says)

    def _discard(self) -> None:
        taker = commits.read_commit(self._commits, self._number)
        if taker is not None and taker.session == self.name:
            return  # the commit is in place, only what came after it failed: the parts count
        for path in self._unnamed:
            self._folder.remove(path)
        self._unnamed.clear()


def _new_name(log: Log, around: Surroundings) -> str:
    while (name := around.token(4)) in log.sessions:
        pass
    return name
