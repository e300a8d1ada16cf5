"""What a run directory holds for the study that is asked: read and checked, and nothing in it changed.

Owns what a directory may hold, reading one run as it was at one moment while other sessions write it, and whether what
was read is still so. What a session writes there is `opening`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from modelops_ray.core.policy import count
from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError
from modelops_ray.sandbox.loading import ModelRef
from modelops_ray.sandbox.reading import FileState
from modelops_ray.store import documents, extension, files_read, heartbeat, run_json
from modelops_ray.store.batch import TableSchemas
from modelops_ray.store.commits import FOLDER, Log, ReadFile, last_number, next_of, read_log
from modelops_ray.store.parts import ATTEMPTS, OUTPUTS, SIMULATIONS, require_sizes
from modelops_ray.store.run_json import RunJson, StudyEntry
from modelops_ray.store.storage.base import Folder
from modelops_ray.study.rows import RunIdentity
from modelops_ray.study.schema import identity_fields, simulations_schema
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

READINGS = 10
T = TypeVar("T")
_OURS = {FOLDER, heartbeat.NAME, SIMULATIONS, ATTEMPTS, OUTPUTS, "targets"}
_PART = re.compile(r"part-[0-9a-f]{8}-\d+\.parquet")


@dataclass(frozen=True)
class RunSpec:
    """What a session is asked to answer; `scope` are the positions of a shard, `only` those to run if not all are.

    `model` is what answers it, whose files are compared with those that results there used; with `accepts_changes`
    results are kept although these have changed. Every new result depends on the files that are `imported`.
    `known` is the log of the run directory, where it was read to find out what is asked.
    """

    asked: RunJson
    study: Study
    simulations: Simulations
    identity: RunIdentity
    model: ModelRef
    scope: Ranges | None = None
    only: Ranges | None = None
    accepts_changes: bool = False
    known: Log | None = None

    @property
    def imported(self) -> tuple[FileState, ...]:
        """The files that its import reads; known once the model has been looked at."""
        return self.model.imported

    def going_on(self, run: RunJson) -> RunSpec:
        """The same, in a run that began with another state of the model: its simulations keep their identities."""
        return replace(self, identity=replace(self.identity, bundle_ref=run.bundle_ref))

    @cached_property
    def schemas(self) -> TableSchemas:
        """The columns that follow from it: those of the whole study also for a shard."""
        types = self.identity.parameter_types
        return TableSchemas(simulations_schema(types), identity_fields(types))


@dataclass(frozen=True, slots=True)
class Found:
    """A run, its commits, and the files that no commit names (`leftovers`), as they were when they were read.

    `folder` is held where it can be; `mark` is that of `run.json`; `move` is set where positions are of an older study.
    `changed` are the files that have changed since results used them, which is accepted.
    """

    folder: Folder
    run: RunJson
    mark: Hashable
    log: Log
    move: extension.Move | None
    leftovers: tuple[str, ...]
    changed: tuple[ReadFile, ...] = ()

    def has_work(self, spec: RunSpec, repeat: Ranges) -> bool:
        """Whether a simulation has no row yet, or that of a failure that is to be repeated."""
        n_done = self.log.rows(failed=False) + self.log.rows(failed=True)
        if repeat and any(map(repeat.__contains__, self._with_rows(failed_only=True))):
            return True
        if n_done == spec.asked.simulations or spec.only is None:
            return n_done < spec.asked.simulations
        done = self._with_rows(failed_only=False)
        return any(position not in done for position in spec.only)

    def is_current(self) -> bool:
        """Whether no session has committed since, and the directory has not been moved, removed or begun anew."""
        if not self.folder.is_in_place() or self.folder.mark(run_json.NAME) != self.mark:
            return False
        commits = self.folder.inside(FOLDER)
        return next_of(commits, self.run, self.log.last + 1, is_chained=self.log.is_chained)[1] is None

    def _with_rows(self, *, failed_only: bool) -> Ranges:
        """The positions, in the study that is asked, of the simulations that have a row."""
        parts = [part for part in self.log.parts.values() if len(part.positions) and (part.failed or not failed_only)]
        return Ranges(
            pair for part in parts for pair in (part.positions.tolist() if self.move is None else self.move.runs(part))
        )


def read_consistently(hold: Callable[[], Folder], read: Callable[[Folder], T]) -> T:
    """Read, and read again where sessions replaced parts in between, or another run began.

    `hold` opens the run directory for one reading, and `read` reads it. A ResultsError of `read` counts only if no file
    has changed meanwhile; it is raised as well if the directory changed during each of ten readings.
    """
    for _ in range(READINGS):
        folder = hold()
        before = _state(folder)
        try:
            found = read(folder)
        except ResultsError:
            if _state(folder) == before and folder.is_in_place():
                raise
        else:
            if folder.mark(run_json.NAME) == before[0]:
                return found
    raise ResultsError(f"{folder.where()}: other sessions begin here again and again; start again once they have ended")


def _state(folder: Folder) -> tuple[Hashable | None, int]:
    return folder.mark(run_json.NAME), last_number(folder)


def find(folder: Folder, spec: RunSpec) -> Found | None:
    """Read and check a run directory, None where there is none yet.

    ResultsError if it is no run directory, is damaged, or answers another question.
    """
    return read_consistently(lambda: folder, lambda held: _find(held, spec))


def _find(folder: Folder, spec: RunSpec) -> Found | None:
    found = run_json.read_marked(folder)
    if found is None:
        require_empty(folder)
        return None
    run, mark = found
    if run is None:
        return None
    path = folder.where(run_json.NAME)
    run_json.require_same_question(run, spec.asked, path)
    log = read_log(folder, run, spec.known)
    if log.closed:
        raise ResultsError(
            f"{folder.where()}: a session that starts over is moving this run aside, or was stopped while it did; "
            "wait for it, or give --fresh once more"
        )
    run = run.grown(log.grown)
    leftovers = leftovers_in(folder, log)
    _require_log(folder, run, log, leftovers)
    _require_positions(log, run.study_of(log.study).simulations, path)
    require_sizes(folder, log.parts.values())
    move = _find_move(run, log, spec, path)
    return Found(folder, run, mark, log, move, leftovers, _changed(folder, run, log, spec))


def _changed(folder: Folder, run: RunJson, log: Log, spec: RunSpec) -> tuple[ReadFile, ...]:
    """The files that have changed since results used them; ResultsError unless that is accepted."""
    if not files_read.is_former(log, run.model_digest, spec.model) and not spec.accepts_changes:
        raise ResultsError(f"{folder.where(run_json.NAME)}: {run_json.other_model(run, spec.asked)}; {run_json.REMEDY}")
    changed = files_read.changed_since(log, spec.model)
    if changed and not spec.accepts_changes:
        raise files_read.refusal(folder.where(), changed, log.files)
    return changed


def require_empty(folder: Folder) -> None:
    """Raise ResultsError for a directory without `run.json` that holds other files.

    A run that began since it was read is no such file. A session whose run was removed while it was slow may leave
    empty folders, `progress.json`, or one commit.
    """
    names = folder.names()
    if set(names) <= _OURS and len(folder.names(FOLDER)) <= 1 and not any(map(folder.names, part_folders(folder))):
        return
    if names and run_json.NAME not in names:
        raise ResultsError(
            f"{folder.where()}: not a run directory, it holds {names[0]} and no {run_json.NAME}; give another --out"
        )


def _require_log(folder: Folder, run: RunJson, log: Log, leftovers: tuple[str, ...]) -> None:
    """Refuse a run whose log was lost: a session writes `progress.json` after its first commit, so the log has begun.

    Parts without a log and without this run's `progress.json` are those of runs that were moved aside.
    """
    parts = [name for name in leftovers if _PART.fullmatch(name.rpartition("/")[2])]
    if parts and log.last < run.log_from and heartbeat.read_progress(folder, run.id) is not None:
        raise documents.damaged(folder.where(FOLDER), f"no commits, and there are parts such as {parts[0]}")


def _require_positions(log: Log, simulations: int, path: str) -> None:
    for part in log.parts.values():
        if len(part.positions) and part.positions.max() > simulations:
            raise documents.damaged(part.commit, f"a position is beyond the {simulations} simulations of {path}")


def _find_move(run: RunJson, log: Log, spec: RunSpec, path: str) -> extension.Move | None:
    asked = spec.asked.study
    if asked.digest == run.study.digest and log.study in (None, asked.digest):
        return None
    move = _move_from(run.study, spec)
    if move is None:
        raise ResultsError(
            f"{path}: run with study {run.study.digest[:12]} ({count(run.study.simulations, 'simulation')}), "
            f"which study {asked.digest[:12]} ({asked.simulations:,}) does not contain; "
            "give another --out, or --fresh to start over"
        )
    referred = run.study_of(log.study)
    if referred is not run.study:
        move = _move_from(referred, spec)
    if spec.scope is not None and move is not None:
        _require_same_shard(log, move, spec.scope, path)
    return move


def _require_same_shard(log: Log, move: extension.Move, scope: Ranges, path: str) -> None:
    """A larger study may be split in another way, and what is done here may then be another shard's."""
    outside = scope.complement(len(move.position) and int(move.position.max()) + 1)
    done = Ranges(pair for part in log.parts.values() if len(part.positions) for pair in move.runs(part))
    if len(done | outside) < len(done) + len(outside):
        raise ResultsError(
            f"{path}: the larger study splits in another way, so that simulations done here belong to another shard; "
            "add parameter sets at the end of the study only, or give another --out"
        )


def _move_from(older: StudyEntry, spec: RunSpec) -> extension.Move | None:
    return extension.find_move(older, spec.study, spec.simulations, spec.asked.seed_policy)


def leftovers_in(folder: Folder, log: Log) -> tuple[str, ...]:
    """List the parts that no commit names, of sessions that crashed or were taken over, and half-written files.

    A session that is to remove them lists them after it read the log and before its first commit: that commit ends the
    sessions which might still name them, and later sessions write parts that this one does not know.
    """
    parts = [path for path in part_names(folder) if path not in log.parts]
    places = ["", FOLDER, *part_folders(folder)]
    return (*parts, *(f"{place}/{name}".lstrip("/") for place in places for name in folder.leftovers(place)))


def part_names(folder: Folder) -> list[str]:
    """List every part of every table in a directory, whether a commit names it or not."""
    return [f"{at}/{name}" for at in part_folders(folder) for name in folder.names(at) if _PART.fullmatch(name)]


def part_folders(folder: Folder) -> list[str]:
    """List the folders of a directory that hold parts, one for each table."""
    return [SIMULATIONS, ATTEMPTS, *(f"{kind}/{name}" for kind in (OUTPUTS, "targets") for name in folder.names(kind))]
