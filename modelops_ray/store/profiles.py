"""What is known about a model from earlier runs: peaks, times and sizes, never requests.

Owns the file and how measurements are kept small. Where the folder is, the caller says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from modelops_ray.errors import StorageError
from modelops_ray.store.documents import Document
from modelops_ray.store.storage.local import LocalFolder

FORMAT = 2
MAX_BINS = 256
_DIGEST = re.compile(r"[0-9a-f]{8,128}")

_SUMMED = ("samples", "seconds", "written", "payload_bytes", "output_bytes")

Count = Annotated[int, Field(ge=0, lt=2**62)]
Positive = Annotated[int, Field(ge=1, lt=2**62)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Profile(Document):
    """Measurements of one model, summed over all runs.

    `peaks` counts simulations by the upper edge in bytes of their bin, as `core.memory` has them. `base_bytes` is the
    memory of a worker and a process for simulations before the first of them, `child_bytes` that of the process alone,
    `shared_bytes` what all of a node share, as the last run had them. `seconds` are those of all `samples`.
    The results of `written` simulations took `payload_bytes` in memory and `output_bytes` on disk.
    """

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    model_digest: str
    samples: Count = 0
    base_bytes: Count = 0
    child_bytes: Count = 0
    shared_bytes: Count = 0
    peaks: dict[Positive, Positive] = Field(default_factory=dict)
    seconds: Amount = 0.0
    written: Count = 0
    payload_bytes: Count = 0
    output_bytes: Count = 0

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, found: object) -> object:
        """What format 1 calls the size of outputs was that in memory, of all simulations."""
        if not isinstance(found, dict) or found.get("format") != 1:
            return found
        return {name: value for name, value in found.items() if name != "output_bytes"} | {"format": FORMAT}

    @property
    def seconds_per_simulation(self) -> float | None:
        """Mean run time, None where nothing was measured."""
        return self.seconds / self.samples if self.samples else None

    @property
    def payload_bytes_per_simulation(self) -> float | None:
        """Mean size of the results in memory, None where nothing was measured."""
        return self.payload_bytes / self.written if self.written else None

    @property
    def output_bytes_per_simulation(self) -> float | None:
        """Mean size of the results on disk, None where nothing was measured.

        A file of few simulations is mostly its own description: so it is at most what they take in memory.
        """
        return min(self.output_bytes, self.payload_bytes) / self.written if self.written else None

    def merged(self, other: Profile) -> Profile:
        """Return the sum of two profiles of one model; what a worker takes is what the later one, `other`, says."""
        if other.model_digest != self.model_digest:
            raise ValueError(f"profiles of two models: {self.model_digest[:12]} and {other.model_digest[:12]}")
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        return other.model_copy(update={**sums, "peaks": _fewer(Counter(self.peaks) + Counter(other.peaks))})


def load_profile(folder: Path, model_digest: str) -> Profile:
    """Read what is known about a model, an empty profile if that is nothing; StorageError if the file is damaged."""
    name = _name(model_digest)
    data = LocalFolder(folder).read(name)
    if data is None:
        return Profile(model_digest=model_digest)
    try:
        profile = Profile.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "/".join(map(str, problem["loc"]))
        raise StorageError(f"{folder / name}: /{place}: {problem['msg']}; delete it, it is measured again") from error
    if profile.model_digest != model_digest:
        raise StorageError(f"{folder / name}: it is of model {profile.model_digest[:12]}; delete it")
    return profile


def save_profile(folder: Path, profile: Profile) -> None:
    """Keep a profile for the next study of its model."""
    LocalFolder(folder).replace(_name(profile.model_digest), profile.model_dump_json(indent=1).encode() + b"\n")


def _name(model_digest: str) -> str:
    if not _DIGEST.fullmatch(model_digest):
        raise ValueError(f"not a digest: {model_digest!r}")
    return f"{model_digest}.json"


def _fewer(peaks: Mapping[int, int]) -> dict[int, int]:
    """Join the smallest bins where there are too many: what is large decides requests."""
    edges = sorted(peaks)
    low, high = edges[:-MAX_BINS], edges[-MAX_BINS:]
    kept = {edge: peaks[edge] for edge in high}
    if low:
        kept[high[0]] += sum(peaks[edge] for edge in low)
    return kept
