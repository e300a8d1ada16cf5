"""Every option of a run: its type, default, range and unit, its line in `--help`, and the commands that take it.

Owns the reading of what was given, and the sentence about what may not be given. All options of a run are checked
together in `session.run_config`. Reads no environment, and imports no pydantic, so that `--help` and a worker need not.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

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
_SPAN = re.compile(r"([0-9]{0,15}):([0-9]{0,15})")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
_FAILURES = re.compile(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)%")
_MOST_FAILURES = 10**15
_SHOWN_CHARS = 60


def parse_size(text: str) -> int:
    """Read a size as Kubernetes writes it (`512Mi`, `4Gi`, `1.5G`, plain bytes) into bytes; else UsageError."""
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


def plain(value: Any) -> Any:
    """Turn a number, truth value or text of NumPy into the Python value it stands for; others are left as they are."""
    if type(value).__module__ != "numpy" or getattr(value, "ndim", None) != 0:
        return value
    found = value.item()
    return found if type(found) in (bool, int, float, str) else value


@dataclass(frozen=True, slots=True)
class MaxFailures:
    """When to stop because too many simulations failed: a count, or a share of the study in percent."""

    value: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """Read `N` or `P%`; UsageError unless N is from 1, or P above 0 and up to 100."""
        match = _FAILURES.fullmatch(text.strip())
        value = 0.0 if match is None else float(match[1] or match[2])
        percent = match is not None and match[2] is not None
        if not (0 < value <= 100 if percent else 1 <= value <= _MOST_FAILURES):
            raise UsageError(f"{_shown(text)} must be a whole number from 1, or a percentage such as 5%")
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
        """Read `I/N`; UsageError unless I is between 1 and N."""
        match = _SHARD.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_SHARDS:
            raise UsageError(f"{_shown(text)} must be I/N with I from 1 to N and N up to {MAX_SHARDS:,}, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """The folder it is kept in."""
        return f"{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, slots=True)
class Span:
    """Parameter sets from `first`, counted from 0, up to `last`, which is not among them; None for all that follow."""

    first: int
    last: int | None

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `FIRST:LAST`, of which one may be left out; UsageError unless FIRST is below LAST."""
        match = _SPAN.fullmatch(text.strip())
        first = int(match[1] or 0) if match else 0
        last = int(match[2]) if match and match[2] else None
        if match is None or not (match[1] or match[2]) or (last is not None and last <= first):
            raise UsageError(f"{_shown(text)} must be FIRST:LAST, counted from 0 and without LAST, such as 0:10")
        return cls(first, last)

    def __str__(self) -> str:
        return f"{self.first}:{'' if self.last is None else self.last}"


def _read_address(text: str) -> str:
    if not text.strip():
        raise UsageError("is empty; give auto or HOST:PORT, or leave the option out")
    return text


_RUN = frozenset({"run"})
_GOING_ON = _RUN | {"submit"}
_HERE = _RUN | {"plan", "profile"}
_ASKING = _HERE | {"submit"}
_RENDERED = _ASKING | {"render"}
_DEBUG = frozenset({"debug"})


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is shown, which commands take it, and what may be given for it.

    Attributes:
        help: Its line in `--help`; `{}` stands for its default.
        metavar: Stands for the value there and names its unit, as SECONDS does.
        commands: The commands that take it.
        between: The least and the greatest number that may be given.
        read: Makes the value of a text; what it raises does not name the option.
        name: The name of the field that carries this option; `kind` is its type, and `default` its default.
    """

    help: str
    metavar: str | None = None
    commands: frozenset[str] = _ASKING
    between: tuple[float, float] | None = None
    read: Callable[[str], object] | None = None
    name: str = ""
    kind: Any = None
    default: object = None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown_help(self) -> str:
        """Its line in `--help`, with the default."""
        return self.help.replace("{}", f"{self.default:g}" if isinstance(self.default, float) else str(self.default))

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may be given; empty where it is no choice."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def is_repeated(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.kind) is tuple

    @property
    def number(self) -> type[int | float] | None:
        """The type of numbers that may be given; None where it is no number."""
        if self.between is None:
            return None
        return int if int in (self.kind, *get_args(self.kind)) else float

    def value_of(self, given: object) -> object:
        """Read what was given; its type is checked by the field.

        Raises:
            UsageError: It is out of range, none of the choices, or `read` does not take it.
        """
        try:
            return None if given is None and self.default is None else self._read(given)
        except UsageError as error:
            raise UsageError(f"{self.flag} {error}") from None

    def _read(self, given: object) -> object:
        if self.is_repeated:
            paths = given if isinstance(given, list | tuple) else [given]
            if not all(isinstance(path, str | Path) for path in paths):
                raise UsageError(f"{_shown(str(given))} must be a path, or a list of paths")
            return tuple(map(str, paths))
        given = plain(given)
        if self.choices and given not in self.choices:
            raise UsageError(f"{_shown(str(given))} must be one of {', '.join(self.choices)}")
        if self.between is not None:
            _require_between(given, *self.between)
        return given if self.read is None else self.read(str(given))

    def mistyped(self, given: object) -> UsageError:
        """Say that what was given is not of the type of the field."""
        expected = "true or false" if self.kind is bool else "a list of texts" if self.is_repeated else "a text"
        if self.between is not None:
            low, high = self.between
            expected = f"a {'whole ' if self.number is int else ''}number between {low:g} and {high:g}"
        return UsageError(f"{self.flag} {_shown(str(given))} must be {expected}")


class Fields:
    """The options of `run`, as the fields of `RunConfig`; sizes in bytes, times in seconds, None where it is adapted.

    An option is added here, with its name in `JobOptions` or `Options` below for typed keyword arguments; what the core
    and the workers obey is passed on by `session.request`. Those that `profile` does not take say where a run is and
    which part of it is done; they stand first.
    """

    out: Annotated[
        Path | str | None, Option("Run directory, a path or s3://, gs://, az:// (runs/<study>-<8 hex>).", "DIR", _RUN)
    ] = None
    shard: Annotated[
        Shard | None, Option("Part I of N of the study, by parameter set.", "I/N", _RUN | {"plan"}, read=Shard.parse)
    ] = None
    fresh: Annotated[bool, Option("Start over; the old run is moved aside.", commands=_GOING_ON)] = False
    retry_failed: Annotated[bool, Option("Repeat what failed.", commands=_GOING_ON)] = False
    only: Annotated[str | None, Option("Run one simulation, again if it failed.", "TASK_ID", _GOING_ON | _DEBUG)] = None
    take_over: Annotated[bool, Option("Go on although another session seems to write.", commands=_GOING_ON)] = False
    accept_changes: Annotated[
        bool, Option("Keep results although a file that they used has changed.", commands=_GOING_ON)
    ] = False
    tolerate_failures: Annotated[bool, Option("Exit 0 instead of 3.", commands=_GOING_ON)] = False
    check_leaks: Annotated[
        bool, Option("At the end, compare a few simulations with new processes.", commands=_GOING_ON)
    ] = False
    keep_output: Annotated[
        bool, Option("Keep what every simulation prints, not only of those that fail.", commands=_GOING_ON)
    ] = False
    model: Annotated[
        str | None,
        Option("path/to/file.py:function or package.module:function.", "REF", _RENDERED | _DEBUG | {"check"}),
    ] = None
    params: Annotated[
        Path | str | None,
        Option("Table of the parameter sets: .csv, .parquet or .arrow; STUDY is a model.", "TABLE", _ASKING | _DEBUG),
    ] = None
    replicates: Annotated[
        int | None, Option("Simulations of each parameter set without a seed.", "N", _ASKING | _DEBUG, (1, 10_000_000))
    ] = None
    sets: Annotated[
        Span | None, Option("Only these sets, from 0, LAST excluded.", "FIRST:LAST", _ASKING | _DEBUG, read=Span.parse)
    ] = None
    where: Annotated[
        str | None, Option("Only the sets where this holds: beta<0.5 and gamma>1.", "EXPR", _ASKING | _DEBUG)
    ] = None
    include: Annotated[
        tuple[str, ...],
        Option("A file or folder the model reads without telling Python; repeatable.", "PATH", _RENDERED | {"check"}),
    ] = ()
    address: Annotated[
        str | None,
        Option("'auto' or HOST:PORT of a running Ray; default: starts its own Ray.", "ADDR", _HERE, read=_read_address),
    ] = None
    backend: Annotated[
        BackendName, Option("'local' runs in this process, where a debugger reaches it.", commands=_HERE)
    ] = "ray"
    cpus: Annotated[float, Option("CPUs per simulation ({}).", "N", _RENDERED, (0.001, 1024))] = 1.0
    memory: Annotated[
        int | None,
        Option("First request per simulation (512Mi, 4Gi); still raised.", "SIZE", _RENDERED, read=parse_size),
    ] = None
    max_memory: Annotated[
        int | None, Option("The most a simulation may be given.", "SIZE", _RENDERED, read=parse_size)
    ] = None
    limit_memory: Annotated[
        int | None, Option("Limit for that Ray, of this machine's memory.", "SIZE", _HERE, read=parse_size)
    ] = None
    limit_cpus: Annotated[
        int | None, Option("Limit for that Ray; may exceed the machine's.", "N", _HERE, (1, 4096))
    ] = None
    timeout: Annotated[float, Option("Per simulation ({}), 0 for none.", "SECONDS", _RENDERED, (0, 10**9))] = 1800.0
    attempts: Annotated[int, Option("Attempts that run out of memory or crash ({}).", "N", between=(1, 1000))] = 5
    max_failures: Annotated[
        MaxFailures | None, Option("Stop when N simulations, or P% of all, failed.", "N|P%", read=MaxFailures.parse)
    ] = None
    isolation: Annotated[
        Isolation,
        Option(
            "A fork of the loaded model (fork), a process that goes on (reuse), a new interpreter (fresh), or none."
        ),
    ] = "fork"
    per_child: Annotated[
        int | None, Option("Simulations per process, instead of adapted.", "N", between=(1, 1_000_000))
    ] = None
    chunk: Annotated[int | None, Option("Simulations per task, instead of adapted.", "N", between=(1, 100_000))] = None
    window: Annotated[int | None, Option("Tasks outstanding, instead of adapted.", "N", between=(1, 100_000))] = None
    seeds: Annotated[SeedPolicy, Option("Seed policy ({}).", commands=_RENDERED | _DEBUG)] = "job-file"

    @property
    def is_on_cluster(self) -> bool:
        """Whether workers of a cluster run the simulations, each beside processes for them, on nodes that may go."""
        return self.backend != "local"


class JobOptions(TypedDict, total=False):
    """The options of `submit`, by the same names; sizes as text (`4Gi`) or bytes, times in seconds."""

    accept_changes: bool
    attempts: int
    check_leaks: bool
    chunk: int | None
    cpus: float
    fresh: bool
    include: Sequence[str | Path]
    isolation: Isolation
    keep_output: bool
    per_child: int | None
    max_failures: str | int | None
    max_memory: str | int | None
    memory: str | int | None
    only: str | None
    params: str | Path | None
    replicates: int | None
    retry_failed: bool
    seeds: SeedPolicy
    sets: str | None
    shard: str | None
    take_over: bool
    timeout: float
    where: str | None
    window: int | None


class Options(JobOptions, total=False):
    """The options of `run`, by the same names; sizes as text (`4Gi`) or bytes, times in seconds."""

    address: str | None
    backend: BackendName
    limit_cpus: int | None
    limit_memory: str | int | None


class AllOptions(Options, total=False):
    """And those that the functions of `api` name in their own signatures."""

    model: str | None
    out: str | Path | None
    tolerate_failures: bool


@functools.cache
def options() -> Mapping[str, Option]:
    """Every option by its name in Python, in the order of `--help`."""
    found = {}
    for name, hint in get_type_hints(Fields, include_extras=True).items():
        kind, option = get_args(hint)
        found[name] = replace(option, name=name, kind=kind, default=getattr(Fields, name))
    return found


def _require_between(value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{_shown(str(value))} must be a number between {low:g} and {high:g}")
    if low <= value <= high:
        return
    shown = "of more than 15 digits" if isinstance(value, int) and abs(value) > 10**15 else f"{value:g}"
    raise UsageError(f"{shown} is out of range; it must be between {low:g} and {high:g}")


def _shown(text: str) -> str:
    """Write what was given in an error: in quotes, and not all of it where it is long."""
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")
