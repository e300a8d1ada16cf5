"""What a study would take, and what a few of its simulations did take: `plan` and `profile`.

Runs nothing for a plan; a profile is an ordinary session in a folder that is thrown away. Decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelops_ray.core.events import CapacityChanged
from modelops_ray.core.forecast import Forecast
from modelops_ray.errors import ModelError, StorageError, UsageError
from modelops_ray.model.inspection import measured
from modelops_ray.session import backends
from modelops_ray.session.execute import PLAN_FROM_SIMULATIONS, scratch_run
from modelops_ray.session.ports import Watcher
from modelops_ray.session.priors import WHERE_PROFILES_GO, Priors
from modelops_ray.session.request import RunRequest
from modelops_ray.study.sample import sample_positions


@dataclass(frozen=True, slots=True)
class Profiled:
    """What a few simulations took; sizes in bytes.

    A worker owns `worker_bytes` (interpreter and libraries) and `model_bytes` (importing the model) before its first
    simulation; the simulations added `peak_bytes_median` and at most `peak_bytes_max`, and ran `seconds` on average.
    """

    simulations: int
    failed: int
    worker_bytes: int
    model_bytes: int
    peak_bytes_median: int
    peak_bytes_max: int
    seconds: float


def foresee(question: RunRequest) -> Forecast:
    """Forecast a study from the profile of its model and the machine or cluster it would run on."""
    priors = Priors(question)
    state = priors.state(0)
    state.handle(CapacityChanged(0.0, backends.capacity(question)))
    n_simulations = question.n_simulations
    expected = state.forecast(
        n_simulations=n_simulations,
        n_sets=question.n_parameter_sets,
        n_left=n_simulations,
        bytes_each=priors.profile.output_bytes_per_simulation,
    )
    return replace(expected, warnings=tuple(_warnings(question, expected)))


def _warnings(question: RunRequest, expected: Forecast) -> list[str]:
    warnings = []
    if expected.seconds_per_simulation is None:
        warnings.append("nothing is known of this model yet; `modelops-ray profile STUDY` measures a few simulations")
    if note := question.note_on_repeats:
        warnings.append(note)
    if expected.simulations > PLAN_FROM_SIMULATIONS:
        warnings.append(
            f"{expected.simulations:,} simulations; fewer replicates, or an adaptive calibration in place of a grid, "
            "may answer the same question"
        )
    return warnings


def measure(question: RunRequest, samples: int, watcher: Watcher) -> Profiled:
    """Run a few simulations from all over the study and say what they took; the profile of the model is kept.

    UsageError for fewer than one, ModelError if none completed, StorageError if the profile cannot be kept.
    """
    if samples < 1:
        raise UsageError(f"--samples {samples} must be at least 1")
    model, model_bytes = measured(question.model)
    question = question.of_model(model)
    with scratch_run(question, sample_positions(question.simulations, samples, question.study.digest), watcher) as run:
        table = run.simulations()
    completed = [row for row in table.to_pylist() if row["status"] == "completed"]
    if not completed:
        row = table.to_pylist()[0]
        raise ModelError(f"no simulation completed; the first failed with {row['error_type']}: {row['error_message']}")
    profile = Priors(question).profile
    if not profile.peaks:
        raise StorageError(f"what was measured could not be kept; {WHERE_PROFILES_GO}, set it to a folder of yours")
    peaks = sorted(row["peak_bytes"] for row in completed)
    return Profiled(
        simulations=len(completed),
        failed=table.num_rows - len(completed),
        # With `fork` the model is imported by the fork server, and is no part of the worker.
        worker_bytes=max(0, profile.base_bytes - (0 if question.config.isolation == "fork" else model_bytes)),
        model_bytes=model_bytes,
        peak_bytes_median=peaks[len(peaks) // 2],
        peak_bytes_max=peaks[-1],
        seconds=sum(row["seconds"] for row in completed) / len(completed),
    )
