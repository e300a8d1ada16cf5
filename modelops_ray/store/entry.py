"""A look at a run directory before anything is started or changed: is there anything to do, and may we do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from modelops_ray.core.ranges import Ranges
from modelops_ray.store import opening, shards
from modelops_ray.store.heartbeat import require_silent
from modelops_ray.store.run_store import RunStore
from modelops_ray.store.spec import RunSpec
from modelops_ray.store.storage.places import Place, open_folder
from modelops_ray.store.writer import Clock, utc_now

NOTHING = Ranges()


@dataclass(frozen=True, slots=True)
class Entry:
    """A run directory that was looked at and not touched.

    `begin` begins the session; where there is nothing to do it only removes what a killed session left.
    """

    begin: Callable[[], RunStore]
    todo: bool
    completed: int
    failed: int


def look(
    path: Place,
    spec: RunSpec,
    *,
    whole: Place | None = None,
    take_over: bool = False,
    fresh: bool = False,
    repeat: Ranges = NOTHING,
    clock: Clock = utc_now,
) -> Entry:
    """Check that a session may begin, and see whether there is anything for it to do.

    Args:
        path: Where the run directory is; there may be none yet.
        spec: What is asked; a directory of an older study that it contains goes on.
        whole: The run directory that `path` is a shard of, if it is one.
        take_over: Go on although another session seems to write.
        fresh: Move what is there aside and start over.
        repeat: Positions that are not done if they failed: their failures are forgotten.
        clock: The time of day with a time zone.

    Raises:
        ResultsError: The directory is damaged, or of another study, model or seed policy.
        RunInUseError: Another session writes it.
        StorageError: Reading failed.
    """
    folder = open_folder(path)
    held = folder.hold()
    run = folder if whole in (None, path) else open_folder(whole)
    shards.require_fit(run, spec, fresh=fresh)
    found = None
    if fresh:
        opening.require_replaceable(held)
    else:
        found = opening.look(held, spec)
    completed = 0 if found is None else found.log.rows(failed=False)
    failed = 0 if found is None else found.log.rows(failed=True)
    todo = found is None or found.has_work(spec, repeat)
    if todo and not take_over:
        for each in (held, *shards.found_in(held).values()):
            require_silent(each, opening.id_of(each), clock())
    begin = partial(RunStore.begin, folder, spec, run, clock=clock, take_over=take_over, fresh=fresh,
                    repeat=repeat)  # fmt: skip
    return Entry(begin, todo, completed, failed)
