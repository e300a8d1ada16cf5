"""The start of a session: a run directory is read once, and what was found leads to the session that works on it.

Owns who may begin, in which order a start writes, and how a run is moved aside to start over, with the sessions that
write it ended. Every step may be the last one before a crash. What a directory may hold is `found`'s.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from modelops_ray.core.ranges import Ranges, runs
from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.sandbox.arrays import array_of
from modelops_ray.sandbox.loading import ModelRef
from modelops_ray.store import commits, heartbeat, parts, run_json, run_store, shards
from modelops_ray.store.earlier import columns_of, read_earlier
from modelops_ray.store.extension import Move, kept, moved_parts
from modelops_ray.store.found import Found, RunSpec, find, leftovers_in, part_names, require_empty
from modelops_ray.store.run_json import Growth, RunJson
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.storage.places import Place, open_folder
from modelops_ray.store.writer import REAL, Session, Surroundings
from modelops_ray.study.rows import RunIdentity

NOTHING = Ranges()
TRIES = 10


@dataclass(frozen=True, slots=True)
class Opening:
    """A run directory that was read and not changed: what was found, what is asked, and how a session is to begin.

    `folder` is where the run is or is to be, `whole` the run that it is a shard of, or itself. `found` is None where
    there is no run yet, and where one is to be moved aside.
    """

    folder: Folder
    whole: Folder
    spec: RunSpec
    around: Surroundings
    take_over: bool
    fresh: bool
    repeat: Ranges
    found: Found | None

    @property
    def has_work(self) -> bool:
        """Whether there is a simulation for the session to run."""
        return self.found is None or self.found.has_work(self.spec, self.repeat)

    @property
    def identity(self) -> RunIdentity:
        """What its simulations are identified by: in a run that is there, as it began."""
        return (self.spec if self.found is None else self.spec.going_on(self.found.run)).identity

    def of_model(self, model: ModelRef) -> Opening:
        """The same with a model that was looked at: what its import reads is known."""
        return replace(self, spec=replace(self.spec, model=model))

    def begin(self) -> run_store.RunStore:
        """Begin the session; where there is nothing to do it only removes what a killed session left.

        The directory is read again only if another session has written it since; raises what `open_directory` raises.
        """
        found = self.found
        if self.fresh:
            self._start_over(self.folder.hold())
        if found is None or not found.is_current():
            found = _find_or_create(self.folder.hold(make=True), self.spec, self.whole, self.around)
        warnings = run_json.other_versions(found.run.versions, self.spec.asked.versions)
        spec = self.spec.going_on(found.run)
        return run_store.RunStore(found.folder, spec, found.log, self._begun(found), warnings)

    def _start_over(self, folder: Folder) -> None:
        if not self.take_over:
            for each, run_id in _written(folder, None):
                heartbeat.require_free(each, run_id, self.around.clock())
        move_aside(folder, self.around)

    def _begun(self, found: Found) -> run_store.Begun | None:
        folder, now = found.folder, self.around.clock()
        has_leftovers = bool(found.leftovers) and heartbeat.writer(folder, found.run.id, now) is None
        is_told = found.move is not None or bool(found.changed)
        if not (found.has_work(self.spec, self.repeat) or is_told or has_leftovers):
            return None
        if not self.take_over:
            heartbeat.require_free(folder, found.run.id, now)
        session = Session(folder, found.run, found.mark, found.log, self.around)
        with session.blaming():
            earlier = read_earlier(found, self.repeat)
            _prepare(session, found, self.spec, self.repeat)
            if found.move is not None:
                earlier = replace(earlier, columns=columns_of(folder, found.log))
        return run_store.Begun(session, earlier)


def open_directory(
    place: Place,
    spec: RunSpec,
    *,
    whole: Place | None = None,
    take_over: bool = False,
    fresh: bool = False,
    repeat: Ranges = NOTHING,
    around: Surroundings = REAL,
) -> Opening:
    """Read a run directory, and check that a session may begin where there is anything for it to do.

    ResultsError if it is damaged or answers another question; RunInUseError if another session writes it.

    Args:
        place: Where the run directory is; there may be none yet.
        spec: What is asked; a directory of an older study that it contains goes on.
        whole: The run directory that `place` is a shard of, if it is one.
        take_over: Go on although another session seems to write.
        fresh: Move what is there aside and start over.
        repeat: Positions that are not done if they failed: their failures are forgotten.
        around: What a session takes from outside.
    """
    folder = open_folder(place)
    held = folder.hold()
    run = folder if whole in (None, place) else open_folder(whole)
    shards.require_fit(run, spec, fresh=fresh)
    if fresh:
        require_replaceable(held)
    found = None if fresh else find(held, spec)
    opening = Opening(folder, run, spec, around, take_over, fresh, repeat, found)
    if opening.has_work and not take_over:
        for each, run_id in _written(held, found):
            heartbeat.require_silent(each, run_id, around.clock(), around.sleep)
    return opening


def _written(folder: Folder, found: Found | None) -> list[tuple[Folder, str | None]]:
    """The directories that other sessions may write, each with the id of its run; shards count where no run is kept."""
    if found is not None:
        return [(folder, found.run.id)]
    return [(each, _id_of(each)) for each in (folder, *shards.found_in(folder).values())]


def _id_of(folder: Folder) -> str | None:
    with suppress(ResultsError):
        run = run_json.read_run_json(folder)
        return None if run is None else run.id
    return None


def _find_or_create(folder: Folder, spec: RunSpec, whole: Folder, around: Surroundings) -> Found:
    """Begin a run where there is none; `whole` is the run that it is a shard of, or itself."""
    if _create(folder, spec.asked, around.token(16)):
        mark = folder.mark(run_json.NAME)
        try:
            shards.require_one_split(whole)
        except ResultsError:
            folder.exchange(run_json.NAME, mark, run_json.new_stub())  # another split began at the same moment
            raise
    # Where another session made it in between, it is read like any other.
    found = find(folder, spec)
    if found is None:
        raise ResultsError(f"{folder.where()}: it disappeared while it was opened; start again")
    return found


def _create(folder: Folder, asked: RunJson, run: str) -> bool:
    """Write `run.json` with this id where there is no run; False where there is one, or another session was faster."""
    there = folder.read_marked(run_json.NAME)
    if there is not None and not run_json.is_stub(there[0]):
        return False
    data = run_json.encode_run_json(asked.born(run, commits.last_number(folder) + 1))
    if there is not None:
        return folder.exchange(run_json.NAME, there[1], data)
    require_empty(folder)
    return folder.create(run_json.NAME, data)


def _prepare(session: Session, found: Found, spec: RunSpec, repeat: Ranges) -> None:
    """Take the directory over: fence off others, move to a larger study, forget failures to repeat, clean up."""
    folder, log = found.folder, found.log
    before = list(log.parts)
    files = commits.Files(accepted=found.changed) if found.changed else None
    leftovers = leftovers_in(folder, log)
    log.apply(session.append(log.study or found.run.study.digest, files=files), commits.FOLDER)
    if found.move is not None:
        _extend(session, found, found.move, spec)
    _forget(session, folder, log, spec.asked.study.digest, repeat)
    for name in (*leftovers, *(path for path in before if path not in log.parts)):
        folder.remove(name)
    session.heartbeat({})


def _extend(session: Session, found: Found, move: Move, spec: RunSpec) -> None:
    """Go over to a larger study, in one step: the commit that refers to it says what it is."""
    folder, log = found.folder, found.log
    growth = Growth(study=spec.asked.study, shard=spec.asked.shard)
    with session.undoing():
        added = [
            kept(part, positions) if table is None else session.write(part.folder, table, positions, failed=part.failed)
            for part, table, positions in moved_parts(folder, log.parts, move, spec.simulations, spec.schemas)
        ]
        log.apply(session.append(growth.study.digest, added, grown=growth), commits.FOLDER)


def _forget(session: Session, folder: Folder, log: commits.Log, study: str, repeat: Ranges) -> None:
    """Take back the parts that hold one of these failures, and write what else is in them once more."""
    if not repeat:
        return
    retracted: list[str] = []
    added: list[commits.Part] = []
    with session.undoing():
        for part in [part for part in log.parts.values() if part.failed]:
            positions = part.position_of_row
            stays = np.array([position not in repeat for position in positions.tolist()])
            if stays.all():
                continue
            retracted.append(part.path)
            if stays.any():
                rest = parts.read_part(folder, part).filter(array_of(stays))
                added.append(session.write(part.folder, rest, list(runs(positions[stays].tolist())), failed=True))
        if retracted:
            log.apply(session.append(study, added, retracted), commits.FOLDER)


def require_replaceable(folder: Folder) -> None:
    """Make sure that what is there, if anything, is a run, in any state; ResultsError if it is something else."""
    if not run_json.is_there(folder) and not shards.found_in(folder):
        require_empty(folder)


def move_aside(folder: Folder, around: Surroundings) -> None:
    """Keep an old run under another name; ResultsError if what is there is no run."""
    require_replaceable(folder)
    places = {"": folder} | {f"{shards.FOLDER}/{shard.name}/": each for shard, each in shards.found_in(folder).items()}
    there = {at: each for at, each in places.items() if run_json.is_there(each)}
    if not there and (not folder.names() or run_json.read_marked(folder) is not None):
        return
    ending = f".old-{around.clock():%Y%m%dT%H%M%SZ}"
    if folder.renames:
        folder.move_aside(ending, {}, run_json.new_stub)
        return
    heads = {f"{at}{run_json.NAME}": _end_log(each, around, closed=True) for at, each in there.items()}
    # No other session ever has parts of these names, so they can be removed however late this happens.
    left = [(each, part_names(each)) for each in there.values()]
    moved = folder.move_aside(ending, heads, run_json.new_stub)
    for at in there:
        _end_log(moved.inside(at.rstrip("/")) if at else moved, around, closed=False)
    for each, names in left:
        for name in names:
            each.remove(name)


def _end_log(folder: Folder, around: Surroundings, *, closed: bool) -> Hashable:
    """End all sessions of a run, and where it is to be copied let none begin; return the mark of its `run.json`.

    A log that is damaged has no sessions.
    """
    for _ in range(TRIES):
        there = folder.mark(run_json.NAME)
        try:
            run, mark = run_json.read_marked(folder) or (None, None)
            if run is None or mark != there:
                continue
            log = commits.read_log(folder, run)
            if log.closed != closed:
                Session(folder, run, mark, log, around).append(log.study or run.study.digest, closed=closed)
        except RunInUseError:
            continue  # another session committed in this moment
        except ResultsError:
            return there
        else:
            return mark
    raise StorageError(f"{folder.where()}: other sessions begin here again and again; start again once they have ended")
