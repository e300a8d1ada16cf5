"""The summary of a session: what `--json` prints, `progress.json` keeps at the end and `print_summary` shows.

Owns the names and their order. Counts nothing: a session fills it in when it ends.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

BOUNDS = "bounds"
"""Beside the keys of a summary, `progress.json` keeps under this name what bound the session: see `core.bounds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How far the run is and what this session took; sizes in bytes. The fields are the keys of `--json`.

    Attributes:
        simulations: How many the study has, or the shard.
        completed: How many have a result, those of earlier sessions included; `failed` likewise.
        resumed: How many had a row when this session began.
        seconds_to_first_commit: None where this session committed nothing.
        peak_bytes_max: The highest peak of any session; `request_bytes_max` likewise.
    """

    run_dir: str
    simulations: int
    completed: int
    failed: int
    resumed: int
    attempts: int = 0
    oom_retries: int = 0
    infrastructure_retries: int = 0
    wall_seconds: float = 0
    simulations_per_second: float = 0
    seconds_to_first_commit: float | None = None
    peak_bytes_max: int
    request_bytes_max: int
    spilled_bytes: int = 0
    driver_peak_rss_bytes: int

    def values(self) -> dict[str, Any]:
        """The fields as JSON values, in their order."""
        return asdict(self)
