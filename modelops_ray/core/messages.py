"""The sentences a run ends with, for a modeller at midnight: what happened, where, and what to do about it."""

from __future__ import annotations

from modelops_ray.core.policy import mib
from modelops_ray.core.scheduler import Dispatch

HOPELESS = (
    "more than half of the last 200 attempts were killed for lack of memory although they stayed within their "
    "requests; something else uses the memory of the nodes: lower --limit-memory, or free it"
)

OUTPUTS_LOST = "its outputs were lost before they were committed"


def too_many_cpus(cpus: float, most_cpus: float) -> str:
    """No node has the CPUs one simulation asks for."""
    return f"--cpus {cpus:g} is more than any node has ({most_cpus:g}); ask for less, or add a larger node"


def too_much_memory(memory_bytes: int, base_bytes: int, top_bytes: int) -> str:
    """No node has the memory one simulation asks for."""
    return (
        f"--memory {mib(memory_bytes)} and {mib(base_bytes)} for the worker are more than the largest node offers "
        f"({mib(top_bytes)}); ask for less, or add a larger node"
    )


def needs_more(limit_bytes: int, request_bytes: int, *, at_maximum: bool, n_blamed: int, detail: str) -> str:
    """A simulation ran out of memory for the last time."""
    where = "the most there is here" if at_maximum else f"after {n_blamed} attempts"
    return f"needs more than {mib(limit_bytes)} (request {mib(request_bytes)}, {where}): {detail}"


def pods_die(n_deaths: int, sentence: str) -> str:
    """Pods die of memory again and again."""
    return (
        f"{sentence}; it is the last of {n_deaths} pods that died of memory and took more simulations along than were "
        "completed meanwhile: lower the memory that Ray may give away in this tier (`resources` of the worker group), "
        "or give its pods more"
    )


def no_progress(dispatch: Dispatch, missing: str, *says: str) -> str:
    """Nothing came of it for too long; `says` is what the cluster says about it."""
    requests = ", ".join(mib(size) for size in sorted(dispatch.allocator.sizes.in_use)) or "none"
    n_slots = dispatch.allocator.concurrency
    return (
        f"{missing}: {len(dispatch.outstanding)} tasks wait or run (requests: {requests}; "
        f"{dispatch.policy.cpus:g} CPUs each), {dispatch.pending.n} simulations are pending, and the cluster has "
        f"{len(dispatch.window.capacity.nodes)} nodes with {n_slots} slots; "
        f"{''.join(f'{said}; ' for said in says if said)}add nodes, lower --memory, or raise "
        "--timeout if a simulation may take that long"
    )
