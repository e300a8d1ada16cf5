"""What a script or a notebook calls: run a study, plan it, profile its model, open what a run left.

Owns the public signatures and `Run`. The work is done in `session`; nothing is shown unless asked for.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from modelops_ray.cluster.jobs.dashboard import Dashboard
from modelops_ray.cluster.jobs.package import dashboard_address, run_directory
from modelops_ray.cluster.jobs.submission import Parcel, Submission, send
from modelops_ray.cluster.watch.pods import observed
from modelops_ray.config import JobOptions, Options
from modelops_ray.core.forecast import Forecast
from modelops_ray.errors import NO_WORKING_FOLDER, ModelError, StorageError, UsageError
from modelops_ray.report.progress import display
from modelops_ray.report.screen import to_stderr
from modelops_ray.sandbox.loading import refuse_while_loading
from modelops_ray.session import leaks, planning
from modelops_ray.session.asked import ask_about
from modelops_ray.session.execute import Outcome, execute
from modelops_ray.session.going_on import settled
from modelops_ray.session.planning import Profiled
from modelops_ray.session.ports import Watcher
from modelops_ray.session.request import RunRequest
from modelops_ray.session.run_config import RunConfig
from modelops_ray.session.summary import BOUNDS
from modelops_ray.store.reader import RunReader
from modelops_ray.store.status import Status
from modelops_ray.store.storage.places import place_of
from modelops_ray.study.study import Study

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["JobOptions", "Options", "Run", "Submission", "open_run", "plan", "profile", "run", "submit"]

Model = str | Callable[..., object]
Asked = Study | str | Path


class Run:
    """A run directory: what it holds, and the summary of the last session.

    Attributes:
        path: Where it is; a text where it is the URI of a folder in an object store.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a run directory; see `open_run`."""
        self.path: Path | str = place_of(path)
        self._reader = RunReader(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first screen of the page that `report` writes."""
        from modelops_ray.report.page.document import first_screen_of

        return first_screen_of(self._reader, self.path)

    @property
    def summary(self) -> Mapping[str, Any]:
        """The keys of `--json`: how many simulations, completed, failed, and what the last session took.

        Counts come from the commits; the rest is what the last session said when it ended, absent if it was killed.
        """
        status = self.status()
        truth = {"run_dir": str(self.path), "simulations": status.total}
        counters = {name: value for name, value in status.counters.items() if name != BOUNDS}
        return {**counters, **truth, "completed": status.completed, "failed": status.failed}

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs committed so far, sorted."""
        return self._reader.output_names()

    def status(self) -> Status:
        """How far the run is, live or finished."""
        return self._reader.status()

    def simulations(self) -> pa.Table:
        """One row per simulation with a result or a failure, in study order.

        Raises:
            ResultsError: The directory is damaged.
        """
        return self._reader.simulations()

    def attempts(self) -> pa.Table:
        """One row per attempt that gave no result, in study order: what ended it, and what followed.

        Those of simulations that have no row yet come last. An attempt that was interrupted, because the run ended or
        its node was about to, is no row: the next one has its number.

        Raises:
            ResultsError: The directory is damaged.
        """
        return self._reader.attempts()

    def printed(self) -> pa.Table:
        """The end of what simulations printed, in study order; the column `printed` follows their identity.

        One row for each that failed and printed something, with `keep_output` for each that printed something.

        Raises:
            ResultsError: The directory is damaged.
        """
        return self._reader.printed()

    def output(self, name: str) -> pa.Table:
        """The model's rows of one output in study order, the identity of their simulation first.

        Raises:
            UsageError: There is no such output.
            ResultsError: The directory is damaged.
        """
        return self._reader.output(name)

    def to_pandas(self, output: str | None = None) -> pd.DataFrame:
        """`simulations`, or an output, as a data frame of pandas.

        Raises:
            UsageError: There is no such output, or pandas is not installed.
            ResultsError: The directory is damaged.
        """
        _require("pandas")
        frame: pd.DataFrame = self._table(output).to_pandas()
        return frame

    def to_polars(self, output: str | None = None) -> pl.DataFrame:
        """`simulations`, or an output, as a data frame of Polars.

        Raises:
            UsageError: There is no such output, or Polars is not installed.
            ResultsError: The directory is damaged.
        """
        _require("polars")
        import polars as pl

        return pl.DataFrame(self._table(output))

    def report(self, path: str | Path | None = None) -> Path:
        """Write one HTML file with plots, which needs nothing else to be looked at, and return where it is.

        Args:
            path: The file; default `report.html` in the run directory, in the working directory where that is a URI.

        Raises:
            ResultsError: The directory is damaged.
            StorageError: The file could not be written.
        """
        from modelops_ray.report.page.document import default_path, document_of, write_document

        path = default_path(self.path) if path is None else Path(path)
        write_document(document_of(self._reader, self.path), path)
        return path

    def _table(self, output: str | None) -> pa.Table:
        return self.simulations() if output is None else self.output(output)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{package} is not installed; install it, as by `pip install {package}`")


def run(
    study: Asked,
    *,
    model: Model | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Run:
    """Run a study to its end, or go on with it; what is done already is not done again.

    Args:
        study: A study, the path of a study file, or with `params` the model as a text.
        model: A callable `(params, seed[, scenario])`, `path.py:function`, `module:function`; by default the study's.
        out: The run directory, a path or a URI (`s3://bucket/runs/sir`); default `runs/<study>-<8 hex>`.
        progress: Show how far it is, on stderr.
        options: As on the command line.

    Raises:
        ModelopsRayError: Every error with which the command line exits with 1 or 2; what had finished is committed.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after committing all that had finished.
    """
    request = ask_to_go_on(study, model, RunConfig(out=out, **options))
    with display(quiet=not progress) as watcher:
        outcome = run_session(request, watcher)
        outcome.require_complete()
        if request.config.check_leaks:
            require_no_leaks(request, watcher)
    return Run(outcome.summary.run_dir)


def ask_to_run(study: Asked, model: Model | None, config: RunConfig) -> RunRequest:
    """Check a study, its model and the knobs of a run; starts nothing, and does not import the model.

    Raises:
        ModelopsRayError: The study, the model or an option is wrong.
    """
    refuse_while_loading()
    return _ask(study, model, config)


def ask_to_go_on(study: Asked, model: Model | None, config: RunConfig) -> RunRequest:
    """Check the same, and find the run that a study which grew, or a part of one, goes on with.

    Raises:
        ModelopsRayError: The study, the model or an option is wrong.
    """
    return settled(ask_to_run(study, model, config))


def run_session(request: RunRequest, watcher: Watcher) -> Outcome:
    """Run a study, telling a watcher, and return how it ended instead of raising."""
    return execute(request, watcher, functools.partial(observed, os.environ))


def require_no_leaks(request: RunRequest, watcher: Watcher) -> int:
    """Run a sample of what a run completed again, each simulation in a new process; return how many.

    Raises:
        ModelError: Some came out otherwise: the model keeps state between simulations, or is not reproducible.
        UsageError: The run completed nothing.
    """
    found = leaks.check(request, watcher)
    if found.complaint:
        raise ModelError(found.complaint)
    return found.simulations


def plan(
    study: Asked, *, model: Model | None = None, out: str | Path | None = None, **options: Unpack[Options]
) -> Forecast:
    """Say what a study would take, from what is known of its model; runs nothing.

    Returns:
        The forecast, None where something is not known.

    Raises:
        ModelopsRayError: The study, the model or an option is wrong.
    """
    return planning.foresee(_ask(study, model, RunConfig(out=out, **options)).inspected())


def profile(study: Asked, *, model: Model | None = None, samples: int = 8, **options: Unpack[Options]) -> Profiled:
    """Run a few simulations from all over a study, keep what they took, and return it.

    Args:
        study: A study, or the path of a study file.
        model: As for `run`.
        samples: How many simulations, at most one per parameter set while there are enough sets.
        options: As on the command line.

    Raises:
        ModelopsRayError: The study, the model or an option is wrong, or no simulation completed.
    """
    request = ask_to_run(study, model, RunConfig(**options))
    with display(quiet=True) as watcher:
        return planning.measure(request, samples, watcher)


def submit(  # noqa: PLR0913 (one for each option that is not run's)
    study: Asked,
    *,
    address: str | None = None,
    model: Model | None = None,
    out: str | None = None,
    ephemeral: bool = False,
    shards: int = 1,
    install: Sequence[str] = (),
    progress: bool = True,
    tolerate_failures: bool = False,
    **options: Unpack[JobOptions],
) -> Submission:
    """Run a study as a Ray job on a cluster; what is done already in its run directory is not done again.

    The model's Python files, the study and this program travel; packages that they import and the cluster lacks are
    installed there. Returns as soon as the jobs are on the cluster.

    Args:
        study: A study, or the path of a study file.
        address: The cluster's dashboard, `http://HOST:8265`; RAY_ADDRESS by default.
        model: As for `run`; a file has to define it.
        out: The run directory on the cluster, an absolute path on storage that outlives its head.
        ephemeral: The results may be lost with the head.
        shards: How many jobs are submitted, each with a part of the parameter sets.
        install: Requirements to install there besides, as in `starsim==3.0.1`.
        progress: Say on stderr what was found there and what is uploaded.
        tolerate_failures: The job ends with 0 although simulations failed.
        options: As on the command line; for every simulation of the job.

    Raises:
        ModelopsRayError: The study, the model or an option is wrong, or the cluster does not take the job.
    """
    question = ask_to_run(study, model, RunConfig(tolerate_failures=tolerate_failures, **options)).inspected()
    name = "study" if isinstance(study, Study) else Path(study).stem
    parcel = Parcel(name, out, ephemeral, shards, {**options, "tolerate_failures": tolerate_failures}, tuple(install))
    run_directory(out, str(question.out), is_ephemeral=ephemeral)
    say = to_stderr().say if progress else lambda _text: None
    return send(question, parcel, Dashboard(dashboard_address(address, os.environ)), say)


def open_run(path: str | Path) -> Run:
    """Open what a run left, finished or not; a path, or a URI such as `s3://bucket/runs/sir`.

    Raises:
        ResultsError: It is no run directory, is damaged, or is of a newer format.
    """
    return Run(path)


def _ask(study: Asked, model: Model | None, config: RunConfig) -> RunRequest:
    try:
        Path.cwd()  # processes are started in it, and models are looked for there
    except FileNotFoundError:
        raise StorageError(NO_WORKING_FOLDER) from None
    return ask_about(study, model, config)
