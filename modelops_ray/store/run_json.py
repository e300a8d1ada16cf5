"""`run.json`: what a run directory was made for, and whether a session that asks may go on in it.

Owns the format of the file, the id of the run in it, and the comparison. The file is written once and never changed: a
study that grew is in the log. Studies are compared in `extension`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, StringConstraints

from modelops_ray.config import SeedPolicy
from modelops_ray.errors import ResultsError
from modelops_ray.store.documents import Document, damaged, parse_object, require_format, validated
from modelops_ray.store.storage.base import Folder

NAME = "run.json"
FORMAT = 2
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_MOVED = "moved_aside"
_STUB = f'{{"format":{FORMAT},"{_MOVED}":"'
REMEDY = "give another --out, or --fresh to start over"


class StudyEntry(Document):
    """A study a run directory knows: its digest, its document, and how many distinct simulations it has."""

    digest: str
    simulations: Annotated[int, Field(ge=0, lt=2**62)]
    document: dict[str, Any]


class ShardEntry(Document):
    """Which part of the study a run directory is for: its number from 1, of how many, and its simulations."""

    number: Annotated[int, Field(ge=1, lt=2**62)]
    of: Annotated[int, Field(ge=1, lt=2**62)]
    simulations: Annotated[int, Field(ge=0, lt=2**62)]


class Growth(Document):
    """The larger study that a run went on with, and which part of it belongs here."""

    study: StudyEntry
    shard: ShardEntry | None = None


class RunJson(Document):
    """What was run, by which run: `id` is drawn when its directory is made, and "" before.

    Its log begins at commit `log_from`; those below are of runs that were moved aside. `previous` is of format 1: while
    it is set, positions in commits may still refer to that study. Positions count all simulations of the study, also
    where `shard` says that only some of them belong here.
    """

    format: int = FORMAT
    id: RunId = ""
    log_from: Annotated[int, Field(ge=1, lt=2**62)] = 1
    study: StudyEntry
    previous: StudyEntry | None = None
    model_digest: str
    model_label: str
    entrypoint: str
    bundle_ref: str
    shard: ShardEntry | None = None
    seed_policy: SeedPolicy
    config: dict[str, Any]
    versions: dict[str, str]
    created: AwareDatetime

    @property
    def simulations(self) -> int:
        """How many simulations belong into the run directory."""
        return self.study.simulations if self.shard is None else self.shard.simulations

    def born(self, run: str, log_from: int) -> Self:
        """Return the document with an id that no other run has or will have, and the first number of its log."""
        return self.model_copy(update={"id": run, "log_from": log_from})

    def grown(self, growth: Growth | None) -> Self:
        """What the run is since the log says that it went on with a larger study."""
        if growth is None:
            return self
        return self.model_copy(update={"study": growth.study, "shard": growth.shard, "previous": None})

    def study_of(self, digest: str | None) -> StudyEntry:
        """The study that positions in the log refer to, this one without any; ResultsError if it is not here."""
        for entry in (self.study, self.previous):
            if entry is not None and digest in (entry.digest, None):
                return entry
        raise ResultsError(f"{NAME}: the commit log refers to study {digest}, which it does not describe; {REMEDY}")


def read_run_json(folder: Folder) -> RunJson | None:
    """Read what a directory was made for, None if there is no run: no such file, or the stub of one moved aside.

    ResultsError if it is damaged, or of a newer format.
    """
    found = read_marked(folder)
    return None if found is None else found[0]


def read_marked(folder: Folder) -> tuple[RunJson | None, Hashable] | None:
    """Read `run.json` with its mark, by which it is told from a later one in its place; the run is None for a stub.

    ResultsError if it is damaged, or of a newer format.
    """
    found = folder.read_marked(NAME)
    if found is None:
        return None
    data, mark = found
    path = folder.where(NAME)
    document = parse_object(data, path)
    if require_format(document, FORMAT, path) == 1:
        document["id"] = _id_of_format_1(document)
    if _MOVED in document:
        return None, mark
    if "id" not in document:
        raise damaged(path, "/id: Field required")
    return validated(RunJson, document, path), mark


def _id_of_format_1(document: Mapping[str, object]) -> str:
    """The id of a run that began before there were ids: from what never changed in its file."""
    kept = ["created", "model_digest", "entrypoint", "bundle_ref", "seed_policy"]
    return hashlib.sha256(json.dumps([document.get(key) for key in kept]).encode()).hexdigest()[:32]


def is_there(folder: Folder) -> bool:
    """Whether a folder holds a run, in any state; the stub of one that was moved aside is none."""
    size = folder.size(NAME)
    if size == len(new_stub()):
        data = folder.read(NAME)
        return data is not None and not is_stub(data)
    return size is not None


def new_stub() -> bytes:
    """What stays in the place of the file of a run that was moved aside where nothing can be renamed; each another."""
    return f'{_STUB}{secrets.token_hex(16)}"}}\n'.encode()


def is_stub(data: bytes) -> bool:
    """Whether this is what stays of a run that was moved aside."""
    return len(data) == len(new_stub()) and data.startswith(_STUB.encode())


def encode_run_json(run: RunJson) -> bytes:
    """Write one line per key, so that a study of any size leaves the rest readable."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in run.model_dump(mode="json").items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def require_same_question(found: RunJson, asked: RunJson, path: str) -> None:
    """Make sure that what is there answers the same question, the study aside.

    ResultsError for another model, other seeds, or another shard; it names both.
    """
    what = difference(found, asked)
    if what is None and part_of(found) != part_of(asked):
        what = f"run for {part_of(found)}, this is {part_of(asked)}"
    if what is not None:
        raise ResultsError(f"{path}: {what}; {REMEDY}")


def other_model(found: RunJson, asked: RunJson) -> str:
    """Say that a run is of another model, or another state of it."""
    return (
        f"run with model {found.model_label} ({found.model_digest[:12]}), "
        f"this is {asked.model_label} ({asked.model_digest[:12]})"
    )


def difference(found: RunJson, asked: RunJson) -> str | None:
    """Say in which way a run answers another question, study, shard and the model's files aside; None if in none."""
    for what in ("seed_policy", "entrypoint"):
        there, here = getattr(found, what), getattr(asked, what)
        if there != here:
            return f"run with {what.replace('_', ' ')} {there}, this is {here}"
    return None


def part_of(run: RunJson) -> str:
    """Say which part of its study a run directory is for."""
    return "the whole study" if run.shard is None else f"shard {run.shard.number}/{run.shard.of}"


def other_versions(found: Mapping[str, str], asked: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence per package whose version is not what the run began with."""
    return tuple(
        f"{name} was {found.get(name, 'absent')} when this run began and is {asked.get(name, 'absent')} now"
        for name in sorted(found.keys() | asked.keys())
        if found.get(name) != asked.get(name)
    )
