"""The options of a run, checked: each by itself, and those that contradict each other.

Owns the check. What each option is and may be stands in `config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, Unpack

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from modelops_ray.config import AllOptions, Fields, format_size, options
from modelops_ray.errors import UsageError
from modelops_ray.store.storage.places import Place, place_of
from modelops_ray.study.condition import Condition


class RunConfig(Fields, BaseModel):
    """The options of `run` but for `--json`, `--quiet` and `--debug`, by their names in Python; frozen.

    Sizes are given as text (`4Gi`) or in bytes and read in bytes; times are in seconds. None is for what is adapted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def __init__(self, **given: Unpack[AllOptions]) -> None:
        """Check options as users write them.

        Raises:
            UsageError: One is out of range, or two contradict each other.
            TypeError: There is no such option.
        """
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise _refusal(error) from None

    @model_validator(mode="before")
    @classmethod
    def _stay_here(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Without another word `--backend local` starts no process: a debugger would not reach it."""
        return {"isolation": "none", **given} if given.get("backend") == "local" else given

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, given: object, info: ValidationInfo) -> object:
        return options()[str(info.field_name)].value_of(given)

    @field_validator("out")
    @classmethod
    def _read_out(cls, out: Path | str | None) -> Place | None:
        return None if out is None else place_of(out)

    @field_validator("where")
    @classmethod
    def _read_where(cls, where: str | None) -> str | None:
        if where is not None:
            Condition.parse(where)
        return where

    @model_validator(mode="after")
    def _require_agreement(self) -> Self:
        first, most = self.memory, self.max_memory
        if first and most and first > most:
            raise UsageError(f"--memory {format_size(first)} is above --max-memory {format_size(most)}")
        if self.fresh and self.retry_failed:
            raise UsageError("--fresh starts over and --retry-failed goes on; give one of them")
        return self


def _refusal(error: ValidationError) -> UsageError | TypeError:
    """Say in the words of the option what pydantic found: a value of the wrong type, or a name that is no option's."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    if name not in options():
        return TypeError(f"{name!r} is no option of run; {', '.join(options())} are")
    return options()[name].mistyped(first["input"])
