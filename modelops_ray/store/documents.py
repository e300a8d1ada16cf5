"""JSON documents that a run directory holds: read as foreign, refused in one line that names the file.

Owns what can be wrong with a file before it is known what it is about. What its keys mean is their owners' business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from modelops_ray.errors import ResultsError, one_line
from modelops_ray.store.storage.base import MAX_BYTES

_MOST_CHARS = 200

M = TypeVar("M", bound=BaseModel)


class Document(BaseModel):
    """What a document, or a part of it, says: these keys, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def damaged(name: str, what: str) -> ResultsError:
    """The error for a file that cannot be what this program wrote."""
    return ResultsError(f"{name}: {what}; restore the file from a copy, or start over with --fresh")


def parse_object(data: bytes, name: str) -> dict[str, object]:
    """Read a JSON object; ResultsError if it is none, or is nested deeper or larger than any that is written."""
    if len(data) > MAX_BYTES:
        raise damaged(name, f"it has {len(data):,} bytes, more than {MAX_BYTES:,}")
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise damaged(name, "not JSON that this program wrote (nested too deeply)") from error
    except ValueError as error:
        raise damaged(name, f"not JSON ({one_line(error, _MOST_CHARS)})") from error
    if not isinstance(document, dict):
        raise damaged(name, "not a JSON object")
    return document


def require_format(document: Mapping[str, object], newest: int, name: str) -> int:
    """Return the format of a file; ResultsError if it is newer than this version knows, or is none."""
    found = document.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise damaged(name, f"its format is {one_line(repr(found), _MOST_CHARS)} and should be a number from 1")
    if found > newest:
        raise ResultsError(
            f"{name}: written in format {found}, this version of modelops-ray reads up to {newest}; "
            "install a newer version, or give another --out"
        )
    return found


def validated(model: type[M], document: Mapping[str, object], name: str) -> M:
    """Check the keys and values of a document; ResultsError says which is not as it should be."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        raise damaged(name, f"/{one_line(place, _MOST_CHARS)}: {one_line(first['msg'], _MOST_CHARS)}") from error
    except RecursionError as error:
        raise damaged(name, "nested too deeply") from error
