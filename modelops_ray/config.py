"""Every knob of a run with its default, unit and range; read once at the edge, frozen afterwards.

Owns the parsing of sizes. Does not read the environment: the command line and `api` do, once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from modelops_ray.errors import UsageError

SeedPolicy = Literal["job-file", "dask-compatible"]
BackendName = Literal["ray", "local"]
Isolation = Literal["fork", "reuse", "fresh", "none"]

_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
MAX_SHARDS = 10_000
_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
_FAILURES = re.compile(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)%")
_MOST_FAILURES = 10**15
_SHOWN_CHARS = 60


def parse_size(text: str) -> int:
    """Read a size as Kubernetes writes it (`512Mi`, `4Gi`, `1.5G`, plain bytes) into bytes.

    Raises:
        UsageError: Not a positive size, or larger than 2**60 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{_shown(text)} is not a size; write it as 512Mi, 4Gi, 1.5G or a number of bytes")
    size_bytes = float(match[1]) * _UNITS[match[2]]
    if not 1 <= size_bytes <= 2**60:
        raise UsageError(f"{_shown(text)} is out of range; it must be between 1 byte and 1024Pi")
    return int(size_bytes)


def format_size(size_bytes: float) -> str:
    """Write bytes for people: 1536 is `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size_bytes) < 1024 or unit == "TiB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class MaxFailures:
    """When to stop because too many simulations failed: a count, or a share of the study in percent."""

    value: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """Read `N` or `P%`.

        Raises:
            UsageError: Neither a whole number from 1, nor a percentage above 0 and up to 100.
        """
        match = _FAILURES.fullmatch(text.strip())
        value = 0.0 if match is None else float(match[1] or match[2])
        percent = match is not None and match[2] is not None
        if not (0 < value <= 100 if percent else 1 <= value <= _MOST_FAILURES):
            shown = _shown(text)
            raise UsageError(f"--max-failures {shown} must be a whole number from 1, or a percentage such as 5%")
        return cls(value, percent)

    def count(self, n_simulations: int) -> int:
        """How many failures of a study of this size are too many."""
        return max(1, math.ceil(self.value * n_simulations / 100)) if self.percent else int(self.value)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the parts a study is split into; `number` counts from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`.

        Raises:
            UsageError: Not two whole numbers, or I is not between 1 and N.
        """
        match = _SHARD.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_SHARDS:
            raise UsageError(
                f"--shard {_shown(text)} must be I/N with I from 1 to N and N up to {MAX_SHARDS:,}, such as 2/8"
            )
        return cls(int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """The folder it is kept in."""
        return f"{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The options of `run`, as in the interface; sizes in bytes, times in seconds, None where it is adapted.

    `out` is a path, or a text that is the URI of a folder in an object store.
    """

    out: Path | str | None = None
    model: str | None = None
    address: str | None = None
    backend: BackendName = "ray"
    cpus: float = 1.0
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    limit_memory_bytes: int | None = None
    limit_cpus: int | None = None
    timeout_s: float = 1800.0
    attempts: int = 5
    max_failures: MaxFailures | None = None
    isolation: Isolation = "fork"
    per_child: int | None = None
    chunk: int | None = None
    window: int | None = None
    seeds: SeedPolicy = "job-file"
    only: str | None = None
    shard: Shard | None = None
    fresh: bool = False
    retry_failed: bool = False
    take_over: bool = False
    tolerate_failures: bool = False
    check_leaks: bool = False

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            UsageError: A knob is out of range, or two contradict each other.
        """
        if not (self.address is None or self.address.strip()):
            raise UsageError("--address is empty; give auto or HOST:PORT, or leave the option out")
        for name, value, words in (("--backend", self.backend, BackendName), ("--isolation", self.isolation, Isolation),
                                   ("--seeds", self.seeds, SeedPolicy)):  # fmt: skip
            if value not in get_args(words):
                raise UsageError(f"{name} {_shown(str(value))} must be one of {', '.join(get_args(words))}")
        _between("--cpus", self.cpus, 0.001, 1024)
        _between("--timeout", self.timeout_s, 0, 10**9)
        _between("--attempts", self.attempts, 1, 1000)
        _between("--per-child", self.per_child, 1, 1_000_000)
        _between("--chunk", self.chunk, 1, 100_000)
        _between("--window", self.window, 1, 100_000)
        _between("--limit-cpus", self.limit_cpus, 1, 4096)
        for name, size in (("--memory", self.memory_bytes), ("--max-memory", self.max_memory_bytes),
                           ("--limit-memory", self.limit_memory_bytes)):  # fmt: skip
            _between(name, size, 1, 2**60)
        if self.memory_bytes and self.max_memory_bytes and self.memory_bytes > self.max_memory_bytes:
            raise UsageError(
                f"--memory {format_size(self.memory_bytes)} is above --max-memory {format_size(self.max_memory_bytes)}"
            )
        if self.fresh and self.retry_failed:
            raise UsageError("--fresh starts over and --retry-failed goes on; give one of them")


def _between(name: str, value: float | None, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} {_shown(str(value))} must be a number between {low:g} and {high:g}")
    if low <= value <= high:
        return
    is_large = isinstance(value, int) and abs(value) > 10**15
    shown = "of more than 15 digits" if is_large else f"{value:g}"
    raise UsageError(f"{name} {shown} is out of range; it must be between {low:g} and {high:g}")


def _shown(text: str) -> str:
    """Write what was given in an error: in quotes, and not all of it where it is long."""
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")
