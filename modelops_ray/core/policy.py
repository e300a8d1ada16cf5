"""The settings that decisions obey, as values; how bytes and counts are written. Does not know whence settings come."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


def mib(size_bytes: int) -> str:
    """Write bytes in MiB."""
    return f"{size_bytes / MIB:,.0f} MiB"


def count(n: int, what: str) -> str:
    """Write `1 simulation`, `12,000 simulations`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user asked for and the constants of the policies; sizes in bytes, times in seconds.

    `supervised` simulations run in processes of their own beside the worker: several may share a worker, and none of
    them can end it. `trial_wait_s` is how long the first simulation of an unknown model is waited for, 0 for no trial.
    """

    cpus: float = 1.0
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    attempts: int = 5
    max_failures: int | None = None
    timeout_s: float = 1800.0
    chunk: int | None = None
    window: int | None = None
    known_worker_bytes: int = 0
    known_child_bytes: int = 0
    known_shared_bytes: int = 0
    supervised: bool = False

    chunk_target_s: float = 1.0
    chunk_hold_s: float = 4.0
    chunk_least_s: float = 0.2
    first_visit_s: float = 0.1
    chunk_max: int = 5_000
    commit_within_s: float = 10.0
    commit_bytes: int = 64 * MIB
    commit_simulations: int = 5_000
    payload_budget_bytes: int = 256 * MIB
    payload_budget_per_node_bytes: int = 64 * MIB
    window_cap: int = 4000
    request_sizes: int = 12
    probes: int = 8
    alike_failures: int = 20
    trial_wait_s: float = 0.0
    base_guess_bytes: int = 128 * MIB
    no_progress_s: float = 600.0
    grace_s: float = 300.0

    @property
    def patience_s(self) -> float:
        """How long nothing may finish before the run is given up."""
        return max(self.no_progress_s, 1.5 * self.timeout_s)
