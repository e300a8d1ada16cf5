"""What a session is asked: a checked study, its simulations, its model and the knobs.

Owns what is found wrong before anything is started or touched on disk, and the name of the run directory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelops_ray.backends.ray import pickle_by_value
from modelops_ray.config import RunConfig
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import UsageError
from modelops_ray.runner.loading import ModelRef
from modelops_ray.runner.model import resolve_model
from modelops_ray.store.places import Place
from modelops_ray.study.identity import task_id
from modelops_ray.study.rows import RunIdentity
from modelops_ray.study.schema import parameter_types
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a session needs to know; `only` are the positions to run where not all are."""

    study: Study
    simulations: Simulations
    model: ModelRef
    identity: RunIdentity
    config: RunConfig
    out: Place
    only: Ranges | None

    @property
    def note_on_repeats(self) -> str | None:
        """One sentence on simulations that the study lists more than once; None if there are none."""
        n = self.simulations.repeats
        if not n:
            return None
        verb, runs = ("is", "runs") if n == 1 else ("are", "run")
        return f"{n:,} simulation{'' if n == 1 else 's'} {verb} listed more than once and {runs} once"


def ask(study: Study, model: str | Callable[..., object] | None, config: RunConfig, name: str) -> Question:
    """Check everything that can be checked without a cluster and without touching the disk.

    Args:
        study: What to run.
        model: In place of the study's own; relative to the working directory, the study's to its file.
        config: The knobs.
        name: Of the study, for its default run directory.

    Raises:
        StudyError: The study names no model, or its seeds do not fit the policy.
        ModelError: The model cannot be found or called.
        UsageError: `--only` names no simulation of the study.
    """
    simulations = Simulations(study, config.seeds)
    base = Path.cwd() if model is not None else study.folder or Path.cwd()
    chosen = model if model is not None else study.model
    if chosen is None:
        raise UsageError("the study names no model; give one with --model path/to/file.py:function")
    ref = resolve_model(chosen, base, pickle_by_value)
    identity = RunIdentity(
        entrypoint=f"{ref.entrypoint_name}/{study.scenario}",
        bundle_ref=f"sha256:{ref.digest}",
        scenario=study.scenario,
        parameter_types=parameter_types(study),
    )
    out = config.out or Path("runs") / f"{name}-{_short_digest(study.digest, ref.digest, config.seeds)}"
    only = None if config.only is None else _only(config.only, simulations, identity)
    return Question(study, simulations, ref, identity, config, out, only)


def _short_digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:8]


def _only(wanted: str, simulations: Simulations, identity: RunIdentity) -> Ranges:
    for simulation in simulations:
        if task_id(identity.bundle_ref, identity.entrypoint, simulation.param_id, simulation.seed) == wanted:
            return Ranges.of([simulation.position])
    raise UsageError(
        f"--only {wanted}: no simulation of the study has this task_id; `results --to FILE.csv` lists them"
    )
