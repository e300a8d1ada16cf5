"""Study files as text and JSON: reading, writing, and the keys beside the parameter sets. Knows nothing of seeds."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelops_ray.config import plain
from modelops_ray.errors import StudyError
from modelops_ray.study.values import describe, is_unicode, pointer, refuse, refuse_misspelt

MOST_LEVELS = 64
MOST_BYTES = 2**30
MAX_SIMULATIONS = 10_000_000
"""Ten times the largest study that this is made for: each takes memory before any of them has run."""


class Header(BaseModel):
    """Every key of a study but its parameter sets; error messages cite the descriptions as what is expected."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    model: Annotated[
        str | None, Field(min_length=1, description="the model, such as models.sir or sir.py:simulate")
    ] = None
    scenario: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?$",
            description="a scenario: 1 to 64 of a-z 0-9 - _ . with a letter or digit at both ends, such as baseline",
        ),
    ] = "baseline"
    sampling_method: Annotated[str, Field(description="a text such as sobol, grid or manual")] = "manual"
    n_replicates: Annotated[
        int, Field(ge=1, le=MAX_SIMULATIONS, description=f"a whole number from 1 to {MAX_SIMULATIONS}")
    ] = 1
    outputs: Annotated[list[str] | None, Field(description="a list of names of outputs, or null for all")] = None
    targets: Annotated[list[str] | None, Field(description="a list of target entrypoints, or null")] = None
    files: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None,
        Field(description="a list of paths of files or folders, or null"),
    ] = None
    metadata: Annotated[dict[str, Any], Field(default_factory=dict, description="an object")]


KEYS = (*Header.model_fields, "parameter_sets")


def read_header(document: Mapping[str, object], source: str) -> Header:
    """Check the keys beside the parameter sets; the StudyError names the first that is missing or wrong."""
    refuse_misspelt(document, KEYS, source)
    _require_storable(document.get("metadata"), f"{source}: /metadata")
    try:
        return Header.model_validate({key: plain(value) for key, value in document.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        found = "nothing" if first["type"] == "missing" else describe(first["input"])
        right = Header.model_fields[str(first["loc"][0])].description or "something else"
        raise refuse(f"{source}: {pointer(*first['loc'])}", found, right) from error


def _require_storable(metadata: object, place: str) -> None:
    """Make sure that metadata can be kept beside the results, as JSON."""
    level = [metadata]
    for _ in range(MOST_LEVELS):
        texts = [each for value in level for each in (value if isinstance(value, dict) else [value])]
        if any(isinstance(each, str) and not is_unicode(each) for each in texts):
            raise refuse(place, "a text with a lone surrogate, which is not Unicode", "text that is")
        holders = [value for value in level if isinstance(value, dict | list | tuple)]
        level = [each for one in holders for each in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise refuse(place, f"values nested more than {MOST_LEVELS} levels deep", "fewer levels")


def read_text(path: Path, kind: str = "study file", language: str = "JSON") -> str:
    """Read a file of text, which messages call a `kind`; StudyError where that fails or it is not UTF-8."""
    content = read_bytes(path, kind)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise refuse(f"{path}: line {line}", found, f"a {language} text in UTF-8") from error


def read_bytes(path: Path, kind: str) -> bytes:
    """Read a file, which messages call a `kind`; StudyError where that fails."""
    try:
        return _content(path, kind)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; give the path of a {kind}") from error
    except IsADirectoryError as error:
        raise StudyError(f"{path}: is a directory; give the path of a {kind} in it") from error
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}; make the file readable") from error
    except ValueError as error:  # a path with a NUL in it
        raise StudyError(f"{path}: no path of a file; give the path of a {kind}") from error


def _content(path: Path, kind: str) -> bytes:
    """All of a file or a pipe that is no larger than any study."""
    with open_file(path) as file:
        found = os.fstat(file.fileno())
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
            raise StudyError(f"{path}: is a device, not a file; give the path of a {kind}")
        is_large = found.st_size > MOST_BYTES
        content = b"" if is_large else file.read(-1 if stat.S_ISREG(found.st_mode) else MOST_BYTES + 1)
    if is_large or len(content) > MOST_BYTES:
        raise refuse(str(path), f"more than {MOST_BYTES:,} bytes", f"a {kind} of fewer")
    return content


def open_file(path: Path) -> BinaryIO:
    """Open what a person named, to read it; a pipe without a writer is empty, where opening it would wait for one.

    OSError as `open` raises it.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    os.set_blocking(file.fileno(), True)
    return file


def parse(text: str, source: str) -> dict[str, Any]:
    """Parse the JSON text of a study into an object that has parameter sets; StudyError where it is none.

    Numbers stay as Python's `json` reads them, because identifiers depend on their spelling.
    """
    repeated: list[_Repeating] = []
    try:
        document = json.loads(text, object_pairs_hook=partial(_object, repeated))
    except json.JSONDecodeError as error:
        place = f"{source}: line {error.lineno} column {error.colno}"
        raise StudyError(f"{place}: not JSON: {error.msg}; correct it there") from error
    except RecursionError as error:
        raise refuse(source, "JSON nested too deeply to be read", "a study") from error
    except ValueError as error:
        raise refuse(source, "a whole number of thousands of digits", "numbers that fit 64 bits") from error
    if not isinstance(document, dict):
        raise refuse(source, describe(document), "a study: an object with model, scenario and parameter_sets")
    if repeated:
        place, key = _place_of_repeat(document)
        raise refuse(f"{source}: {place}", f"the key {json.dumps(key)} more than once", "each key once")
    _refuse_other_documents(document, source)
    return document


class _Repeating(dict[str, Any]):
    """An object of JSON with a key that is there twice: `key`."""

    key = ""


def _object(repeated: list[_Repeating], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked, seen = _Repeating(found), set[str]()
    marked.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    repeated.append(marked)
    return marked


def _place_of_repeat(document: dict[str, Any]) -> tuple[str, str]:
    """The JSON pointer of a key that is in its object twice, and the key."""
    level: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while level:
        for steps, value in level:
            if isinstance(value, _Repeating):
                return pointer(*steps, value.key), value.key
        level = [((*steps, at), each) for steps, value in level for at, each in _items(value)]
    raise AssertionError("an object with a repeated key is in the document")


def _items(value: object) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def write(path: Path, lines: Iterable[str]) -> None:
    """Write a text file as a whole or not at all; after a StudyError what was there before is intact."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error.strerror}; choose a place that can") from error
    finally:
        # Where a draft that did not become the file cannot be removed, the first error is the one to hear of.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _refuse_other_documents(document: Mapping[str, object], source: str) -> None:
    """Tell other documents of ModelOps apart, by the keys its submit command looks at and in its order."""
    if _is_calibration(document):
        raise refuse(source, "a CalibrationSpec, which is not a study", "a SimulationStudy with parameter_sets")
    is_study = "parameter_sets" in document
    if not is_study and ("tasks" in document or "batches" in document):
        raise refuse(source, "a job file, which is not a study", "the SimulationStudy it was made from")
    refuse_misspelt(document, KEYS, source)
    if is_study:
        return
    if {"model", "scenario", "sampling_method"} & document.keys():
        raise refuse(f"{source}: /parameter_sets", "nothing", "a list of at least one parameter set")
    raise refuse(source, "an object that is not a study", "one with model, scenario and parameter_sets")


def _is_calibration(document: Mapping[str, object]) -> bool:
    if "kind" in document:
        return document["kind"] == "CalibrationSpec"
    if "algorithm" in document:
        return True
    if "parameter_sets" in document:
        return False
    target_data = document.get("target_data")
    if isinstance(target_data, dict) and "observed_file" in target_data:
        return True
    return "sampling_method" not in document and {"max_iterations", "algorithm_config"} <= document.keys()
