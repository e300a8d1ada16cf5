"""What must hold in a world, whatever happens: at every look, and at the end.

Owns what was told to be committed. A promise that is broken is an AssertionError with a sentence.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from modelops_ray.core.events import Ending, Finish
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause
from modelops_ray.errors import ModelopsRayError, ResultsError, RunInUseError, StorageError
from modelops_ray.store.commits import FOLDER, decode
from modelops_ray.store.found import leftovers_in
from modelops_ray.store.parts import ATTEMPTS
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import is_there
from modelops_ray.store.run_store import RunStore
from modelops_ray.store.storage.base import Folder
from modelops_ray.store.storage.places import open_folder

if TYPE_CHECKING:
    from support.world.turns import Process
    from support.world.world import Told, World

    from modelops_ray.session.ports import Snapshot

COMMITTED_WITHIN_S = 11.0
"""What has finished is durable within ten seconds, and a turn of the driver, where the storage answers at once."""
DELAYS = ("refused", "throttled", "unanswered", "delayed", "conflict")
YOUNG_S = 55.0
"""A session that was heard of within a minute counts as one that lives; reading takes seconds."""

Key = tuple[str, int]
"""A simulation: `param_id` and seed."""

# What a session may be told while others do what they like, or the storage is ill.
HARMLESS = (
    "start again",
    "start later",
    "--fresh once more",
    "does not contain",
    "no answer",
    "timed out",
    "503",
    "429",
    "409",
)


class Promises:
    """Follows the sessions of a world."""

    def __init__(self, world: World) -> None:
        """Begin with nothing told."""
        self._world = world
        self._told: defaultdict[str, set[Key]] = defaultdict(set)
        self._told_attempts: defaultdict[str, int] = defaultdict(int)
        self._heard_s: dict[Process, float] = {}
        self._run_of: dict[Process, str] = {}
        self._has_lied = False
        self._keys: dict[int, dict[int, Key]] = {}

    # What sessions tell

    def began(self, store: RunStore, process: Process, how: dict[str, Any]) -> None:
        """A session has taken a run directory: unless the user said so, no other one lives that was heard of lately."""
        world = self._world
        # Where clocks differ, or a session may sleep between its look and its first commit, only the commit decides.
        is_unsure = {"clock_skew", "clock_jump", "slow_storage", "stopped"} & world.plan.kinds
        if not (how.get("take_over") or how.get("fresh") or is_unsure):
            for other, heard_s in self._heard_s.items():
                is_live = not (other.is_over or other.is_dead) and other is not process
                run = self._run_of.get(other)
                if is_live and run == store._session._run.id and world.turns.now_s - heard_s < YOUNG_S:
                    raise AssertionError(f"{process.name} begins although {other.name} said a word lately")
        self._run_of[process] = store._session._run.id
        self.heard(process)

    def heard(self, process: Process) -> None:
        """A session has said that it lives."""
        self._heard_s[process] = self._world.turns.now_s

    def committed(self, store: RunStore) -> None:
        """The driver was told that something is committed: it holds from here on."""
        run, log = store._session._run, store._log
        done = Ranges(pair for part in log.parts.values() if not part.failed for pair in part.positions.tolist())
        keys = self._keys_of(store)
        self._told_attempts[run.id] = sum(part.rows for part in log.parts_of(ATTEMPTS))
        self._told[run.id] |= {keys[position] for start, stop in done.pairs() for position in range(start, stop)}

    def finished(self, snapshot: Snapshot, finish: Finish, waited_s: float, process: Process) -> None:
        """What a session counts adds up, and what it finished was committed in time."""
        view, world = snapshot.view, self._world
        if finish.ending is Ending.COMPLETE:
            n = view.completed + view.failed
            assert n == view.committed == snapshot.simulations - snapshot.resumed, f"{process.name} counts {view}"
        is_slow = {"slow_storage", "stopped", *DELAYS} & world.plan.kinds
        assert is_slow or waited_s < COMMITTED_WITHIN_S, f"a result of {process.name} waited {waited_s:.1f} s"

    def power_was_lost(self, *, lied: bool) -> None:
        """Where the disk lied about syncs, what was told may be gone; what is there must be right all the same."""
        self._has_lied |= lied

    def check_error(self, told: Told) -> None:
        """An error is one line; a directory is only called damaged where the disk has lied."""
        error = told.error
        assert "\n" not in str(error), f"an error of several lines: {error}"
        for other in self._world.told:
            is_over = other.finish is not None and f"process 1 on {other.session.name} writes this" in str(error)
            assert not is_over, f"{told.session.name} is told of {other.session.name}, which has ended: {error}"
        assert f" on {told.session.name} has taken over" not in str(error), "a session takes itself for another one"
        if isinstance(error, RunInUseError | StorageError) or self._has_lied:
            return
        assert any(words in str(error) for words in HARMLESS), f"{told.session.name} is told: {error}"

    def may_refuse(self, error: ModelopsRayError | None) -> None:
        """In calm a session begins; only a run that was being moved aside, or that a disk lost, needs `--fresh`."""
        if self._has_lied or "--fresh once more" in str(error):
            return
        raise AssertionError(f"in calm a session is told: {error}") from error

    # What is there

    def look(self) -> None:
        """A reader looks at what is there now."""
        if self._world.has("refused_read") or self._world.has("old_listing"):
            return
        self._check(self._world.place)

    def check_the_end(self) -> None:
        """The study is complete, and all runs that were moved aside hold what they were told to hold."""
        world, last = self._world, self._world.told[-1]
        if self._has_lied and last.error is not None:
            return
        assert last.error is None, f"the last session is told: {last.error}"
        assert last.finish is not None
        assert last.finish.ending is Ending.COMPLETE, f"the last session ends: {last.finish}"
        seen = {self._check(world.place, is_whole=True)}
        for place in self._aside():
            seen.add(self._check(place))
        lost = {run for run, told in self._told.items() if told} - seen
        assert self._has_lied or not lost, f"runs {lost} are gone"

    def _check(self, place: object, *, is_whole: bool = False) -> str | None:
        """Rows are the model's, each once, in study order; all that was told is there; sessions did not mix."""
        folder = open_folder(place)
        try:
            if not is_there(folder):
                return None
            reader = RunReader(place)
            run = reader.run
            rows = reader.simulations().to_pylist()
            attempts = reader.attempts().to_pylist()
            outputs = (
                reader.output("incidence").to_pylist() if any(row["status"] == "completed" for row in rows) else []
            )
        except ResultsError as error:
            self._may_be_unreadable(error)
            return None
        keys = [(row["param_id"], row["seed"]) for row in rows]
        order = self._order()
        assert len(set(keys)) == len(keys), "a simulation has two rows"
        assert keys == sorted(keys, key=order.__getitem__), "rows are not in study order"
        self._check_rows(rows, outputs, order)
        self._check_attempts(rows, attempts, order)
        n_told = self._told_attempts[run.id]
        assert self._has_lied or n_told <= len(attempts), f"{n_told - len(attempts)} of {n_told} attempts are gone"
        completed = {key for key, row in zip(keys, rows, strict=True) if row["status"] == "completed"}
        missing = self._told[run.id] - completed
        assert self._has_lied or not missing, f"{len(missing)} results that were told to be committed are gone"
        if is_whole:
            self._check_files(folder, reader)
            n = len(self._world.simulations)
            assert n == len(rows), f"{len(rows)} of {n} simulations have a row"
        if not self._has_lied:
            self._check_order_of_sessions(folder, run)
        return run.id

    def _check_files(self, folder: Folder, reader: RunReader) -> None:
        """After a session that ended properly there is no file but those that count."""
        log = reader.log()
        leftovers = leftovers_in(folder, log)
        assert self._has_lied or not leftovers, f"files are left that do not count: {leftovers}"

    def _check_rows(self, rows: list[dict], outputs: list[dict], order: dict[Key, int]) -> None:
        fates, misfitting = self._world.fates, self._world.misfitting
        for row in rows:
            position = order[row["param_id"], row["seed"]]
            allowed = {"model_error"} if position in fates.raising else {None}
            if position in fates.hopeless:
                allowed = {"crashed", "out_of_memory"}
            if position in misfitting and position not in fates.raising:
                allowed.add("bad_output")
            assert row["cause"] in allowed, f"simulation {position} has {row['cause']}, not one of {allowed}"
        completed = [row for row in rows if row["status"] == "completed"]
        expected = [
            (row["seed"], day, cases)
            for row in completed
            for position in [order[row["param_id"], row["seed"]]]
            for day, cases in zip(self._world.days_of(position), (row["seed"], position), strict=True)
        ]
        found = [(row["seed"], row["day"], row["cases"]) for row in outputs]
        assert expected == found, "rows are not the model's"
        self._world.met["wider"] += any(isinstance(day, float) for _, day, _ in found)

    def _check_attempts(self, rows: list[dict], attempts: list[dict], order: dict[Key, int]) -> None:
        """All attempts of a simulation but the one with its result have a row, which says what happened."""
        if self._has_lied:
            return
        position_of = {row["task_id"]: order[row["param_id"], row["seed"]] for row in rows}
        made = defaultdict(list)
        for row in attempts:
            made[row["task_id"]].append(row["attempt"])
            if (position := position_of.get(row["task_id"])) is not None:
                ended = self._world.fates.ended[position, row["attempt"]] | (
                    {Cause.BAD_OUTPUT} if position in self._world.misfitting else set()
                )
                assert row["cause"] in ended, f"attempt {row['attempt']} of {position}: {row['cause']}, not {ended}"
        for row in rows:
            n = row["attempts"] if row["status"] == "failed" else row["attempts"] - 1
            assert made[row["task_id"]] == list(range(1, n + 1)), f"attempts {made[row['task_id']]} of {n} have a row"

    def _check_order_of_sessions(self, folder: Folder, run: object) -> None:
        """Once another session of the run has begun, none of the earlier ones adds anything."""
        contents = [(name, folder.read(f"{FOLDER}/{name}")) for name in folder.names(FOLDER)]
        commits = [decode(data, name) for name, data in contents if data is not None]
        sessions = [each.session for each in commits if each.run == run.id and each.number >= run.log_from]
        turns = [name for name, _ in itertools.groupby(sessions)]
        assert len(set(turns)) == len(turns), "a session that was over made something visible"

    def _may_be_unreadable(self, error: ResultsError) -> None:
        if self._has_lied or any(words in str(error) for words in ("--fresh once more", "start again")):
            return
        raise AssertionError(f"it cannot be read: {error}") from error

    def _aside(self) -> list[object]:
        if self._world.plan.place == "disk":
            return sorted(self._world.disk.root.glob("run.old-*"))
        import obstore

        found = obstore.list_with_delimiter(self._world.bucket.memory, "runs")["common_prefixes"]
        return [f"s3://bucket/{prefix}" for prefix in found if prefix != "runs/run"]

    def _order(self) -> dict[Key, int]:
        return {key: position for position, key in self._positions().items()}

    def _positions(self) -> dict[int, Key]:
        n_sets = self._world.n_sets
        if n_sets not in self._keys:
            self._keys[n_sets] = {each.position: (each.param_id, each.seed) for each in self._world.simulations}
        return self._keys[n_sets]

    def _keys_of(self, _store: RunStore) -> dict[int, Key]:
        """Positions of a smaller study are those of the larger one: it only grows at its end."""
        return self._positions()
