"""A study sent to a cluster as Ray jobs: packed, uploaded, started; and what is known of it afterwards.

Owns the order of these steps and the messages about them. `package` decides, `dashboard` talks to the cluster.
"""

from __future__ import annotations

import importlib.metadata
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelops_ray.cluster.jobs import package
from modelops_ray.cluster.jobs.dashboard import Dashboard, Installed, JobState
from modelops_ray.cluster.jobs.package import STUDY_FILE, Lack
from modelops_ray.cluster.jobs.sources import Sources, sources_of
from modelops_ray.config import format_size
from modelops_ray.core.policy import count
from modelops_ray.errors import BackendError, ModelError
from modelops_ray.sandbox.loading import ModelRef, digest_of, forget_model
from modelops_ray.sandbox.reading import digest_of_file, is_module_elsewhere, path_of
from modelops_ray.session.request import RunRequest
from modelops_ray.version import __version__

OURS = Path(__file__).parents[2]
OLDEST_PYTHON = (3, 11)
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Parcel:
    """How a study is to be sent: where the results go, as how many jobs, with which options of `run`.

    `out` is None for the default; `install` are requirements besides those found to be lacking.
    """

    name: str
    out: str | None
    ephemeral: bool
    shards: int
    options: Mapping[str, Any]
    install: tuple[str, ...] = ()


class Submission:
    """The Ray jobs that a study was sent as: one, or one for each shard.

    `address` is that of the dashboard, `ids` are those of the jobs in the order of shards, `run_dir` is on the cluster.
    """

    def __init__(self, dashboard: Dashboard, ids: Sequence[str], run_dir: str) -> None:
        self._dashboard = dashboard
        self.address = dashboard.address
        self.ids = tuple(ids)
        self.run_dir = run_dir

    def __repr__(self) -> str:
        return f"Submission({', '.join(self.ids)} at {self.address})"

    def states(self) -> list[JobState]:
        """The state of each job; BackendError where the dashboard does not answer."""
        return [self._dashboard.state(job) for job in self.ids]

    def wait(self) -> int:
        """Wait until all jobs have ended, and return the exit code of `run`: of several jobs the first that is not 0.

        BackendError where the dashboard does not answer for a minute.
        """
        return next((code for job in self.ids if (code := self._dashboard.wait(job).exit_code)), 0)

    def follow(self) -> Iterator[str]:
        """Yield what the first job prints until it ends; a connection that breaks is made anew."""
        return self._dashboard.follow(self.ids[0])

    def logs(self) -> str:
        """What the jobs have printed so far, one after the other."""
        return "".join(self._dashboard.log(job) for job in self.ids)

    def stop(self) -> None:
        """Tell the jobs to end; each commits what it finished, and the same submission goes on."""
        for job in self.ids:
            self._dashboard.stop(job)


def send(question: RunRequest, parcel: Parcel, dashboard: Dashboard, say: Callable[[str], None]) -> Submission:
    """Pack a study with its model and this program, upload them, and start the jobs.

    `say` is told, in short lines, what was found there and what was uploaded. UsageError where the run directory would
    die with the head, or a requirement is none; ModelError or BackendError where the model cannot travel or run.
    """
    out = package.run_directory(parcel.out, str(question.out), is_ephemeral=parcel.ephemeral)
    sources = sources_of(question.model, question.files)
    there = dashboard.look()
    _require_python(there, dashboard.address)
    needed = importlib.metadata.requires("modelops-ray") or ()
    lack = package.lacking(needed, sources.versions, there.versions, parcel.install)
    install_by = package.installer(lack, there.versions)
    for line in (*_found_lines(there, lack), *_upload_lines(question, sources, parcel.name)):
        say(line)
    jobs = package.commands(parcel.name, secrets.token_hex(4), parcel.shards, out, parcel.options)
    about = {"study": parcel.name, "run_dir": package.shown(out)}
    with _packed(question, sources) as (folder, ours):
        env = package.runtime_env(str(folder), str(ours), lack, install_by)
        for job, command in jobs.items():
            dashboard.submit(job, command, env, about)
            say(f"job          {job}")
    return Submission(dashboard, list(jobs), package.shown(out))


@contextmanager
def _packed(question: RunRequest, sources: Sources) -> Iterator[tuple[Path, Path]]:
    """Lay out the job's working directory and this package, each in a folder of its own, while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="modelops-ray-job-") as place:
        folder, ours = Path(place) / "job", Path(place) / OURS.name
        for name, source in sources.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
        _require_same(question.model, folder / sources.folder)
        replace(question.study, model=sources.model, files=sources.declared or None).save(folder / STUDY_FILE)
        shutil.copytree(OURS, ours, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        yield folder, ours


def _require_same(ref: ModelRef, folder: Path) -> None:
    """See that the model in this folder is the same: a run goes on from results that another machine committed."""
    if ref.kind == "file":
        moved = replace(ref, location=str(folder / Path(ref.location).name))
    else:
        moved = replace(ref, root=str(folder))
    # Otherwise Python would find what was imported from here first.
    forget_model()
    digest = digest_of(moved)
    forget_model()
    read = (state for state in ref.imported if not (state.path.startswith("/") or is_module_elsewhere(state.path)))
    if digest != ref.digest or any(digest_of_file(path_of(path, str(folder))) != sha256 for path, sha256 in read):
        raise ModelError(f"model {ref.label} changed while it was packed; submit it again")


def _require_python(there: Installed, address: str) -> None:
    version = tuple(int(part) for part in there.python.split(".")[:2])
    if version < OLDEST_PYTHON:
        raise BackendError(
            f"the cluster at {address} runs Python {there.python}; it needs 3.11 or newer: use another image"
        )


def _found_lines(there: Installed, lack: Lack) -> Iterator[str]:
    yield f"found there  Python {there.python}, Ray {there.versions.get('ray', 'of unknown version')}"
    for name, found, here in lack.differ:
        yield f"differs      {name} is {found} there and {here} here; --install {name}=={here} makes them equal"
    if lack.install:
        yield f"installs     {', '.join(lack.install)}"


def _upload_lines(question: RunRequest, sources: Sources, name: str) -> Iterator[str]:
    n_bytes = sum(path.stat().st_size for path in sources.files.values())
    yield (
        f"uploads      model {question.model.label} ({count(len(sources.files), 'file')}, {format_size(n_bytes)}), "
        f"the study ({count(len(question.simulations), 'simulation')}), modelops_ray {__version__}"
    )
    # The study travels apart from the model's folder.
    if left_here := [each for each in sources.left_here if each != f"{name}.json"]:
        yield f"stays here   {_some(left_here)}: not known to be read; --include PATH has a file travel"
    if sources.far:
        yield f"stays here   {_some(sources.far)}: put what is outside of the project at the same path on every node"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
