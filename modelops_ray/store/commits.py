"""The commit log: numbered, immutable files that alone say which parts exist and what is done.

Owns the format of a commit file, reading the log and what follows from it. Does not touch parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError, RunInUseError
from modelops_ray.store.folder import Folder

FORMAT = 1
FOLDER = "_commits"
_NAME = re.compile(r"\d+\.json")
_SEAL = b',"sha256":"'

PartPath = Annotated[
    str,
    StringConstraints(pattern=r"^(simulations|outputs/[^/.][^/]*|targets/[^/.][^/]*)/part-[0-9a-f]{8}-\d+\.parquet$"),
]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Part(_Strict):
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


class CommitFile(_Strict):
    """One step of the log. With `checkpoint` it replaces everything before: `added` are all parts that live."""

    format: int = FORMAT
    number: Annotated[int, Field(ge=1)]
    session: str
    host: str
    pid: int
    time: datetime
    study: str
    added: tuple[Part, ...] = ()
    retracted: tuple[str, ...] = ()
    checkpoint: bool = False


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
        """Of a part of `simulations`, the position of every row."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.positions.tolist()])


@dataclass(slots=True)
class Log:
    """What the commits so far amount to; positions refer to the study of this digest."""

    last: int = 0
    study: str | None = None
    sessions: set[str] = field(default_factory=set)
    parts: dict[str, LivePart] = field(default_factory=dict)

    def done(self) -> Ranges:
        """Every position that has a row, completed or failed."""
        return Ranges(pair for part in self.parts.values() for pair in part.positions.tolist())

    def rows(self, *, failed: bool) -> int:
        """How many simulations failed, or completed."""
        return sum(part.rows for part in self.parts.values() if len(part.positions) and part.failed == failed)

    def apply(self, commit: CommitFile, name: str) -> None:
        """Take one more commit into account.

        Raises:
            ResultsError: It contradicts the log so far.
        """
        if commit.checkpoint:
            self.parts.clear()
            self.study = None
        if commit.added and self.parts and self.study not in (None, commit.study):
            raise damaged(name, "its positions refer to another study than the parts before it")
        self._retract(commit.retracted, name)
        self._add(commit.added, name)
        self.last, self.study = commit.number, commit.study
        self.sessions.add(commit.session)

    def _retract(self, paths: Iterable[str], name: str) -> None:
        for path in paths:
            if self.parts.pop(path, None) is None:
                raise damaged(name, f"it retracts {path}, which no commit before it added")

    def _add(self, parts: Iterable[Part], name: str) -> None:
        for part in parts:
            if part.path in self.parts:
                raise damaged(name, f"it adds {part.path} a second time")
            positions = np.array(part.positions, dtype=np.int64).reshape(-1, 2)
            self.parts[part.path] = LivePart(
                part.path, part.rows, part.bytes, part.sha256, part.failed, name, positions
            )


def commit_name(number: int) -> str:
    """The file of a commit, relative to the run directory."""
    return f"{FOLDER}/{number:06d}.json"


def damaged(name: str, what: str) -> ResultsError:
    """The error for a file that cannot be what this program wrote."""
    return ResultsError(f"{name}: {what}; restore the file from a copy, or start over with --fresh")


def encode(commit: CommitFile) -> bytes:
    """Write a commit with a seal over all that comes before it."""
    body = commit.model_dump_json().encode()[:-1]
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def decode(data: bytes, name: str) -> CommitFile:
    """Read a commit.

    Raises:
        ResultsError: Not JSON, of a newer format, changed since it was written, or not a commit.
    """
    document = parse_object(data, name)
    require_format(document, FORMAT, name)
    body, _, _ = data.rpartition(_SEAL)
    if document.pop("sha256", None) != hashlib.sha256(body).hexdigest():
        raise damaged(name, "it is not as it was written")
    try:
        return CommitFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise damaged(name, f"/{'/'.join(map(str, first['loc']))}: {first['msg']}") from error


def parse_object(data: bytes, name: str) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        ResultsError: It is none.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise damaged(name, f"not JSON ({error})") from error
    if not isinstance(document, dict):
        raise damaged(name, "not a JSON object")
    return document


def require_format(document: Mapping[str, object], newest: int, name: str) -> None:
    """Refuse a file whose format this version does not know.

    Raises:
        ResultsError: The format is newer, or is none.
    """
    found = document.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise damaged(name, f"its format is {found!r} and should be a number from 1")
    if found > newest:
        raise ResultsError(
            f"{name}: written in format {found}, this version of modelops-ray reads up to {newest}; "
            "install a newer version, or give another --out"
        )


def read_log(folder: Folder) -> Log:
    """Replay all commits.

    Raises:
        ResultsError: A commit is missing, damaged, of a newer format, or contradicts the others.
    """
    log = Log()
    names = sorted(_commit_names(folder), key=lambda name: int(name[:-5]))
    contents = folder.read_all(f"{FOLDER}/{name}" for name in names)
    for number, (file_name, data) in enumerate(zip(names, contents, strict=True), start=1):
        path = folder.where(commit_name(number))
        if file_name != commit_name(number).removeprefix(f"{FOLDER}/"):
            raise damaged(path, f"it is missing, the next commit found is {file_name}")
        log.apply(_decoded(data, path, number), path)
    _require_disjoint(log, folder.where(FOLDER))
    return log


def _commit_names(folder: Folder) -> list[str]:
    return [name for name in folder.names(FOLDER) if _NAME.fullmatch(name)]


def _read(folder: Folder, number: int) -> CommitFile:
    name = commit_name(number)
    return _decoded(folder.read(name), folder.where(name), number)


def _decoded(data: bytes | None, path: str, number: int) -> CommitFile:
    if data is None:
        raise damaged(path, "it disappeared while the log was read")
    commit = decode(data, path)
    if commit.number != number:
        raise damaged(path, f"it says it is commit {commit.number}")
    return commit


def _require_disjoint(log: Log, name: str) -> None:
    runs = [part.positions for part in log.parts.values() if len(part.positions)]
    if not runs:
        return
    pairs = np.concatenate(runs)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    clash = np.flatnonzero(pairs[1:, 0] < pairs[:-1, 1])
    if len(clash):
        raise damaged(name, f"position {pairs[clash[0] + 1, 0]} is committed twice")


def taker_of(folder: Folder, number: int) -> CommitFile | None:
    """Return the commit of this number, None while it is free."""
    if folder.size(commit_name(number)) is None:
        return None
    return _read(folder, number)


def append(folder: Folder, commit: CommitFile) -> None:
    """Make a commit durable; after this it holds.

    Raises:
        RunInUseError: Its number is taken.
    """
    if folder.create(commit_name(commit.number), encode(commit)):
        return
    raise taken_over(folder, _read(folder, commit.number))


def taken_over(folder: Folder, taker: CommitFile) -> RunInUseError:
    """The error for a session that is no longer the one that writes."""
    return RunInUseError(
        f"{folder.where()}: process {taker.pid} on {taker.host} has taken over this run directory; "
        "this session ends here, what it committed is kept"
    )
