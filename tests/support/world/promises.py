"""What must hold in a world, whatever happens: at every look, and at the end.

Owns what was told to be committed. A promise that is broken is an AssertionError with a sentence.

Among them are the invariants of OSWALD, a write-ahead log of objects (https://nvartolomei.com/oswald and the P models
`SafetyLsnConsistency`, `SafetyCounterMonotonicity`, `SafetyManifestMonotonicity` and `LivenessCounterProgress` in
github.com/nvartolomei/oswald), as they read for this log: all who look see the same commit under a number, for ever;
what a reader has seen is in all that is seen later, and a session that begins knows all that was told before; a run's
log begins where it began, and reaches at least as far as it did; and every session that begins comes to its end.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import obstore
from support.world.nodes import said_of

from modelops_ray.core.events import Ending, Finish
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.report import Cause
from modelops_ray.diagnosis.diagnosis import diagnose
from modelops_ray.errors import ModelopsRayError, ResultsError, RunInUseError, StorageError
from modelops_ray.store.commits import FOLDER as LOG
from modelops_ray.store.commits import decode, digest_of, read_log
from modelops_ray.store.found import leftovers_in
from modelops_ray.store.parts import ATTEMPTS
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import is_there, read_run_json
from modelops_ray.store.run_store import RunStore
from modelops_ray.store.shards import FOLDER as SHARDS
from modelops_ray.store.shards import found_in
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

Seen = dict[int, str]
"""The commits of a run, by number, as the digests of their files."""
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
        self._seen_commits: defaultdict[str, Seen] = defaultdict(dict)
        self._seen: defaultdict[str, set[Key]] = defaultdict(set)
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
        run = self._run_of[process] = store._session._run.id
        unknown = self._told[run] - self._completed(store)
        assert self._has_lied or not unknown, f"{process.name} begins without {len(unknown)} results that were told"
        self.heard(process)

    def heard(self, process: Process) -> None:
        """A session has said that it lives."""
        self._heard_s[process] = self._world.turns.now_s

    def committed(self, store: RunStore) -> None:
        """The driver was told that something is committed: it holds from here on."""
        run = store._session._run.id
        self._told_attempts[run] = sum(part.rows for part in store._log.parts_of(ATTEMPTS))
        self._told[run] |= self._completed(store)

    def _completed(self, store: RunStore) -> set[Key]:
        """What a session takes for completed. Positions of a smaller study are those of the larger one."""
        parts = [part for part in store._log.parts.values() if not part.failed]
        done = Ranges(pair for part in parts for pair in part.positions.tolist())
        keys = self._positions()
        return {keys[position] for start, stop in done.pairs() for position in range(start, stop)}

    def finished(self, snapshot: Snapshot, finish: Finish, waited_s: float, process: Process) -> None:
        """What a session counts adds up, and what it finished was committed in time."""
        view, world = snapshot.view, self._world
        if finish.ending is Ending.COMPLETE:
            n = view.completed + view.failed
            assert n == view.committed == snapshot.simulations - snapshot.resumed, f"{process.name} counts {view}"
        is_slow = {"slow_storage", "stopped", *DELAYS} & world.plan.kinds
        assert is_slow or waited_s < COMMITTED_WITHIN_S, f"a result of {process.name} waited {waited_s:.1f} s"

    def power_was_lost(self, *, lied: bool) -> None:
        """Where the disk lied about syncs, what was told may be gone; what is there must be right all the same.

        What was seen and not told yet may be gone as well.
        """
        self._has_lied |= lied
        self._seen_commits.clear()
        self._seen.clear()

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
        """A reader looks at what is there now; its requests may be refused."""
        try:
            self._check(self._world.place)
        except StorageError:
            if not self._world.has("refused_read"):
                raise

    def check_the_end(self) -> None:
        """The study is complete, and all runs that were moved aside hold what they were told to hold."""
        world, lasts = self._world, self._world.last_of_each()
        if self._has_lied and any(last.error is not None for last in lasts):
            return
        for last in lasts:
            assert last.error is None, f"the last session is told: {last.error}"
            assert last.finish is not None
            assert last.finish.ending is Ending.COMPLETE, f"the last session ends: {last.finish}"
        seen = self._check(world.place, is_whole=True).union(*map(self._check, self._aside()))
        lost = {run for run, told in self._told.items() if told} - seen
        assert self._has_lied or not lost, f"runs {lost} are gone"

    def _check(self, place: Any, *, is_whole: bool = False) -> set[str]:
        """Rows are the model's, each once, in study order; all that was told is there; sessions did not mix.

        Return the ids of the runs there: several where it is in shards.
        """
        try:
            whole = open_folder(place)
            folders = [folder for folder in (whole, *found_in(whole).values()) if is_there(folder)]
            if not folders:
                return set()
            runs = {read_run_json(folder).id: folder for folder in folders}
            reader = RunReader(place)
            rows = reader.simulations().to_pylist()
            attempts = reader.attempts().to_pylist()
            outputs = (
                reader.output("incidence").to_pylist() if any(row["status"] == "completed" for row in rows) else []
            )
        except ResultsError as error:
            self._may_be_unreadable(error)
            return set()
        keys = [(row["param_id"], row["seed"]) for row in rows]
        order = self._order()
        assert len(set(keys)) == len(keys), "a simulation has two rows"
        assert keys == sorted(keys, key=order.__getitem__), "rows are not in study order"
        self._check_rows(rows, outputs, order)
        self._check_attempts(rows, attempts, order)
        self._check_told(
            runs, {key for key, row in zip(keys, rows, strict=True) if row["status"] == "completed"}, attempts
        )
        if is_whole:
            n = len(self._world.simulations)
            assert n == len(rows), f"{len(rows)} of {n} simulations have a row"
        with self._world.bucket.in_good_weather():
            if is_whole:
                self._check_why(reader, place, order)
            for run, folder in runs.items():
                self._check_log(run, folder, is_over=is_whole)
        return set(runs)

    def _check_told(self, runs: Collection[str], completed: set[Key], attempts: Collection[object]) -> None:
        """What was told or seen is there, and more."""
        if self._has_lied:
            return
        n_told = sum(self._told_attempts[run] for run in runs)
        assert n_told <= len(attempts), f"{n_told - len(attempts)} of {n_told} attempts are gone"
        for run in runs:
            missing = self._told[run] - completed
            assert not missing, f"{len(missing)} results that were told to be committed are gone"
            missing = self._seen[run] - completed
            assert not missing, f"{len(missing)} results that a reader has seen are gone"
        if len(runs) == 1:
            self._seen[next(iter(runs))] = completed

    def _check_log(self, run: str, folder: Folder, *, is_over: bool) -> None:
        """A log only grows, sessions follow each other, and when all have ended properly no other file is left."""
        if self._has_lied:
            return
        if is_over:
            leftovers = leftovers_in(folder, read_log(folder))
            assert not leftovers, f"files are left that do not count: {leftovers}"
        found = [(name, folder.read(f"{LOG}/{name}")) for name in folder.names(LOG)]
        commits = [(decode(data, name), digest_of(data)) for name, data in found if data is not None]
        own = [(commit, digest) for commit, digest in commits if commit.run == run]
        turns = [name for name, _ in itertools.groupby(commit.session for commit, _ in own)]
        assert len(set(turns)) == len(turns), "a session that was over made something visible"
        seen = {commit.number: digest for commit, digest in own}
        changed = self._seen_commits[run].items() - seen.items()
        assert not changed, f"commits {sorted(number for number, _ in changed)} are gone, or others than they were"
        self._seen_commits[run] = seen

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
                    {(Cause.BAD_OUTPUT, "n0")} if position in self._world.misfitting else set()
                )
                found = (row["cause"], row["node"] or "")
                said = row["error_message"] or ""
                assert "the pod of" not in said or said == said_of(row["node"]), f"an attempt on {found}: {said}"
                assert found in ended, f"attempt {row['attempt']} of {position}: {found}, not one of {ended}"
        for row in rows:
            n = row["attempts"] if row["status"] == "failed" else row["attempts"] - 1
            assert made[row["task_id"]] == list(range(1, n + 1)), f"attempts {made[row['task_id']]} of {n} have a row"

    def _check_why(self, reader: RunReader, place: object, order: dict[Key, int]) -> None:
        """`why` puts every failure in one group, names the cause that its world knows, and counts regions rightly."""
        found, world = diagnose(reader, str(place)), self._world
        rows = found.failures.to_pylist()
        assert sorted(row for group in found.groups for row in group.rows) == list(range(len(rows))), "not in one group"
        for group in found.groups:
            for at in group.rows:
                position = order[rows[at]["param_id"], rows[at]["seed"]]
                known = {Cause.BAD_OUTPUT} if position in world.misfitting else set()
                known |= {cause for cause, _ in world.fates.ended[position, rows[at]["attempts"]]}
                assert self._has_lied or group.cause in known, f"why says {group.cause} of {position}, not {known}"
            regions = group.regions
            counts = [(each.n_failed, each.n_of) for each in (*regions.regions, regions)]
            total = (len(group.rows), found.simulations.num_rows)
            assert total == tuple(map(sum, zip(*counts, strict=True))), f"why counts {counts}, not {total}"
        world.met["why"] += bool(found.groups)

    def _may_be_unreadable(self, error: ResultsError) -> None:
        harmless = ("--fresh once more", "start again", "run every shard with the same study")
        if self._has_lied or any(words in str(error) for words in harmless):
            return
        raise AssertionError(f"it cannot be read: {error}") from error

    def _aside(self) -> list[object]:
        """Where runs or shards are that were moved aside."""
        if self._world.plan.place == "disk":
            return sorted(self._world.disk.root.glob("**/*.old-*"))
        found = [
            prefix
            for above in ("runs", f"runs/run/{SHARDS}")
            for prefix in obstore.list_with_delimiter(self._world.bucket.memory, above)["common_prefixes"]
        ]
        return [f"s3://bucket/{prefix}" for prefix in found if ".old-" in prefix]

    def _order(self) -> dict[Key, int]:
        return {key: position for position, key in self._positions().items()}

    def _positions(self) -> dict[int, Key]:
        n_sets = self._world.n_sets
        if n_sets not in self._keys:
            self._keys[n_sets] = {each.position: (each.param_id, each.seed) for each in self._world.simulations}
        return self._keys[n_sets]
