"""Starting over: the run that is in a directory is moved aside, whole, and the sessions that write it are ended.

Owns that what is there is a run, and the order of the steps where nothing can be renamed. Copying is the storage's.
"""

from __future__ import annotations

from collections.abc import Hashable

from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.store import run_json, shards
from modelops_ray.store.commits import read_log
from modelops_ray.store.found import part_names, require_empty
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.writer import Session, Surroundings

_TRIES = 10


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
    for each, parts in left:
        for name in parts:
            each.remove(name)


def _end_log(folder: Folder, around: Surroundings, *, closed: bool) -> Hashable:
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
                Session(folder, run, mark, log, around).append(log.study or run.study.digest, closed=closed)
        except RunInUseError:
            continue  # another session committed in this moment
        except ResultsError:
            return there
        else:
            return mark
    raise StorageError(f"{folder.where()}: other sessions begin here again and again; start again once they have ended")
