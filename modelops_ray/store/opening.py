"""The start of a session: a look that changes nothing, then the steps that make a directory this session's.

Owns what a directory may hold and in which order a start writes. Every step may be the last one before a crash.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from modelops_ray.core.ranges import Ranges, runs
from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.sandbox.arrays import array_of
from modelops_ray.store import run_json, shards
from modelops_ray.store.commits import FOLDER, Log, Part, last_number, read_log
from modelops_ray.store.documents import damaged
from modelops_ray.store.extension import Move, find_move, kept, moved_parts
from modelops_ray.store.heartbeat import NAME as PROGRESS
from modelops_ray.store.heartbeat import read_progress
from modelops_ray.store.looking import consistently
from modelops_ray.store.parts import read_part, require_sizes
from modelops_ray.store.run_json import Growth, RunJson, StudyEntry
from modelops_ray.store.spec import RunSpec
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.writer import Clock, Session

_TRIES = 10
_OURS = {FOLDER, PROGRESS, "simulations", "outputs", "targets"}
_PART = re.compile(r"part-[0-9a-f]{8}-\d+\.parquet")


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a run directory found; `move` is set when its positions refer to an older study.

    `mark` is that of the `run.json` that was read. `debris` are files that no commit names: once a commit follows this
    look none ever will, since it ends the sessions that could.
    """

    run: RunJson
    mark: Hashable
    log: Log
    move: Move | None
    debris: tuple[str, ...] = ()

    def has_work(self, spec: RunSpec, repeat: Ranges) -> bool:
        """Whether a simulation has no row yet, or that of a failure that is to be repeated."""
        n_done = self.log.rows(failed=False) + self.log.rows(failed=True)
        return n_done < spec.asked.simulations or (bool(repeat) and any(map(repeat.__contains__, self._failed())))

    def _failed(self) -> Ranges:
        """Positions of failures in the study that is asked."""
        parts = [part for part in self.log.parts.values() if part.failed]
        return Ranges(
            pair for part in parts for pair in (part.positions.tolist() if self.move is None else self.move.runs(part))
        )


def look(folder: Folder, spec: RunSpec) -> Found | None:
    """Read and check a run directory, None where there is none yet.

    Raises:
        ResultsError: It is no run directory, is damaged, or answers another question.
    """
    return consistently(lambda: folder, lambda held: _look(held, spec))


def _look(folder: Folder, spec: RunSpec) -> Found | None:
    found = run_json.read_marked(folder)
    if found is None:
        _require_empty(folder)
        return None
    run, mark = found
    if run is None:
        return None
    path = folder.where(run_json.NAME)
    run_json.require_same_question(run, spec.asked, path)
    log = read_log(folder, run)
    if log.closed:
        raise ResultsError(
            f"{folder.where()}: a session that starts over is moving this run aside, or was stopped while it did; "
            "wait for it, or give --fresh once more"
        )
    run = run.grown(log.grown)
    debris = _debris(folder, log)
    _require_log(folder, run, log, debris)
    _require_positions(log, run.study_of(log.study).simulations, path)
    require_sizes(folder, log.parts.values())
    return Found(run, mark, log, _find_move(run, log, spec, path), debris)


def look_or_create(folder: Folder, spec: RunSpec, whole: Folder) -> Found:
    """Do as `look`, and make the directory where there is none; `whole` is the run that it is a shard of, or itself."""
    found = look(folder, spec)
    if found is None and (run := _create(folder, spec.asked)) is not None:
        mark = folder.mark(run_json.NAME)
        try:
            shards.require_one_split(whole)
        except ResultsError:
            folder.exchange(run_json.NAME, mark, run_json.new_stub())  # another split began at the same moment
            raise
        found = look(folder, spec)
        if found is not None and found.run.id == run.id:
            return found
    # Where another session made it in between, it is looked at like any other.
    found = found or look(folder, spec)
    if found is None:
        raise ResultsError(f"{folder.where()}: it disappeared while it was opened; start again")
    return found


def _create(folder: Folder, asked: RunJson) -> RunJson | None:
    """Begin a run where there is none; None where another session was faster."""
    there = folder.read_marked(run_json.NAME)
    run = asked.born(last_number(folder) + 1)
    data = run_json.encode_run_json(run)
    if there is None:
        return run if folder.create(run_json.NAME, data) else None
    is_free = run_json.is_stub(there[0])
    return run if is_free and folder.exchange(run_json.NAME, there[1], data) else None


def _require_empty(folder: Folder) -> None:
    """Where no run was found: nothing else may be there, but one that another session began since then.

    A session that was slow may leave empty folders, a word of its own, or one commit where its run was removed.
    """
    names = folder.names()
    if set(names) <= _OURS and len(folder.names(FOLDER)) <= 1 and not any(map(folder.names, _part_folders(folder))):
        return
    if names and run_json.NAME not in names:
        raise ResultsError(
            f"{folder.where()}: not a run directory, it holds {names[0]} and no {run_json.NAME}; give another --out"
        )


def _require_log(folder: Folder, run: RunJson, log: Log, debris: tuple[str, ...]) -> None:
    """A session that said a word of its own has made a commit, so that parts without a log mean that it was lost.

    Before that, they are what was left of runs that were moved aside, or of a session of one of them that was slow.
    """
    parts = [name for name in debris if _is_part(name)]
    if parts and log.last < run.log_from and read_progress(folder, run.id) is not None:
        raise damaged(folder.where(FOLDER), f"no commits, and there are parts such as {parts[0]}")


def _require_positions(log: Log, simulations: int, path: str) -> None:
    for part in log.parts.values():
        if len(part.positions) and part.positions.max() > simulations:
            raise damaged(part.commit, f"a position is beyond the {simulations} simulations of {path}")


def _find_move(run: RunJson, log: Log, spec: RunSpec, path: str) -> Move | None:
    asked = spec.asked.study
    if asked.digest == run.study.digest and log.study in (None, asked.digest):
        return None
    move = _move_from(run.study, spec)
    if move is None:
        raise ResultsError(
            f"{path}: run with study {run.study.digest[:12]} ({run.study.simulations} simulations), "
            f"which study {asked.digest[:12]} ({asked.simulations}) does not contain; "
            "give another --out, or --fresh to start over"
        )
    referred = run.study_of(log.study)
    if referred is not run.study:
        move = _move_from(referred, spec)
    if spec.scope is not None and move is not None:
        _require_same_shard(log, move, spec.scope, path)
    return move


def _require_same_shard(log: Log, move: Move, scope: Ranges, path: str) -> None:
    """A larger study may be split in another way, and what is done here may then be another shard's."""
    outside = scope.complement(len(move.position) and int(move.position.max()) + 1)
    done = Ranges(pair for part in log.parts.values() if len(part.positions) for pair in move.runs(part))
    if len(done | outside) < len(done) + len(outside):
        raise ResultsError(
            f"{path}: the larger study splits in another way, so that simulations done here belong to another shard; "
            "add parameter sets at the end of the study only, or give another --out"
        )


def _move_from(older: StudyEntry, spec: RunSpec) -> Move | None:
    return find_move(older, spec.study, spec.simulations, spec.asked.seed_policy)


def begin(session: Session, folder: Folder, found: Found, spec: RunSpec, repeat: Ranges) -> None:
    """Take the directory over: fence off others, move to a larger study, forget failures to repeat, clean up."""
    log = found.log
    before = list(log.parts)
    log.apply(session.append(log.study or found.run.study.digest), FOLDER)
    if found.move is not None:
        _extend(session, folder, found, found.move, spec)
    _forget(session, folder, log, spec.asked.study.digest, repeat)
    for name in (*found.debris, *(path for path in before if path not in log.parts)):
        folder.remove(name)
    session.heartbeat({})


def _extend(session: Session, folder: Folder, found: Found, move: Move, spec: RunSpec) -> None:
    """Go over to a larger study, in one step: the commit that refers to it says what it is."""
    log = found.log
    growth = Growth(study=spec.asked.study, shard=spec.asked.shard)
    with session.undoing():
        added = [
            kept(part, positions) if table is None else session.write(part.folder, table, positions, failed=part.failed)
            for part, table, positions in moved_parts(folder, log.parts, move, spec.simulations, spec.schemas)
        ]
        log.apply(session.append(growth.study.digest, added, checkpoint=True, grown=growth), FOLDER)


def _forget(session: Session, folder: Folder, log: Log, study: str, repeat: Ranges) -> None:
    """Take back the parts that hold one of these failures, and write what else is in them once more."""
    if not repeat:
        return
    retracted: list[str] = []
    added: list[Part] = []
    with session.undoing():
        for part in [part for part in log.parts.values() if part.failed]:
            positions = part.position_of_row
            stays = np.array([position not in repeat for position in positions.tolist()])
            if stays.all():
                continue
            retracted.append(part.path)
            if stays.any():
                rest = read_part(folder, part).filter(array_of(stays))
                added.append(session.write(part.folder, rest, list(runs(positions[stays].tolist())), failed=True))
        if retracted:
            log.apply(session.append(study, added, retracted), FOLDER)


def _debris(folder: Folder, log: Log) -> tuple[str, ...]:
    """Parts of crashed, failed or fenced sessions, and half-written files; made after the log was read."""
    parts = [path for path in _part_names(folder) if path not in log.parts]
    places = ["", FOLDER, *_part_folders(folder)]
    return (*parts, *(f"{place}/{name}".lstrip("/") for place in places for name in folder.leftovers(place)))


def _is_part(path: str) -> bool:
    return _PART.fullmatch(path.rpartition("/")[2]) is not None


def _part_names(folder: Folder) -> list[str]:
    return [
        f"{place}/{name}" for place in _part_folders(folder) for name in folder.names(place) if _PART.fullmatch(name)
    ]


def _part_folders(folder: Folder) -> list[str]:
    return ["simulations", *(f"{kind}/{name}" for kind in ("outputs", "targets") for name in folder.names(kind))]


def require_replaceable(folder: Folder) -> None:
    """Make sure that what is there, if anything, is a run, in any state.

    Raises:
        ResultsError: It is something else.
    """
    if not run_json.is_there(folder) and not shards.found_in(folder):
        _require_empty(folder)


def id_of(folder: Folder) -> str | None:
    """The id of the run in a folder, None where there is none, or it cannot be read."""
    with suppress(ResultsError):
        run = run_json.read_run_json(folder)
        return None if run is None else run.id
    return None


def move_aside(folder: Folder, clock: Clock) -> None:
    """Keep an old run under another name; anything else that is there is refused.

    Raises:
        ResultsError: What is there is no run.
    """
    require_replaceable(folder)
    places = {"": folder} | {f"{shards.FOLDER}/{shard.name}/": each for shard, each in shards.found_in(folder).items()}
    there = {at: each for at, each in places.items() if run_json.is_there(each)}
    if not there and (not folder.names() or run_json.read_marked(folder) is not None):
        return
    ending = f".old-{clock():%Y%m%dT%H%M%SZ}"
    if folder.renames:
        folder.move_aside(ending, {}, run_json.new_stub)
        return
    heads = {f"{at}{run_json.NAME}": _end_log(each, clock, closed=True) for at, each in there.items()}
    # Its parts have names that no other session's ever have, so that they can be removed however late this comes.
    left = [(each, _part_names(each)) for each in there.values()]
    moved = folder.move_aside(ending, heads, run_json.new_stub)
    for at in there:
        _end_log(moved.inside(at.rstrip("/")) if at else moved, clock, closed=False)
    for each, parts in left:
        for name in parts:
            each.remove(name)


def _end_log(folder: Folder, clock: Clock, *, closed: bool) -> Hashable:
    """End all sessions of a run, and where it is to be copied let none begin; return the mark of its `run.json`.

    A log that is damaged has no sessions.
    """
    for _ in range(_TRIES):
        there = folder.mark(run_json.NAME)
        try:
            run, mark = run_json.read_marked(folder) or (None, None)
            if run is None or mark != there:
                continue
            log = read_log(folder, run)
            if log.closed != closed:
                Session(folder, run, mark, log, clock).append(log.study or run.study.digest, closed=closed)
        except RunInUseError:
            continue  # another session committed in this moment
        except ResultsError:
            return there
        else:
            return mark
    raise StorageError(f"{folder.where()}: other sessions begin here again and again; start again once they have ended")
