"""`run.json`: what a run directory was made for, and whether a session that asks may go on in it.

Owns the format of the file and the comparison. Studies are compared in `extension`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from modelops_ray.config import SeedPolicy
from modelops_ray.errors import ResultsError
from modelops_ray.store.commits import damaged, parse_object, require_format
from modelops_ray.store.folder import Folder

NAME = "run.json"
FORMAT = 1
_REMEDY = "give another --out, or --fresh to start over"


class StudyEntry(BaseModel):
    """A study a run directory knows: its digest, its document, and how many distinct simulations it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    simulations: Annotated[int, Field(ge=0)]
    document: dict[str, Any]


class ShardEntry(BaseModel):
    """Which part of the study a run directory is for: its number from 1, of how many, and its simulations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Annotated[int, Field(ge=1)]
    of: Annotated[int, Field(ge=1)]
    simulations: Annotated[int, Field(ge=0)]


class RunJson(BaseModel):
    """What was run. While `previous` is set, positions in commits may still refer to that study.

    Positions count all simulations of the study, also where `shard` says that only some of them belong here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
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

    def study_of(self, digest: str | None) -> StudyEntry:
        """The study that positions in the log refer to; None is a log without any.

        Raises:
            ResultsError: The log refers to a study that is not described here.
        """
        for entry in (self.study, self.previous):
            if entry is not None and digest in (entry.digest, None):
                return entry
        raise ResultsError(f"{NAME}: the commit log refers to study {digest}, which it does not describe; {_REMEDY}")


def read_run_json(folder: Folder) -> RunJson | None:
    """Read what a directory was made for, None if there is no such file.

    Raises:
        ResultsError: Damaged, or of a newer format.
    """
    data = folder.read(NAME)
    if data is None:
        return None
    path = folder.where(NAME)
    document = parse_object(data, path)
    require_format(document, FORMAT, path)
    try:
        return RunJson.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise damaged(path, f"/{'/'.join(map(str, first['loc']))}: {first['msg']}") from error


def encode_run_json(run: RunJson) -> bytes:
    """Write one line per key, so that a study of any size leaves the rest readable."""
    document = run.model_dump(mode="json")
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def require_same_question(found: RunJson, asked: RunJson, path: str) -> None:
    """Make sure that what is there answers the same question, the study aside.

    Raises:
        ResultsError: Another model, other seeds, or another shard; names both.
    """
    what = difference(found, asked)
    if what is None and _part(found) != _part(asked):
        what = f"run for {_part(found)}, this is {_part(asked)}"
    if what is not None:
        raise ResultsError(f"{path}: {what}; {_REMEDY}")


def difference(found: RunJson, asked: RunJson) -> str | None:
    """Say in which way a run answers another question, study and shard aside; None if it does not."""
    if found.model_digest != asked.model_digest:
        return (
            f"run with model {found.model_label} ({found.model_digest[:12]}), "
            f"this is {asked.model_label} ({asked.model_digest[:12]})"
        )
    for what in ("seed_policy", "entrypoint", "bundle_ref"):
        there, here = getattr(found, what), getattr(asked, what)
        if there != here:
            return f"run with {what.replace('_', ' ')} {there}, this is {here}"
    return None


def _part(run: RunJson) -> str:
    return "the whole study" if run.shard is None else f"shard {run.shard.number}/{run.shard.of}"


def other_versions(found: Mapping[str, str], asked: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence per package whose version is not what the run began with."""
    return tuple(
        f"{name} was {found.get(name, 'absent')} when this run began and is {asked.get(name, 'absent')} now"
        for name in sorted(found.keys() | asked.keys())
        if found.get(name) != asked.get(name)
    )
