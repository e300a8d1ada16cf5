"""Study files as text and JSON: reading, writing, and the keys beside the parameter sets. Knows nothing of seeds."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelops_ray.errors import StudyError
from modelops_ray.study.values import describe, is_unicode, pointer, refuse

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
    ]
    sampling_method: Annotated[str, Field(description="a text such as sobol, grid or manual")] = "manual"
    n_replicates: Annotated[
        int, Field(ge=1, le=MAX_SIMULATIONS, description=f"a whole number from 1 to {MAX_SIMULATIONS}")
    ] = 1
    outputs: Annotated[list[str] | None, Field(description="a list of names of outputs, or null for all")] = None
    targets: Annotated[list[str] | None, Field(description="a list of target entrypoints, or null")] = None
    metadata: Annotated[dict[str, Any], Field(default_factory=dict, description="an object")]


def read_header(document: Mapping[str, object], source: str) -> Header:
    """Check the keys beside the parameter sets; the StudyError names the first that is missing or wrong."""
    _require_storable(document.get("metadata"), f"{source}: /metadata")
    try:
        return Header.model_validate(document)
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


def read_text(path: Path) -> str:
    """Read a study file; StudyError where that fails or it is not UTF-8."""
    try:
        content = _content(path)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; give the path of a study file") from error
    except IsADirectoryError as error:
        raise StudyError(f"{path}: is a directory; give the path of a study file in it") from error
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}; make the file readable") from error
    except ValueError as error:  # a path with a NUL in it
        raise StudyError(f"{path}: no path of a file; give the path of a study file") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise refuse(f"{path}: line {line}", found, "a JSON text in UTF-8") from error


def _content(path: Path) -> bytes:
    """All of a file or a pipe that is no larger than any study."""
    with open_file(path) as file:
        found = os.fstat(file.fileno())
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
            raise StudyError(f"{path}: is a device, not a file; give the path of a study file")
        is_large = found.st_size > MOST_BYTES
        content = b"" if is_large else file.read(-1 if stat.S_ISREG(found.st_mode) else MOST_BYTES + 1)
    if is_large or len(content) > MOST_BYTES:
        raise refuse(str(path), f"more than {MOST_BYTES:,} bytes", "a study file of fewer")
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
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{source}: line {error.lineno} column {error.colno}"
        raise StudyError(f"{place}: not JSON: {error.msg}; correct it there") from error
    except RecursionError as error:
        raise refuse(source, "JSON nested too deeply to be read", "a study") from error
    except ValueError as error:
        raise refuse(source, "a whole number of thousands of digits", "numbers that fit 64 bits") from error
    if not isinstance(document, dict):
        raise refuse(source, describe(document), "a study: an object with model, scenario and parameter_sets")
    _refuse_other_documents(document, source)
    return document


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
    if "parameter_sets" in document:
        return
    if "tasks" in document or "batches" in document:
        raise refuse(source, "a job file, which is not a study", "the SimulationStudy it was made from")
    if "scenario" in document or "sampling_method" in document:
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
