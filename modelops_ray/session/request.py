"""What a session is asked: a checked study, its simulations, its model and the knobs.

Owns what is found wrong before anything is started or touched on disk, the name of the run directory, and what the core
and the workers obey, made of the options.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelops_ray.backends.ray.backend import pickle_by_value
from modelops_ray.config import Span
from modelops_ray.core.policy import Policy, count
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ModelError, UsageError
from modelops_ray.model.inspection import look_at
from modelops_ray.model.resolve import find_model
from modelops_ray.runner.executor import ChunkContext
from modelops_ray.sandbox.loading import ModelRef, former_digest_of
from modelops_ray.sandbox.reading import MAX_FILES, states_of
from modelops_ray.session.run_config import RunConfig
from modelops_ray.store.commits import Log
from modelops_ray.store.profiles import Profile
from modelops_ray.store.run_json import NAME as RUN_JSON
from modelops_ray.store.run_json import read_run_json
from modelops_ray.store.shards import FOLDER as SHARDS
from modelops_ray.store.storage.places import Place, inside, open_folder
from modelops_ray.study import rows, schema
from modelops_ray.study.condition import Condition
from modelops_ray.study.identity import task_id
from modelops_ray.study.simulations import Simulations, scope_of
from modelops_ray.study.study import Study

TRIAL_WAIT_S = 60.0
"""How long other simulations wait for the first one of a model of which nothing is known: what is wrong shows early."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything a session needs to know.

    Attributes:
        out: The run directory of the session: that of the whole run, or of the shard.
        whole: The run directory of the whole run.
        scope: The positions that the run directory is to answer where it is that of a shard.
        only: The positions to run where not all are.
        study_path: The study file as it was given; "" where the study has none.
        files: What the model reads without telling Python, as absolute paths.
        note: What the user is to be told at the start; "" for nothing.
        known: The log of the run directory, where it was read to find out what is asked.
    """

    study: Study
    simulations: Simulations
    model: ModelRef
    identity: rows.RunIdentity
    config: RunConfig
    out: Place
    whole: Place
    scope: Ranges | None
    only: Ranges | None
    study_path: str = ""
    files: tuple[str, ...] = ()
    note: str = ""
    known: Log | None = None

    @property
    def n_simulations(self) -> int:
        """How many simulations the run directory is to answer."""
        return len(self.simulations) if self.scope is None else len(self.scope)

    @property
    def n_parameter_sets(self) -> int:
        """How many parameter sets the simulations that this run has to do are of."""
        if self.scope is None:
            return self.simulations.n_parameter_sets
        outside = self.scope.complement(len(self.simulations))
        return len({segment.set_index for segment in self.simulations.segments(outside)})

    @property
    def repeat(self) -> Ranges:
        """Positions to run although they failed before."""
        if self.config.only is None and not self.config.retry_failed:
            return Ranges()
        return Ranges([(0, len(self.simulations))]) if self.only is None else self.only

    def inspected(self) -> RunRequest:
        """Return it with a model of which a new process has made sure that it can be called; ModelError if it cannot.

        Not needed where every simulation has a row already.
        """
        return self.of_model(look_at(self.model))

    def of_model(self, model: ModelRef) -> RunRequest:
        """Return it with a model that was looked at, whose every result depends on the declared files, too."""
        declared = {*model.imported, *states_of(self.files, model.folder)}
        return replace(self, model=replace(model, imported=tuple(sorted(declared))))

    @property
    def note_on_repeats(self) -> str | None:
        """One sentence on simulations that the study lists more than once; None if there are none."""
        n = self.simulations.repeats
        if not n:
            return None
        verb, runs = ("is", "runs") if n == 1 else ("are", "run")
        return f"{count(n, 'simulation')} {verb} listed more than once and {runs} once"


def ask(study: Study, model: str | Callable[..., object] | None, config: RunConfig, name: str) -> RunRequest:
    """Check everything that can be checked without a cluster, the disk, or importing the model.

    StudyError, ModelError or UsageError if the study, the model or an option is wrong. A given `model` is relative to
    the working directory, the study's own to its file; the default run directory begins with `name`.
    """
    simulations = Simulations(study, config.seeds)
    given = model if model is not None else config.model
    base = Path.cwd() if given is not None else study.folder or Path.cwd()
    chosen = given if given is not None else study.model
    if chosen is None:
        raise UsageError("the study names no model; give one, as in mr.run(study, model=your_function)")
    if isinstance(given, str):
        # Recorded with the other options: `why` names the command that runs one simulation.
        config = config.model_copy(update={"model": given})
    ref = find_model(chosen, base, pickle_by_value)
    identity = rows.RunIdentity(
        entrypoint=f"{ref.entrypoint_name}/{study.scenario}",
        bundle_ref=f"sha256:{ref.digest}",
        scenario=study.scenario,
        parameter_types=schema.parameter_types(study.parameter_sets),
    )
    out = config.out or _default_directory(study, ref, config, name)
    scope = None if config.shard is None else scope_of(simulations, config.shard)
    place = out if config.shard is None else inside(out, f"{SHARDS}/{config.shard.name}")
    begun = identity if config.only is None else _as_begun(identity, place)
    only = _chosen(config, simulations, begun, scope)
    files = (
        *declared(config.include, Path.cwd(), "--include"),
        *declared(study.files or (), base, "the study's files"),
    )
    return RunRequest(study, simulations, ref, identity, config, place, out, scope, only, files=files)


def _default_directory(study: Study, model: ModelRef, config: RunConfig, name: str) -> Path:
    """The folder of a question: a model whose files have changed is the same question, of which results are stale."""
    out = default_directory(study.digest, model, config, name)
    if model.kind != "pickled" and not out.exists() and out.parent.is_dir():
        # Earlier versions named it by the digest of all Python files beside the model.
        with suppress(ModelError):
            former = _named(study.digest, former_digest_of(model), config, name)
            return former if former.exists() else out
    return out


def default_directory(study: str, model: ModelRef, config: RunConfig, name: str) -> Path:
    """The folder of a study with this digest, whether or not it is there."""
    if model.kind == "pickled":
        return _named(study, model.digest, config, name)
    where = os.path.relpath(model.location) if model.kind == "file" else model.location
    return _named(study, hashlib.sha256(f"{where}:{model.function}".encode()).hexdigest(), config, name)


def _named(study: str, model: str, config: RunConfig, name: str) -> Path:
    digest = hashlib.sha256(f"{study}|{model}|{config.seeds}".encode()).hexdigest()
    return Path("runs") / f"{name}-{digest[:8]}"


def _as_begun(identity: rows.RunIdentity, place: Place) -> rows.RunIdentity:
    """By which simulations are identified in a run that is there: it may have begun with another state of the model."""
    folder = open_folder(place)
    run = read_run_json(folder) if folder.size(RUN_JSON) is not None else None
    return identity if run is None else replace(identity, bundle_ref=run.bundle_ref)


def declared(paths: Sequence[str], folder: Path, by: str) -> tuple[str, ...]:
    """The absolute paths of declared files, and of all files in declared folders.

    UsageError where there is none, or there are more than can be recorded.
    """
    found: dict[str, None] = {}
    for given in paths:
        path = Path(os.path.normpath(folder / Path(given).expanduser()))
        if not path.exists():
            raise UsageError(f"{by}: {given} does not exist in {folder}; correct the path")
        inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        found |= dict.fromkeys(map(str, inside))
        if len(found) > MAX_FILES:
            raise UsageError(f"{by}: {given} has more than {MAX_FILES:,} files; name those that the model reads")
    return tuple(found)


def _chosen(
    config: RunConfig, simulations: Simulations, identity: rows.RunIdentity, scope: Ranges | None
) -> Ranges | None:
    """The positions to run; None for all."""
    chosen = scope if config.only is None else _only(config.only, simulations, identity, scope)
    if config.sets is not None:
        chosen = _both(chosen, simulations.positions_of_sets(_within(config.sets, simulations.n_parameter_sets)))
    if config.where is not None:
        chosen = _both(chosen, simulations.positions_of_sets(_where(Condition.parse(config.where), simulations)))
    if chosen is not None and not len(chosen):
        raise UsageError("no simulation of the study is in all of --shard, --only, --sets and --where that are given")
    return chosen


def _both(one: Ranges | None, other: Ranges) -> Ranges:
    return other if one is None else one & other


def _within(span: Span, n_sets: int) -> npt.NDArray[np.bool_]:
    if span.first >= n_sets:
        raise UsageError(f"--sets {span}: the study has {n_sets} parameter sets, counted from 0")
    numbers = np.arange(n_sets)
    return (numbers >= span.first) & (numbers < (n_sets if span.last is None else span.last))


def _where(condition: Condition, simulations: Simulations) -> npt.NDArray[np.bool_]:
    sets = list(map(simulations.params_of, range(simulations.n_parameter_sets)))
    condition.require_fit(sets)
    holds = np.fromiter(map(condition.holds, sets), np.bool_, len(sets))
    if not holds.any():
        raise UsageError(f"--where {condition.text!r}: holds for none of the {len(sets)} parameter sets")
    return holds


def _only(asked: str, simulations: Simulations, identity: rows.RunIdentity, scope: Ranges | None) -> Ranges:
    for simulation in simulations:
        if task_id(identity.bundle_ref, identity.entrypoint, simulation.param_id, simulation.seed) == asked:
            if scope is not None and simulation.position not in scope:
                raise UsageError(f"--only {asked}: this simulation is in another shard; give the --shard it is in")
            return Ranges.of([simulation.position])
    raise UsageError(f"--only {asked}: no simulation of the study has this task_id; `results --to FILE.csv` lists them")


def policy(question: RunRequest, profile: Profile) -> Policy:
    """What the core obeys; `profile` says what a worker is known to need."""
    config = question.config
    too_many = config.max_failures
    return Policy(
        cpus=config.cpus,
        memory_bytes=config.memory,
        max_memory_bytes=config.max_memory,
        attempts=config.attempts,
        max_failures=None if too_many is None else too_many.count(question.n_simulations),
        timeout_s=config.timeout,
        chunk=config.chunk,
        window=config.window,
        trial_wait_s=TRIAL_WAIT_S,
        supervised=config.isolation != "none" and config.is_on_cluster,
        known_worker_bytes=max(0, profile.base_bytes - profile.child_bytes),
        known_child_bytes=profile.child_bytes,
        known_shared_bytes=profile.shared_bytes,
    )


def chunk_context(question: RunRequest, node_bytes: int) -> ChunkContext:
    """What the workers obey; all simulations of a node use `node_bytes` at most, 0 for what the node has."""
    config = question.config
    return ChunkContext(
        question.model,
        question.identity,
        question.study.outputs,
        config.timeout,
        isolation=config.isolation,
        cpus=config.cpus,
        is_hard=config.memory is not None,
        cap_bytes=config.max_memory,
        per_child=config.per_child,
        keep_output=config.keep_output,
        node_bytes=node_bytes,
    )
