"""One session of a run: from the question (study, model, knobs) to the summary of what came of it.

Brings the parts together in the order that leaves nothing started and nothing changed on disk when the question is
wrong. Owns the run directory's name and the profile. Shows nothing itself: a `Watcher` is told.
"""

from __future__ import annotations

import functools
import hashlib
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from modelops_ray.backends.base import Backend, RunChunk
from modelops_ray.backends.cluster import connect
from modelops_ray.backends.local import LocalBackend
from modelops_ray.backends.ray import RayBackend, pickle_by_value
from modelops_ray.config import RunConfig
from modelops_ray.core.events import Ending, Finish
from modelops_ray.core.forecast import Forecast, forecast
from modelops_ray.core.memory import bin_of, edge_of
from modelops_ray.core.policy import Policy
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.state import RunState
from modelops_ray.driver import Driver, Snapshot
from modelops_ray.errors import UsageError
from modelops_ray.runner.chunk import ChunkContext, run_chunk
from modelops_ray.runner.loading import ModelRef
from modelops_ray.runner.model import installed_versions, resolve_model
from modelops_ray.store import opening
from modelops_ray.store.entry import Entry, look
from modelops_ray.store.profiles import Profile, load_profile, save_profile
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import RunJson, StudyEntry
from modelops_ray.store.run_store import RunStore
from modelops_ray.store.session import utc_now
from modelops_ray.study.identity import task_id
from modelops_ray.study.rows import RunIdentity
from modelops_ray.study.schema import parameter_types
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

Summary = dict[str, Any]
"""The keys of `--json`, in their order."""

SUMMARY_KEYS = (
    "run_dir",
    "simulations",
    "completed",
    "failed",
    "resumed",
    "attempts",
    "oom_retries",
    "infrastructure_retries",
    "wall_seconds",
    "simulations_per_second",
    "seconds_to_first_commit",
    "peak_bytes_max",
    "request_bytes_max",
    "spilled_bytes",
    "driver_peak_rss_bytes",
)

PLAN_FROM_SIMULATIONS = 1000
"""A study of more simulations than this is worth a word before it goes on."""


class Watcher(Protocol):
    """Is told how a session goes, from one thread, often; must be quick."""

    def note(self, text: str) -> None:
        """One sentence worth a line."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """The run at this moment."""
        ...

    def planned(self, expected: Forecast) -> None:
        """What a large study will take, once the first simulations were measured."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A checked study, its simulations, its model and the knobs: everything that is wrong was found by now."""

    study: Study
    simulations: Simulations
    model: ModelRef
    identity: RunIdentity
    config: RunConfig
    out: Path
    only: Ranges | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended, and its summary."""

    finish: Finish
    summary: Summary


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


def profile_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where profiles are kept: `$XDG_CACHE_HOME/modelops-ray/profiles`, or under `~/.cache`."""
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "modelops-ray" / "profiles"


def execute(question: Question, watcher: Watcher, environ: Mapping[str, str] = os.environ) -> Outcome:
    """Run what is not done yet, to the end or until told to stop.

    Raises:
        ModelopsRayError: The run could not be done or go on; what had finished is committed.
    """
    began_s = time.monotonic()
    entry = _look(question)
    if question.simulations.repeats:
        watcher.note(repeats_note(question.simulations))
    with ExitStack() as stack:
        if not entry.todo:
            return _nothing_to_do(question, entry)
        backend = stack.enter_context(_backend(question, watcher, environ))
        store = entry.begin()
        for warning in store.warnings:
            watcher.note(warning)
        session = _Session(question, store, backend, watcher, began_s)
        return session.run()


def repeats_note(simulations: Simulations) -> str:
    """Say how many simulations of a study repeat others of it."""
    n = simulations.repeats
    return f"{n:,} simulation{' is' if n == 1 else 's are'} listed more than once and run{'s' if n == 1 else ''} once"


def _look(question: Question) -> Entry:
    config, study = question.config, question.study
    asked = RunJson(
        study=StudyEntry(digest=study.digest, simulations=len(question.simulations), document=study.to_dict()),
        model_digest=question.model.digest,
        model_label=question.model.label,
        entrypoint=question.identity.entrypoint,
        bundle_ref=question.identity.bundle_ref,
        seed_policy=config.seeds,
        config=_plain(config),
        versions=installed_versions(),
        created=utc_now(),
    )
    return look(
        question.out,
        opening.Question.of(asked, study, question.simulations),
        take_over=config.take_over,
        fresh=config.fresh,
        retry_failed=config.retry_failed,
    )


def _plain(config: RunConfig) -> dict[str, Any]:
    """The knobs as JSON values, for the record."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def _nothing_to_do(question: Question, entry: Entry) -> Outcome:
    """Everything was done before: the summary is that of the session that ended it, with nothing new."""
    entry.begin().close(str(Ending.COMPLETE))
    before = RunReader(question.out).status().counters
    kept = ("peak_bytes_max", "request_bytes_max")
    summary: Summary = dict.fromkeys(SUMMARY_KEYS, 0)
    summary |= {key: before.get(key, 0) for key in kept}
    summary |= {
        "run_dir": str(question.out),
        "simulations": len(question.simulations),
        "completed": entry.completed,
        "failed": entry.failed,
        "resumed": entry.completed + entry.failed,
        "seconds_to_first_commit": None,
        "driver_peak_rss_bytes": _peak_rss_bytes(),
    }
    return Outcome(Finish(Ending.COMPLETE), summary)


@contextmanager
def _backend(question: Question, watcher: Watcher, environ: Mapping[str, str]) -> Iterator[Backend]:
    config = question.config
    context = ChunkContext(question.model, question.identity, question.study.outputs, config.timeout_s)
    run: RunChunk = functools.partial(run_chunk, context)
    with ExitStack() as stack:
        backend: Backend
        if config.backend == "local":
            backend = LocalBackend(run, cpus=config.cpus, memory_bytes=config.limit_memory_bytes)
        else:
            cluster = stack.enter_context(
                connect(
                    config.address,
                    environ=environ,
                    limit_memory_bytes=config.limit_memory_bytes,
                    limit_cpus=config.limit_cpus,
                )
            )
            backend = RayBackend(run, cluster)
            started = "started" if cluster.owned else f"joined at {cluster.address}"
            watcher.note(f"Ray {started} in {cluster.start_s:.1f} s")
        stack.callback(backend.close)
        yield backend


class _Session:
    """A driver with everything it needs, and what is left of it for the summary."""

    def __init__(self, question: Question, store: RunStore, backend: Backend, watcher: Watcher, began_s: float) -> None:
        self._question = question
        self._store = store
        self._backend = backend
        self._watcher = watcher
        self._began_s = began_s
        self._profiles = profile_folder()
        self._profile = load_profile(self._profiles, question.model.digest)
        self._seeded, seconds = known_of(self._profile)
        self._state = RunState(policy_of(question, self._profile), known_peaks=self._seeded, known_seconds=seconds)
        self._driver = Driver(
            self._state, backend, store, question.simulations, only=question.only, observe=self._observe
        )
        self._was_planned = len(question.simulations) <= PLAN_FROM_SIMULATIONS
        self._resumed = store.completed + store.failed

    def run(self) -> Outcome:
        """Run the driver, keep the profile, close the store."""
        ending = Ending.GAVE_UP
        try:
            with _stopping(self._driver.stop):
                finish = self._driver.run()
            ending = finish.ending
        finally:
            self._keep_profile()
            summary = self._summary()
            self._store.close(str(ending), summary)
        return Outcome(finish, summary)

    def _observe(self, snapshot: Snapshot) -> None:
        if not self._was_planned and not snapshot.is_probing and snapshot.completed:
            self._was_planned = True
            self._watcher.planned(
                forecast(
                    self._state.dispatch,
                    n_simulations=len(self._question.simulations),
                    n_sets=self._question.simulations.n_parameter_sets,
                    n_left=snapshot.left,
                )
            )
        self._watcher.update(snapshot)

    def _keep_profile(self) -> None:
        dispatch, counters = self._state.dispatch, self._state.counters
        measured = Counter(dispatch.memory.counts)
        measured.subtract(self._seeded)
        peaks = Counter({edge_of(index): count for index, count in measured.items() if count > 0})
        if not peaks:
            return
        new = Profile(
            model_digest=self._question.model.digest,
            samples=counters.completed,
            base_bytes=dispatch.memory.base_bytes,
            peaks=peaks,
            seconds=dispatch.mean_seconds * counters.completed,
            output_bytes=int(dispatch.output_bytes_mean * counters.completed),
        )
        save_profile(self._profiles, new if self._profile is None else self._profile.merged(new))

    def _summary(self) -> Summary:
        dispatch, counters = self._state.dispatch, self._state.counters
        wall_s = time.monotonic() - self._began_s
        values = (
            str(self._question.out),
            len(self._question.simulations),
            self._store.completed,
            self._store.failed,
            self._resumed,
            counters.attempts,
            counters.oom_retries,
            counters.infrastructure_retries,
            round(wall_s, 3),
            round((counters.completed + counters.failed) / wall_s, 3),
            _rounded(self._driver.seconds_to_first_commit),
            dispatch.memory.peak_bytes_max,
            dispatch.request_bytes_max,
            self._backend.spilled_bytes(),
            _peak_rss_bytes(),
        )
        return dict(zip(SUMMARY_KEYS, values, strict=True))


def policy_of(question: Question, profile: Profile | None) -> Policy:
    """The core's knobs from the user's."""
    config = question.config
    too_many = config.max_failures
    return Policy(
        cpus=config.cpus,
        memory_bytes=config.memory_bytes,
        max_memory_bytes=config.max_memory_bytes,
        attempts=config.attempts,
        max_failures=None if too_many is None else too_many.count(len(question.simulations)),
        timeout_s=config.timeout_s,
        chunk=config.chunk,
        window=config.window,
        known_base_bytes=profile.base_bytes or None if profile is not None else None,
    )


def known_of(profile: Profile | None) -> tuple[dict[int, int], float]:
    """What a profile tells the core: how many peaks fell into each of its bins, and the mean run time."""
    if profile is None:
        return {}, 0.0
    counts: Counter[int] = Counter()
    for edge_bytes, count in profile.peaks.items():
        counts[bin_of(edge_bytes)] += count
    return dict(counts), profile.seconds_per_simulation or 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _stopping(stop: Callable[[str], None]) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a request to stop; a second Ctrl-C interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop("Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
