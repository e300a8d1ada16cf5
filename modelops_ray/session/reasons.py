"""The sentences that a run ends with, for a modeller at midnight: what happened, where, and what to do about it."""

from __future__ import annotations

from modelops_ray.core import reasons, report
from modelops_ray.core.places import place_of
from modelops_ray.core.policy import count, mib

_SHOWN_CHARACTERS = 200


def sentence(reason: reasons.Reason | str) -> str:
    """Say why a run ended; what was told by the user or by a worker stays as it is."""
    match reason:
        case str():
            return reason
        case reasons.TooManyCpus(cpus, most_cpus):
            return f"--cpus {cpus:g} is more than any node has ({most_cpus:g}); ask for less, or add a larger node"
        case reasons.TooMuchMemory(memory_bytes, base_bytes, top_bytes):
            return (
                f"--memory {mib(memory_bytes)} and {mib(base_bytes)} for the worker are more than the largest node "
                f"offers ({mib(top_bytes)}); ask for less, or add a larger node"
            )
        case reasons.KilledInVain(n_attempts):
            return (
                f"more than half of the last {n_attempts} attempts were killed for lack of memory although they stayed "
                "within their requests; something else uses the memory of the nodes: lower --limit-memory, or free it"
            )
        case reasons.PodsDie(n_pods, told):
            return (
                f"{told}; it is the last of {count(n_pods, 'pod')} that died of memory and took more simulations along "
                "than were completed meanwhile: lower the memory that Ray may give away in this tier (`resources` of "
                "the worker group), or give its pods more"
            )
        case reasons.TooManyFailed(n_failed):
            return f"{count(n_failed, 'simulation')} failed, which --max-failures does not allow"
        case reasons.AllFailAlike(1, first):
            return (
                f"{_told(first)} in the first simulation{_place(first)}, so that no other was run; fix the model, or "
                "continue anyway with --max-failures 100%"
            )
        case reasons.AllFailAlike(n_failed, first):
            return (
                f"{_told(first)} in the first {count(n_failed, 'simulation')}{_place(first)}; fix the model, or "
                "continue anyway with --max-failures 100%"
            )
        case reasons.NoProgress():
            return _no_progress(reason)


def _told(failure: report.Failure) -> str:
    text = " ".join(failure.message.split())
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 2] + " …"
    return f"{failure.error_type}: {shown}" if shown else failure.error_type


def _place(failure: report.Failure) -> str:
    """The last place in the model's own files that a traceback names, to go behind a sentence."""
    place = place_of(failure.traceback, "")
    return "" if place is None else f" ({place})"


def _no_progress(why: reasons.NoProgress) -> str:
    lacking = "nothing could be committed" if why.lacking is reasons.Lacking.COMMIT else "nothing finished"
    requests = ", ".join(map(mib, why.request_bytes)) or "none"
    return (
        f"{lacking} for {why.for_s:.0f} s: {count(why.n_tasks, 'task')} waiting or running (requests: {requests}; CPUs "
        f"each: {why.cpus:g}), {count(why.n_pending, 'simulation')} pending, {count(why.n_nodes, 'node')} with "
        f"{count(why.n_slots, 'slot')} in the cluster; {''.join(f'{said}; ' for said in why.said)}add nodes, lower "
        "--memory, or raise --timeout if a simulation may take that long"
    )
