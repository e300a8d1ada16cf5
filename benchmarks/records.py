"""What is kept of every run, and the files it is kept in: one JSON line per run, failures too.

Owns the form of a record and what each says beside its figures: versions and machine. Measures nothing.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.cgroups import why_not

RECORDS = Path(__file__).parent / "records"
PACKAGES = ("modelops-ray", "ray", "dask", "distributed", "numpy", "pyarrow", "starsim")

Outcome = Literal["complete", "incomplete", "stuck", "failed"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Frozen):
    """Where it was measured; `pods` says why there were none, or is empty."""

    cpus: int
    memory_bytes: int
    processor: str
    kernel: str
    no_pods_because: str


class PodRecord(_Frozen):
    """What one pod went through; `memory_mib` are its samples, `peak_bytes` the largest without the page cache.

    `memory_mib` is evenly spaced in time from the start of the pods on.
    """

    limit_bytes: int
    peak_bytes: int
    kernel_kills: int
    restarts: int
    memory_mib: list[int]


class Record(_Frozen):
    """One run of one case by one engine; times in seconds from the moment its workers were there.

    `per_second` is from the first result on, so that start-ups are apart. `commit` is that of this repository.
    `progress` are (seconds, done, committed, lost). `efficiency` is over `pool`'s in the same round.
    """

    run_id: str
    scenario: str
    size: str
    point: float | None
    engine: str
    repeat: int
    outcome: Outcome
    why: str
    time: str
    commit: str
    versions: dict[str, str]
    place: Place
    pods: int
    pod_bytes: int | None
    slots: int
    seed: int
    simulations: int
    done: int
    lost: int
    wrong: int
    checked: int
    limit_s: float
    startup_s: float
    wall_s: float
    cpu_s: float | None
    per_second: float | None
    efficiency: float | None
    first_result_s: float | None
    first_commit_s: float | None
    spilled_bytes: int | None
    driver_peak_bytes: int | None
    driver_own_bytes: int | None
    kernel_kills: int
    pod_restarts: int
    engine_kills: int
    losses: int
    attempts: int | None
    retries: int | None
    wasted_s: float | None
    pod_records: list[PodRecord]
    sampled_every_s: float
    progress: list[tuple[float, int, int, int]]
    facts: dict[str, Any]
    held_bytes: int | None = None
    """What everything in the pods had together, shared pages once, while all simulations held theirs."""


def place() -> Place:
    """Describe this machine."""
    return Place(
        cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        processor=platform.machine(),
        kernel=platform.release().partition("-")[0],
        no_pods_because=why_not(),
    )


@cache
def versions() -> dict[str, str]:
    """Say what was measured, by distribution, and with which Python."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


@cache
def commit() -> str:
    """Name the commit that was measured, with a `+` where code differs from it; empty outside of a clone."""
    git = ("git", "-C", str(RECORDS.parents[1]))
    with suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, check=True, text=True)
        differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "*.py", "uv.lock"], check=False).returncode
        return found.stdout.strip() + "+" * bool(differs)
    return ""


def now() -> str:
    """Say when."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(path: Path, records: Sequence[Record]) -> None:
    """Keep records; none leave no file."""
    if not records:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")


def read(folder: Path, names: Sequence[str] = ()) -> list[Record]:
    """Read all records of a folder, of some scenarios where these are named."""
    paths = sorted(folder.glob("*.jsonl"))
    chosen = [path for path in paths if not names or path.stem in names]
    return [Record.model_validate_json(line) for path in chosen for line in path.read_text().splitlines() if line]


def keep(name: str, figures: dict[str, Any]) -> None:
    """Print figures that are no run of an engine, and append them to `records/figures/<name>.jsonl`."""
    record = {"benchmark": name, "time": now(), **versions(), "cpus": os.cpu_count(), **figures}
    path = RECORDS / "figures" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record, indent=1))
