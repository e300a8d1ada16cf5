"""One session of a run: from the question to the summary of what came of it.

Brings the parts together so that nothing is started when there is nothing to do. Owns the signals and the summary.
"""

from __future__ import annotations

import gc
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelops_ray.core import bounds, events, forecast
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import NoProgressError, StorageError
from modelops_ray.model.resolve import installed_versions
from modelops_ray.session import backends, committer, driver, reasons, run_config
from modelops_ray.session.ports import Backend, Observer, Ports, Snapshot, Watcher
from modelops_ray.session.priors import WHERE_PROFILES_GO, Priors
from modelops_ray.session.request import RunRequest
from modelops_ray.session.source import StudySource
from modelops_ray.session.summary import BOUNDS, Summary
from modelops_ray.store import found, reader, run_json, run_store, writer
from modelops_ray.store.opening import Opening, open_directory

PLAN_FROM_SIMULATIONS = 1000
"""What a study of more simulations than this will take is said before it goes on."""


Observing = Callable[[Callable[[str], None]], AbstractContextManager[Observer | None]]
"""Observes the nodes for as long as its context lasts; notes why where it cannot."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended, and its summary."""

    finish: events.Finish
    summary: Summary

    @property
    def why(self) -> str:
        """Why it ended before everything was done, in a sentence; "" where everything is."""
        return reasons.sentence(self.finish.reason)

    def require_complete(self) -> None:
        """Raise KeyboardInterrupt if it was told to stop, and NoProgressError if it gave up."""
        if self.finish.ending is events.Ending.STOPPED:
            raise KeyboardInterrupt(self.why)
        if self.finish.ending is events.Ending.GAVE_UP:
            raise NoProgressError(self.why)


def execute(question: RunRequest, watcher: Watcher, observing: Observing = lambda _note: nullcontext()) -> Outcome:
    """Run what is not done yet, to the end or until told to stop, and tell the watcher how it goes.

    ModelopsRayError if the run could not be done or go on; what had finished is committed then. With `observing`, what
    became of nodes is known beyond what Ray tells.
    """
    began_s = time.monotonic()
    opening = _opened(question)
    for note in (question.note_on_repeats, question.note, _note_on_growth(question, opening)):
        if note:
            watcher.note(note)
    with ExitStack() as stack:
        if not opening.has_work:
            return _nothing_to_do(question, opening.begin())
        question = replace(question.inspected(), identity=opening.identity)
        opening = opening.of_model(question.model)
        priors = Priors(question)
        backend = stack.enter_context(backends.opened(question, watcher))
        store = opening.begin()
        for warning in store.warnings:
            watcher.note(warning)
        observer = stack.enter_context(observing(watcher.note)) if question.config.is_on_cluster else None
        return _Session(question, priors, store, backend, watcher, began_s, observer).run()


def _note_on_growth(question: RunRequest, opening: Opening) -> str:
    found = opening.found
    if found is None or found.move is None or found.run.study.digest == question.study.digest:
        return ""
    n_before, n_now = found.run.study.simulations, len(question.simulations)
    return f"{question.out} goes on with a study that grew from {n_before:,} to {n_now:,} simulations"


@contextmanager
def scratch_run(question: RunRequest, only: Ranges, watcher: Watcher, **changes: Any) -> Iterator[reader.RunReader]:
    """Run a few simulations in a folder that is thrown away afterwards, with other knobs, and open what they left.

    Raises what `execute` and `Outcome.require_complete` raise.
    """
    with tempfile.TemporaryDirectory(prefix="modelops-ray-scratch-") as folder:
        out = Path(folder) / "run"
        changes |= {"out": out, "shard": None, "fresh": False, "retry_failed": False, "max_failures": None}
        config = question.config.model_copy(update=changes)
        execute(replace(question, config=config, out=out, whole=out, scope=None, only=only), watcher).require_complete()
        yield reader.RunReader(out)


def _opened(question: RunRequest) -> Opening:
    config = question.config
    return open_directory(
        question.out,
        _spec(question),
        whole=question.whole,
        take_over=config.take_over,
        fresh=config.fresh,
        repeat=question.repeat,
    )


def _spec(question: RunRequest) -> found.RunSpec:
    study, shard = question.study, question.config.shard
    asked = run_json.RunJson(
        study=run_json.StudyEntry(digest=study.digest, simulations=len(question.simulations), document=study.to_dict()),
        model_digest=question.model.digest,
        model_label=question.model.label,
        entrypoint=question.identity.entrypoint,
        bundle_ref=question.identity.bundle_ref,
        shard=None
        if shard is None
        else run_json.ShardEntry(number=shard.number, of=shard.of, simulations=question.n_simulations),
        seed_policy=question.config.seeds,
        config=_plain(question.config) | {"study_path": question.study_path},
        versions=installed_versions(),
        created=writer.utc_now(),
    )
    return found.RunSpec(
        asked,
        study,
        question.simulations,
        question.identity,
        question.model,
        scope=question.scope,
        only=question.only,
        accepts_changes=question.config.accept_changes,
        known=question.known,
    )


def _plain(config: run_config.RunConfig) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in config.model_dump().items()}


def _nothing_to_do(question: RunRequest, store: run_store.RunStore) -> Outcome:
    """Everything was done before: the summary is that of the run, with nothing new."""
    store.close(str(events.Ending.COMPLETE))
    largest = store.largest()
    summary = Summary(
        run_dir=str(question.out),
        simulations=question.n_simulations,
        completed=store.completed,
        failed=store.failed,
        resumed=store.completed + store.failed,
        peak_bytes_max=largest.peak_bytes,
        request_bytes_max=largest.request_bytes,
        driver_peak_rss_bytes=_peak_rss_bytes(),
    )
    return Outcome(events.Finish(events.Ending.COMPLETE), summary)


@dataclass(eq=False)
class _Session:
    """A driver with everything it needs, and what is left of it for the summary."""

    question: RunRequest
    priors: Priors
    store: run_store.RunStore
    backend: Backend
    watcher: Watcher
    began_s: float
    observer: Observer | None

    def __post_init__(self) -> None:
        self._state = self.priors.state(self.store.completed, self.store.attempts_made())
        self._committer = committer.CommitThread(committer.Desk(self.store, self.backend.take, time.monotonic))
        done = self.store.done()
        source = StudySource(self.question.simulations, done, self.question.only)
        ports = Ports(self.backend, self._committer, source, self, time.monotonic, self.observer)
        self._driver = driver.Driver(self._state, ports, n_simulations=self.question.n_simulations, n_resumed=len(done))
        self._was_planned = self.question.n_simulations <= PLAN_FROM_SIMULATIONS
        self._resumed = self.store.completed + self.store.failed
        self._before = self.store.largest()
        self._tally = bounds.Tally()

    def run(self) -> Outcome:
        """Run the driver, close the store, keep the profile."""
        ending = events.Ending.GAVE_UP
        try:
            with _stopping(self._driver.stop), _searching_new_garbage_only(), self._committer:
                finish = self._driver.run()
            ending = finish.ending
        finally:
            summary = self._summary()
            self.store.close(str(ending), summary.values() | {BOUNDS: dict(self._tally.values())})
            self._keep()
        return Outcome(finish, summary)

    def _keep(self) -> None:
        """Keep the profile; a run is no worse for a cache that cannot be written."""
        try:
            self.priors.keep(self._state.learned(), self._state.view().completed, self.store.written)
        except StorageError as error:
            self.watcher.note(f"the profile of the model is not kept: {error}; {WHERE_PROFILES_GO}")

    def note(self, text: str) -> None:
        """Pass a sentence on."""
        self.watcher.note(text)

    def planned(self, expected: forecast.Forecast) -> None:
        """Pass a forecast on."""
        self.watcher.planned(expected)

    def update(self, snapshot: Snapshot) -> None:
        """Pass on how far it is, and once what a large study will take."""
        if not self._was_planned and not snapshot.view.is_probing and snapshot.view.completed:
            self._was_planned = True
            self.watcher.planned(
                self._state.forecast(
                    n_simulations=self.question.n_simulations,
                    n_sets=self.question.n_parameter_sets,
                    n_left=snapshot.left,
                    bytes_each=self.store.written.output_bytes_each,
                )
            )
        view = snapshot.view
        self._tally.add(snapshot.elapsed_s, view.bound, view.running, view.capacity)
        self.watcher.update(snapshot)

    def _summary(self) -> Summary:
        view = self._state.view()
        wall_s = time.monotonic() - self.began_s
        first_s = self._driver.seconds_to_first_commit
        return Summary(
            run_dir=str(self.question.out),
            simulations=self.question.n_simulations,
            completed=self.store.completed,
            failed=self.store.failed,
            resumed=self._resumed,
            attempts=view.attempts,
            oom_retries=view.oom_retries,
            infrastructure_retries=view.infrastructure_retries,
            wall_seconds=round(wall_s, 3),
            simulations_per_second=round((view.completed + view.failed) / wall_s, 3),
            seconds_to_first_commit=None if first_s is None else round(first_s, 3),
            peak_bytes_max=max(self._before.peak_bytes, view.peak_bytes_max),
            request_bytes_max=max(self._before.request_bytes, view.request_bytes_max),
            spilled_bytes=self.backend.spilled_bytes(),
            driver_peak_rss_bytes=_peak_rss_bytes(),
        )


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _searching_new_garbage_only() -> Iterator[None]:
    """Leave what this process has imported out of the searches for garbage: they took a twentieth of a fast run."""
    if gc.get_freeze_count():
        yield  # the process has chosen itself what is left out
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


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
