"""What a study needs of a cluster, from the profile of its model. Owns the way from measurements to a `Need`."""

from __future__ import annotations

from collections.abc import Mapping

from modelops_ray.cluster.manifests.sizing import Need
from modelops_ray.core.memory import with_margin
from modelops_ray.core.policy import Policy
from modelops_ray.session import priors, request, run_config
from modelops_ray.store.profiles import Profile

MEASURE = "`modelops-ray profile STUDY` measures a few simulations"


def need_of(question: request.RunRequest) -> Need | None:
    """What is known of a request's needs; None where neither a profile nor --memory says anything."""
    return need(len(question.simulations), priors.Priors(question).profile, question.config)


def need(n_simulations: int, profile: Profile, config: run_config.RunConfig) -> Need | None:
    """Return what simulations need according to a profile; None where that and the options do not say."""
    if not profile.peaks:
        if config.memory is None:
            return None
        profile = Profile(model_digest="", peaks={1: 1}, base_bytes=Policy().base_guess_bytes)
    on_disk, in_memory = profile.output_bytes_per_simulation, profile.payload_bytes_per_simulation
    return Need(
        simulations=n_simulations,
        limits=_limits(profile.peaks, config),
        cpus=config.cpus,
        worker_bytes=max(0, profile.base_bytes - profile.child_bytes),
        child_bytes=profile.child_bytes,
        shared_bytes=profile.shared_bytes,
        seconds=profile.seconds_per_simulation,
        output_bytes=None if on_disk is None else int(on_disk * n_simulations),
        payload_bytes=None if in_memory is None else int(in_memory * n_simulations),
        cap_bytes=config.max_memory,
    )


def _limits(peaks: Mapping[int, int], config: run_config.RunConfig) -> tuple[tuple[int, int], ...]:
    """Peaks with their margins; never below what the user gives, nor above the user's cap."""
    counts: dict[int, int] = {}
    for edge_bytes, count in peaks.items():
        limit_bytes = max(with_margin(edge_bytes), config.memory or 0)
        if config.memory is not None and edge_bytes == 1:
            limit_bytes = config.memory
        if config.max_memory is not None:
            limit_bytes = min(limit_bytes, config.max_memory)
        counts[limit_bytes] = counts.get(limit_bytes, 0) + count
    return tuple(sorted(counts.items()))
