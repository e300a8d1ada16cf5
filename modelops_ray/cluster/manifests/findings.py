"""What is wrong with a manifest, as a value: the rule, the place, what was found, the remedy. Knows no rule itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Problem(NamedTuple):
    """Something wrong in one object; `place` is a JSON pointer into it."""

    rule: str
    place: str
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a file: one line for a person."""

    rule: str
    source: str
    object: str
    place: str
    found: str
    remedy: str

    @classmethod
    def of(cls, problem: Problem, source: str, name: str) -> Finding:
        """Say in which object of which file a problem is."""
        return cls(problem.rule, source, name, problem.place, problem.found, problem.remedy)

    def __str__(self) -> str:
        where = " ".join(part for part in (self.object, self.place) if part)
        said = "; ".join(part for part in (self.found, self.remedy) if part)
        return f"{self.source}: {where + ': ' if where else ''}{said} [{self.rule}]"


def pointer(path: Iterable[object]) -> str:
    """A path of keys and indices as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
