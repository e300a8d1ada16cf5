"""Two or three sessions on one run directory, in thousands of orders: never a mixed, an unreadable or a poorer run.

They start over, take over, wake late at any operation, die at any operation, and have clocks that differ; the directory
is removed under them; an object store is slow, refuses, conflicts, and loses answers.
"""

import itertools
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import obstore
import pytest
from support.schedules import URI, Actor, World, scheduled
from support.stores import grid, open_store, opened, payload

from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.store.commits import FOLDER, decode
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import is_there, read_run_json
from modelops_ray.store.storage.places import open_folder
from modelops_ray.study.simulations import Simulations

STUDY = grid(2, 3)
POSITION = {(each.param_id, each.seed): each.position for each in Simulations(STUDY)}
HOW = [
    {},
    {},
    {"take_over": True},
    {"take_over": True},
    {"fresh": True},
    {"fresh": True, "take_over": True},
    {"fresh": True, "take_over": True},
]
SKEWS_S = [0, 0, 0, 65, -65, 3600]
# What a session may be told while others do what they like; by any other error the run is broken.
HARMLESS = [
    "start again",
    "start later",
    "wait for it, or give --fresh once more",
    "no answer",
]


class Schedule:
    """One seed: what its sessions do, and what they were told is done."""

    def __init__(self, kind, seed, folder):
        self.world = World(seed)
        self.kind = kind
        self.dice = self.world.dice
        self.place = folder / "run" if kind == "files" else URI
        self.told = defaultdict(dict)
        self.removed = set()
        self.removals = self.dice.choice([0, 0, 0.01])
        self.deaths = self.dice.choice([0, 0.004, 0.01])
        self.world.weather = 0 if kind == "files" else self.dice.choice([0, 0.02, 0.1])
        self.actors = [
            Actor(self.world, name, self.work, self.dice.choice(SKEWS_S))
            for name in "abc"[: self.dice.choice([2, 2, 3])]
        ]

    def play(self):
        """Let all end, and look whether what is left is what they were told."""
        with scheduled(self.world):
            self.world.run(self.actors, self.each_step)
            for actor in self.actors:
                if actor.error is not None:
                    raise actor.error
            self.check()
            self.check_what_was_moved()
            self.check_that_it_goes_on()

    # What sessions do

    def work(self, actor):
        """Some sessions, one after the other."""
        for _ in range(self.dice.randint(1, 4)):
            try:
                self.session(actor, self.dice.choice(HOW))
            except (RunInUseError, StorageError):
                pass
            except ResultsError as error:
                if not any(words in str(error) for words in HARMLESS) and not self.is_fragment(error):
                    raise

    def is_fragment(self, error):
        """Where what is in a directory was removed under a session that then died, its late part may be left."""
        return self.removals and "not a run directory" in str(error)

    def session(self, actor, how):
        """Begin, commit some, and mostly end."""
        opening = opened(self.place, STUDY, clock=actor.clock, **how)
        if self.dice.random() < 0.3:
            actor.asleep_for = self.dice.randint(20, 400)
        self.world.step("starts what runs the simulations")
        store = opening.begin()
        if store._session is None:
            return
        run, name = store._session._run.id, store._session.name
        rows = {"run": [run], "session": [name]}
        for _ in range(self.dice.randint(0, 3)):
            left = [position for position in range(len(POSITION)) if position not in store.done()]
            if not left:
                break
            some = self.dice.sample(left, self.dice.randint(1, min(2, len(left))))
            store.commit([payload(STUDY, sorted(some), lambda _: {"o": rows})], [])
            self.told[run].update(dict.fromkeys(some, name))
            store.heartbeat({})
        if self.dice.random() < 0.8:
            store.close("stopped")

    # What happens to them

    def each_step(self):
        """A session dies, or a user removes the directory, or a reader looks."""
        living = [actor for actor in self.actors if not actor.is_over]
        if self.dice.random() < self.deaths:
            self.world.kill(self.dice.choice(living))
        if self.world.late and self.dice.random() < 0.02:
            self.world.arrive()
        is_late = any(actor.asleep_for > 0 and actor.is_committing for actor in living)
        if self.dice.random() < self.removals * (5 if is_late else 1):
            self.remove()
        if self.dice.random() < 0.03:
            self.check()

    def remove(self):
        """A user removes the directory, or all that is in it."""
        run = read_run_json(open_folder(self.place))
        self.removed.add(None if run is None else run.id)
        self.world.story.append(f"removed {run and run.id[:6]}")
        for actor in self.actors:
            if self.dice.random() < 0.5:
                actor.asleep_for = self.dice.randint(20, 400)
        if self.kind == "objects":
            keys = [meta["path"] for batch in obstore.list(self.world.memory, "runs/run/") for meta in batch]
            for key in keys:
                obstore.delete(self.world.memory, key)
        elif self.dice.random() < 0.5:
            shutil.rmtree(self.place, ignore_errors=True)
        else:
            for each in self.place.glob("*"):
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    # What must hold

    def check(self, place=None):
        """A reader sees rows of one run, all that were told to be there, each once; nothing of sessions that ended."""
        folder = open_folder(place or self.place)
        if not is_there(folder):
            return None
        reader = RunReader(place or self.place)
        run = reader.run.id
        table = reader.simulations()
        positions = [
            POSITION[key] for key in zip(table["param_id"].to_pylist(), table["seed"].to_pylist(), strict=True)
        ]
        assert len(set(positions)) == len(positions)
        if positions:
            output = reader.output("o")
            assert {run} == set(output["run"].to_pylist())
            assert len(positions) == output.num_rows
            by_task = dict(zip(table["task_id"].to_pylist(), positions, strict=True))
            sessions = zip(output["task_id"].to_pylist(), output["session"].to_pylist(), strict=True)
            found = {by_task[task]: name for task, name in sessions}
            assert self.told[run].items() <= found.items()
        assert set(self.told[run]) <= set(positions)
        self.check_order(folder, reader.run)
        return run

    def check_order(self, folder, run):
        """Once another session of the run has begun, none of the earlier ones adds anything."""
        commits = [decode(folder.read(f"{FOLDER}/{name}"), name) for name in folder.names(FOLDER)]
        sessions = [commit.session for commit in commits if commit.run == run.id and commit.number >= run.log_from]
        turns = [name for name, _ in itertools.groupby(sessions)]
        assert len(set(turns)) == len(turns)

    def check_what_was_moved(self):
        """Runs that were moved aside are whole where they are now."""
        seen = {read_run_json(open_folder(self.place)) and self.check()}
        for place in self.aside():
            run = read_run_json(open_folder(place))
            if run is not None and run.id not in self.removed:
                seen.add(self.check(place))
        assert {run for run, told in self.told.items() if told} <= seen | self.removed

    def aside(self):
        """Where runs were moved to."""
        if self.kind == "files":
            return sorted(self.place.parent.glob("run.old-*"))
        prefixes = obstore.list_with_delimiter(self.world.memory, "runs")["common_prefixes"]
        return [f"s3://bucket/{prefix}" for prefix in prefixes if prefix != "runs/run"]

    def check_that_it_goes_on(self):
        """The next session can do the rest."""
        try:
            store = open_store(self.place, STUDY, take_over=True)
        except ResultsError as error:
            if "--fresh once more" in str(error):
                store = open_store(self.place, STUDY, take_over=True, fresh=True)
            elif self.is_fragment(error):
                return
            else:
                raise
        rows = {"run": [""], "session": [""]}
        if store._session is not None:
            rows = {"run": [store._session._run.id], "session": [store._session.name]}
        left = [position for position in range(len(POSITION)) if position not in store.done()]
        if left:
            store.commit([payload(STUDY, left, lambda _: {"o": rows})], [])
        store.close("complete")
        self.check()
        assert len(POSITION) == RunReader(self.place).simulations().num_rows


def play(kind, seed):
    """Play one schedule; what is wrong is told with its last steps."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        schedule = Schedule(kind, seed, Path(folder))
        try:
            schedule.play()
        except BaseException as error:
            error.add_note(f"{kind}, seed {seed}:\n" + "\n".join(schedule.world.story[-60:]))
            raise


@pytest.mark.parametrize("kind", ["files", "objects"])
def test_sessions_on_one_directory_never_mix_or_break_a_run(kind):
    """In some orders; the others are in the long suite."""
    for seed in range(75):
        play(kind, seed)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["files", "objects"])
def test_sessions_on_one_directory_never_mix_or_break_a_run_in_thousands_of_orders(kind):
    """A thousand for each kind of place."""
    for seed in range(75, 1075):
        play(kind, seed)
