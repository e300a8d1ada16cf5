"""The commit log: numbered, immutable files that alone say which parts exist and what is done.

Owns the format of a commit file, the chain that they are, reading it and what follows from it. Does not touch parts.

Every commit carries the id of its run and the digest of its predecessor. A commit of another run may lie between them:
a slow session of that run wrote it after this run had begun in the same directory. Its number is passed over.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints, model_validator

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError, RunInUseError
from modelops_ray.store import documents, run_json
from modelops_ray.store.storage.base import Folder

FORMAT = 4
FOLDER = "_commits"
_NAME = re.compile(r"[0-9]{1,40}\.json")
_SEAL = b',"sha256":"'
_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

PartPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^(simulations|attempts|outputs/[^/.][^/]*|targets/[^/.][^/]*)/part-[0-9a-f]{8}-\d+\.parquet$"
    ),
]
Count = Annotated[int, Field(ge=0, lt=2**62)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(documents.Document):
    """One Parquet file as a commit names it.

    `positions` are the half-open runs of a part of `simulations`, in the order of its rows; no other part has any.
    `failed` marks a part that holds failures only.
    """

    path: PartPath
    rows: Count
    bytes: Count
    sha256: Digest
    positions: tuple[tuple[Count, Count], ...] = ()
    failed: bool = False

    @model_validator(mode="after")
    def _positions_are_its_rows(self) -> Self:
        if any(start >= stop for start, stop in self.positions):
            raise ValueError("a run of positions is empty or backwards")
        expected = self.rows if self.path.startswith("simulations/") else 0
        if sum(stop - start for start, stop in self.positions) != expected:
            raise ValueError(f"positions of {self.path} do not add up to {expected}")
        return self


class ReadFile(documents.Document):
    """A file by its path relative to the model's folder, and what was in it; None where there is none any more."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=2**14)]
    sha256: Digest | None


class ReadBy(ReadFile):
    """A file, and how many of a commit's results depend on it."""

    results: Count


class Files(documents.Document):
    """What a commit tells of files that results depend on.

    From one with `imported` on, every result depends on these, which the import of the model reads. Those that
    simulations read themselves are in `read`, with the number of results of this commit. Results that depend on
    `accepted` files are kept as if these had been so.
    """

    imported: tuple[ReadFile, ...] | None = None
    read: tuple[ReadBy, ...] = ()
    accepted: tuple[ReadFile, ...] = ()


class CommitFile(documents.Document):
    """One step of the log. With `checkpoint` it replaces everything before: `added` are all parts that live.

    `run` is the id of its run and `previous` the digest of the commit before it, `genesis` where there is none; a
    commit of format 1 has neither, and one of format 2 no part of `attempts`. `grown` is the study that
    the run goes on with from here. None may follow one that is `closed`: the run is being moved aside, by copies.
    Formats before 4 tell nothing of files.
    """

    format: int = FORMAT
    run: str = ""
    previous: str = ""
    number: Annotated[int, Field(ge=1)]
    session: str
    host: str
    pid: int
    time: datetime
    study: str
    added: tuple[Part, ...] = ()
    retracted: tuple[str, ...] = ()
    checkpoint: bool = False
    grown: run_json.Growth | None = None
    closed: bool = False
    files: Files | None = None

    @model_validator(mode="after")
    def _is_a_link_of_a_chain(self) -> Self:
        if self.format > 1 and not (_ID.fullmatch(self.run) and _DIGEST.fullmatch(self.previous)):
            raise ValueError("it does not say which run it is of, or what it follows")
        return self


@dataclass(frozen=True, slots=True)
class LivePart:
    """A part that the log says exists. `positions` has shape (runs, 2): half-open runs in the order of its rows."""

    path: str
    rows: int
    size_bytes: int
    sha256: str
    failed: bool
    commit: str
    positions: npt.NDArray[np.int64]

    @property
    def folder(self) -> str:
        """The table it is a part of, as a folder of the run directory."""
        return self.path.rpartition("/")[0]

    @property
    def position_of_row(self) -> npt.NDArray[np.int64]:
        """The position of every row, in a part of the table `simulations`."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.positions.tolist()])


@dataclass(frozen=True, slots=True)
class FileUse:
    """What was in a file that results depend on, and how many do; `sha256` is None where that was accepted as gone."""

    sha256: str | None
    results: int


@dataclass(slots=True)
class Log:
    """What the commits so far amount to; positions refer to the study of this digest.

    `last` is the number of the last commit, `tip` the digest of its file, `closed` whether it stays the last, `run_id`
    the run that they are of.
    `grown` is the study that the run grew to. `files` are those that results depend on, by path relative to the model's
    folder, and `imported` those of them that every new result depends on; None where nothing is told of files.
    """

    last: int = 0
    tip: str = ""
    run_id: str = ""
    study: str | None = None
    grown: run_json.Growth | None = None
    closed: bool = False
    is_chained: bool = False
    sessions: set[str] = field(default_factory=set)
    parts: dict[str, LivePart] = field(default_factory=dict)
    files: dict[str, FileUse] = field(default_factory=dict)
    imported: tuple[ReadFile, ...] | None = None

    def done(self) -> Ranges:
        """Every position that has a row, completed or failed."""
        return Ranges(pair for part in self.parts.values() for pair in part.positions.tolist())

    def rows(self, *, failed: bool) -> int:
        """How many simulations failed, or completed."""
        return sum(part.rows for part in self.parts.values() if len(part.positions) and part.failed == failed)

    def parts_of(self, folder: str) -> list[LivePart]:
        """The parts of one table, which is a folder of the run directory."""
        return [part for part in self.parts.values() if part.folder == folder]

    def apply(self, commit: CommitFile, name: str) -> None:
        """Take one more commit into account; ResultsError if it contradicts the log so far."""
        if commit.checkpoint:
            self.parts.clear()
            self.study = None
        if commit.added and self.parts and self.study not in (None, commit.study):
            raise documents.damaged(name, "its positions refer to another study than the parts before it")
        self._retract(commit.retracted, name)
        self._add(commit.added, name)
        if commit.files is not None:
            self._accept(commit.files.accepted)
        self._read(commit, commit.files or Files())
        self.last, self.study = commit.number, commit.study
        self.grown, self.closed = commit.grown or self.grown, commit.closed
        self.is_chained = self.is_chained or commit.format > 1
        self.sessions.add(commit.session)

    def _accept(self, files: Iterable[ReadFile]) -> None:
        for file in files:
            self.files[file.path] = FileUse(
                file.sha256, self.files[file.path].results if file.path in self.files else 0
            )

    def _read(self, commit: CommitFile, files: Files) -> None:
        parts = (part for part in commit.added if part.positions and not part.failed)
        n_new = 0 if commit.checkpoint else sum(part.rows for part in parts)
        if files.imported is not None:
            # Results of which nothing was told until now are of the same model.
            n_new = self.rows(failed=False) if self.imported is None else n_new
            self.imported = files.imported
        for file in self.imported or () if n_new else ():
            self._use(file, n_new)
        for each in files.read:
            self._use(each, each.results)

    def _use(self, file: ReadFile, n_results: int) -> None:
        before = self.files.get(file.path)
        self.files[file.path] = FileUse(file.sha256, n_results + (0 if before is None else before.results))

    def _retract(self, paths: Iterable[str], name: str) -> None:
        for path in paths:
            if self.parts.pop(path, None) is None:
                raise documents.damaged(name, f"it retracts {path}, which no commit before it added")

    def _add(self, parts: Iterable[Part], name: str) -> None:
        for part in parts:
            if part.path in self.parts:
                raise documents.damaged(name, f"it adds {part.path} a second time")
            runs = np.array(part.positions, dtype=np.int64).reshape(-1, 2)
            self.parts[part.path] = LivePart(part.path, part.rows, part.bytes, part.sha256, part.failed, name, runs)


def file_name(number: int) -> str:
    """The file of a commit in the folder of commits."""
    return f"{number:06d}.json"


def commit_name(number: int) -> str:
    """The file of a commit, relative to the run directory."""
    return f"{FOLDER}/{file_name(number)}"


def encode(commit: CommitFile) -> bytes:
    """Write a commit with a seal over all that comes before it."""
    body = commit.model_dump_json().encode()[:-1]
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def digest_of(data: bytes) -> str:
    """The digest by which a commit names the one before it."""
    return hashlib.sha256(data).hexdigest()


def genesis(run: str) -> str:
    """The digest that the first commit of a run names in place of that of a predecessor."""
    return digest_of(f"run {run}".encode())


def decode(data: bytes, name: str) -> CommitFile:
    """Read a commit; ResultsError if it is of a newer format, was changed since it was written, or is none."""
    document = documents.parse_object(data, name)
    documents.require_format(document, FORMAT, name)
    body, _, _ = data.rpartition(_SEAL)
    if document.pop("sha256", None) != digest_of(body):
        raise documents.damaged(name, "it is not as it was written")
    return documents.validated(CommitFile, document, name)


def read_log(folder: Folder, run: run_json.RunJson | None = None, known: Log | None = None) -> Log:
    """Replay all commits of a run, by default of the one that `run.json` names; those that are `known` are not read.

    ResultsError if a commit is missing, damaged, of a newer format, or contradicts the others.
    """
    run = run or run_json.read_run_json(folder)
    if run is None:
        raise (
            documents.damaged(folder.where(), f"it has commits, and no {run_json.NAME}")
            if folder.names(FOLDER)
            else ResultsError(
                f"{folder.where()}: not a run directory, it has no {run_json.NAME}; give the directory of a run"
            )
        )
    is_known = known is not None and known.run_id == run.id
    log = known if known is not None and is_known else Log(run.log_from - 1, genesis(run.id), run.id)
    foreign: dict[int, str] = {}
    names = sorted(_names_from(folder, log.last + 1), key=_number_of)
    names += _unlisted(folder, _number_of(names[-1]) if names else log.last)
    contents = folder.read_all(f"{FOLDER}/{name}" for name in names)
    for name, data in zip(names, contents, strict=True):
        number = _number_of(name)
        commit = _decoded(data, folder.where(f"{FOLDER}/{name}"), number)
        if not is_of(commit, run, is_chained=log.is_chained):
            foreign[number] = commit.run
            continue
        _require_next(folder, log, foreign, name)
        path = folder.where(commit_name(number))
        if commit.format > 1 and commit.previous != log.tip:
            raise documents.damaged(path, "it does not follow the commit before it; one of the two is of another run")
        log.apply(commit, path)
        log.tip = digest_of(data or b"")
    _require_own(folder, run, log, foreign)
    _require_disjoint(log, folder.where(FOLDER))
    return log


def _names_from(folder: Folder, first: int) -> list[str]:
    return [name for name in folder.names(FOLDER) if _NAME.fullmatch(name) and _number_of(name) >= first]


def _unlisted(folder: Folder, last: int) -> list[str]:
    """Ask for the commits after the last one by name: the listing of an object store may be some seconds behind."""
    numbers = itertools.takewhile(lambda n: folder.mark(commit_name(n)) is not None, itertools.count(last + 1))
    return list(map(file_name, numbers))


def last_number(folder: Folder) -> int:
    """The largest number that a commit of any run has here, 0 without any."""
    return max(map(_number_of, _names_from(folder, 0)), default=0)


def _number_of(name: str) -> int:
    return int(name.removesuffix(".json"))


def is_of(commit: CommitFile, run: run_json.RunJson, *, is_chained: bool) -> bool:
    """Whether a commit is of this run; those of format 1 come first, in a run that began in format 1."""
    return commit.run == run.id or (commit.format == run.format == 1 and not is_chained)


def _require_next(folder: Folder, log: Log, foreign: Mapping[int, str], name: str) -> None:
    """Commits of other runs may lie between two commits of a run, but no number may be missing."""
    following = log.last + 1
    while following in foreign:
        following += 1
    if commit_name(following) != f"{FOLDER}/{name}":
        raise documents.damaged(folder.where(commit_name(following)), f"it is missing, the next commit found is {name}")


def _require_own(folder: Folder, run: run_json.RunJson, log: Log, foreign: Mapping[int, str]) -> None:
    """A slow session of another run leaves one commit; a whole log of one means that `run.json` was exchanged."""
    others = {foreign.get(run.log_from), foreign.get(run.log_from + 1)}
    if run.log_from == 1 and log.last == 0 and len(others) == 1 and None not in others:
        raise documents.damaged(folder.where(run_json.NAME), "it is of another run than the commits beside it")


def _decoded(data: bytes | None, path: str, number: int) -> CommitFile:
    if data is None:
        raise documents.damaged(path, "it disappeared while the log was read")
    commit = decode(data, path)
    if commit.number != number:
        raise documents.damaged(path, f"it says it is commit {commit.number}")
    return commit


def _require_disjoint(log: Log, name: str) -> None:
    runs = [part.positions for part in log.parts.values() if len(part.positions)]
    if not runs:
        return
    pairs = np.concatenate(runs)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    clash = np.flatnonzero(pairs[1:, 0] < pairs[:-1, 1])
    if len(clash):
        raise documents.damaged(name, f"position {pairs[clash[0] + 1, 0]} is committed twice")


def read_commit(commits: Folder, number: int) -> CommitFile | None:
    """Read the commit that has this number in a folder of commits, of any run; None while it is free."""
    name = file_name(number)
    data = commits.read(name)
    return None if data is None else _decoded(data, commits.where(name), number)


def next_of(commits: Folder, run: run_json.RunJson, number: int, *, is_chained: bool) -> tuple[int, CommitFile | None]:
    """Find the commit of this run that has the first number, from `number`, that no other run's commit took.

    Returns:
        The number, and the commit, None while the number is free.
    """
    while (found := read_commit(commits, number)) is not None and not is_of(found, run, is_chained=is_chained):
        number += 1
    return number, found


def taken_over(where: str, taker: CommitFile) -> RunInUseError:
    """The error for a session that is no longer the one that writes."""
    return RunInUseError(
        f"{where}: process {taker.pid} on {taker.host} has taken over this run directory; "
        "this session ends here, what it committed is kept"
    )
