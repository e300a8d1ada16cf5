"""What a study will take, computed from measurements of its model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from modelops_ray.core.scheduler import Dispatch


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected; None where it is not known.

    `concurrency` is how many simulations run at once, `request_bytes` what one of them asks for, `wall_seconds` how
    long the simulations not done yet will take on the nodes that are there now, `output_bytes` what all will have
    written to disk. `warnings` are sentences for the user.
    Their memory alone holds `fit_in_memory` simulations at once, and `fit_unshared` if each imported the model itself.
    """

    simulations: int
    parameter_sets: int
    request_bytes: int | None
    seconds_per_simulation: float | None
    concurrency: int | None
    wall_seconds: float | None
    output_bytes: int | None
    warnings: tuple[str, ...] = ()
    fit_in_memory: int | None = None
    fit_unshared: int | None = None

    def values(self) -> dict[str, Any]:
        """What `plan --json` prints."""
        return {key: value for key, value in asdict(self).items() if not key.startswith("fit_")}


def forecast(
    dispatch: Dispatch, *, n_simulations: int, n_sets: int, n_left: int, bytes_each: float | None = None
) -> Forecast:
    """Forecast a run from what its dispatch has measured, or got from a profile.

    Args:
        dispatch: Of the run.
        n_simulations: How many the run is to answer.
        n_sets: Of how many parameter sets.
        n_left: How many have no row yet.
        bytes_each: Bytes on disk of the results of one simulation; None where not known.
    """
    is_known = dispatch.memory.n_samples > 0 and bool(dispatch.window.capacity.nodes)
    request_bytes = dispatch.allocator.typical_request_bytes if is_known or dispatch.policy.memory_bytes else None
    concurrency = dispatch.allocator.concurrency if request_bytes and is_known else None
    seconds = dispatch.mean_seconds if is_known else None
    together, alone = dispatch.allocator.fit_in_memory if request_bytes and is_known else (None, None)
    return Forecast(
        simulations=n_simulations,
        parameter_sets=n_sets,
        request_bytes=request_bytes,
        seconds_per_simulation=seconds,
        concurrency=concurrency,
        wall_seconds=n_left * seconds / concurrency if seconds is not None and concurrency else None,
        output_bytes=int(bytes_each * n_simulations) if bytes_each else None,
        fit_in_memory=together,
        fit_unshared=alone,
    )
