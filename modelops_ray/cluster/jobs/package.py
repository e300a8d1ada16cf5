"""What a study becomes as a Ray job: its name, its command line, its runtime environment, and what its end means.

Pure: facts in, values out. `sources` decides which files travel, `dashboard` talks to the cluster.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modelops_ray.errors import BackendError, UsageError

STUDY_FILE = "study.json"
STOP_WAIT_S = 300
"""How long a job that was told to stop may take to commit what it finished; Ray's own default is 3 s."""

METADATA = "modelops_ray"
"""The metadata key that marks a job as one of this program's; its value is our version."""

EPHEMERAL = "${TMPDIR:-/tmp}/modelops-ray-ephemeral"
"""Where a relative run directory lies on the head: not in the job's working directory, which Ray removes."""

INTERRUPTED = 130
_LONGEST_NAME = 40
_SIGNALLED = 128
_OPTIONS_HERE = frozenset({"model", "out", "params", "replicates", "include"})
"""What the packed study and the job's command line say in another way."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What the cluster's Python lacks: requirements to install; `differ` are (name, version there, version here)."""

    install: tuple[str, ...] = ()
    differ: tuple[tuple[str, str, str], ...] = ()


def dashboard_address(given: str | None, environ: Mapping[str, str]) -> str:
    """The URL of the dashboard that jobs are sent to: as given, else `RAY_ADDRESS`; UsageError if it is no URL."""
    address = given or environ.get("RAY_ADDRESS") or ""
    if not address:
        raise UsageError("no cluster is named; give --address http://HOST:8265, or set RAY_ADDRESS to it")
    name = "--address" if given else "RAY_ADDRESS"
    scheme, separator, rest = address.partition("://")
    if scheme in {"http", "https"}:
        host = None
        with suppress(ValueError):  # brackets without an address in them
            host = urlsplit(address).hostname
        if host is None:
            raise UsageError(f"{name} {address} names no host; write http://HOST:8265")
        return address.rstrip("/")
    host = rest.partition(":")[0] or "HOST"
    if scheme == "ray" and separator:
        raise UsageError(f"{name} {address} is Ray Client's; jobs go to the dashboard, as in http://{host}:8265")
    raise UsageError(
        f"{name} {address} is not a dashboard's, as in http://HOST:8265; "
        "on a machine of the cluster itself use modelops-ray run --address auto"
    )


def run_directory(out: str | None, default: str, *, is_ephemeral: bool) -> str:
    """Where the job writes, as it stands in its command line, quoted for a shell.

    That is the user's `out`, or else `default`. A relative one dies with the head: UsageError unless `is_ephemeral`.
    """
    if out is not None and ("://" in out or PurePosixPath(out).is_absolute()):
        return shlex.quote(out)
    if not is_ephemeral:
        what = "no --out" if out is None else f"--out {out}"
        raise UsageError(
            f"{what}: the results would be lost with the cluster's head; "
            "give an absolute path on storage that outlives it, or --ephemeral"
        )
    return f'"{EPHEMERAL}/"{shlex.quote(out or default)}'


def shown(run_dir: str) -> str:
    """A run directory from a command line, without its quotes."""
    return "".join(shlex.split(run_dir))


def submission_ids(study: str, token: str, shards: int) -> tuple[str, ...]:
    """Names of jobs: the study's name and eight hex digits, and in a sharded run the number of the shard."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", study).strip("-")[:_LONGEST_NAME].rstrip("-") or "study"
    if shards == 1:
        return (f"{name}-{token}",)
    return tuple(f"{name}-{token}-{shard}-of-{shards}" for shard in range(1, shards + 1))


def run_arguments(options: Mapping[str, Any]) -> list[str]:
    """Options by their names in Python as arguments of `modelops-ray run`, sorted; None and False are left out."""
    found: list[str] = []
    for name, value in sorted(options.items()):
        if name in _OPTIONS_HERE or value is None or value is False:
            continue
        option = f"--{name.replace('_', '-')}"
        # A value that begins with a dash must not become an option.
        found.append(option if value is True else f"{option}={value}")
    return found


def entrypoint(out: str, arguments: Sequence[str]) -> str:
    """The command of a job, for a shell; `out` is quoted already.

    Ray names the job's cluster in RAY_ADDRESS, which is exact where `auto` would guess.
    """
    return f"exec python -m modelops_ray run {STUDY_FILE} --out {out} {shlex.join(arguments)}".rstrip()


def commands(study: str, token: str, shards: int, out: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The command of each job by its name: one job, or one for each shard; as `submission_ids` and `entrypoint`."""
    arguments = run_arguments(options)
    ids = submission_ids(study, token, shards)
    if shards == 1:
        return {ids[0]: entrypoint(out, arguments)}
    return {job: entrypoint(out, [*arguments, f"--shard={n}/{shards}"]) for n, job in enumerate(ids, start=1)}


def lacking(needed: Iterable[str], here: Mapping[str, str], there: Mapping[str, str], also: Iterable[str] = ()) -> Lack:
    """Compare what is needed with what the cluster's Python has (`there`), which always has Ray.

    `needed` are our own requirements, as in `rich>=14`, `here` the versions of the distributions here that the model's
    files import, `also` requirements of the user's: UsageError where one is none.
    """
    has: dict[str, str] = {canonicalize_name(name): version for name, version in there.items()}
    install = [str(each) for each in map(Requirement, needed) if _is_lacking(each, has)]
    differ = []
    for name, version in sorted(here.items()):
        found = has.get(canonicalize_name(name))
        if canonicalize_name(name) == "ray" or found == version:
            continue
        if found is None:
            install.append(f"{name}=={version}")
        else:
            differ.append((name, found, version))
    asked = [str(each) for each in map(_requirement, also) if _is_lacking(each, has)]
    taken = {canonicalize_name(Requirement(each).name) for each in asked}
    kept = [each for each in install if canonicalize_name(Requirement(each).name) not in taken]
    differ = [each for each in differ if canonicalize_name(each[0]) not in taken]
    return Lack(tuple(sorted({*kept, *asked})), tuple(differ))


def _is_lacking(each: Requirement, has: Mapping[str, str]) -> bool:
    name = canonicalize_name(each.name)
    if name == "ray" or (each.marker is not None and not each.marker.evaluate({"extra": ""})):
        return False
    return name not in has or not each.specifier.contains(has[name], prereleases=True)


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise UsageError(f"--install {text!r} is not a requirement such as starsim==3.0.1; correct it") from error


def installer(lack: Lack, there: Mapping[str, str]) -> str:
    """The field of a runtime environment that installs what is lacking, empty where nothing is; `pip`, else `uv`.

    BackendError where the cluster's Python has neither: Ray would find out after two minutes.
    """
    if not lack.install:
        return ""
    for name in ("pip", "uv"):
        if name in there:
            return name
    raise BackendError(
        f"the cluster lacks {', '.join(lack.install)}, and its Python has neither pip nor uv; put them into the image"
    )


def runtime_env(folder: str, ours: str, lack: Lack, install_by: str = "pip") -> dict[str, Any]:
    """The runtime environment of a job with this working directory, which installs what is lacking by pip or uv.

    `ours` is the folder of this package, which travels apart: it is uploaded once for all jobs.
    """
    env_vars = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    found: dict[str, Any] = {"working_dir": folder, "py_modules": [ours], "env_vars": env_vars}
    return found | ({install_by: list(lack.install)} if lack.install else {})


def exit_code(status: str, driver_exit_code: int | None) -> int:
    """The exit code of `run` in a job that has ended; Ray itself only says that it failed.

    A driver killed by a signal has 128 plus its number, as in a shell; one that never started 1, one told to stop 130.
    """
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return INTERRUPTED
    if driver_exit_code is None:
        return 1
    return driver_exit_code if driver_exit_code > 0 else _SIGNALLED - driver_exit_code


def is_over(status: str) -> bool:
    """Whether this is a final state of a job."""
    return status in {"SUCCEEDED", "FAILED", "STOPPED"}
