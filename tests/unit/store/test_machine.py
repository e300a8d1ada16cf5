"""Any order of what sessions, users and storage do to one run directory: it always says what it was told, or more.

Hypothesis chooses the steps, on real files that lose power and on an object store that is slow and loses answers.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.stores import failure, grid, open_store, payload
from support.world.turns import Process
from support.world.world import BUCKET_FAULTS, Plan, World

from modelops_ray.errors import ResultsError, RunInUseError, StorageError
from modelops_ray.store.reader import RunReader
from modelops_ray.store.run_json import is_there
from modelops_ray.store.storage.places import open_folder
from modelops_ray.study.simulations import Simulations

SETS, REPLICATES = 2, 2
FILES = Path("/dev/shm")


class RunDirectory(RuleBasedStateMachine):
    """What the directory must hold: `told` has at least these results, `maybe` those whose commit had no answer."""

    place = "disk"

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed):
        """Make an empty place."""
        self.folder = tempfile.TemporaryDirectory(dir=FILES if FILES.is_dir() else None)
        self.world = World(Plan(seed, self.place, SETS, REPLICATES, 1, frozenset()), Path(self.folder.name))
        self.surroundings = self.world._everywhere()
        self.surroundings.__enter__()
        self.names = map("session {}".format, itertools.count())
        self.n_sets, self.stores = SETS, []
        self.told, self.maybe = set(), set()

    def teardown(self):
        """Give the real storage back."""
        if hasattr(self, "folder"):
            self.surroundings.__exit__(None, None, None)
            self.folder.cleanup()

    @property
    def study(self):
        """The study as large as it has grown."""
        return grid(self.n_sets, REPLICATES)

    @rule(how=st.sampled_from([{}, {"take_over": True}, {"take_over": True, "retry_failed": True}]))
    def open(self, how):
        """A session begins, unless another one lives."""
        self._open(how)

    @rule()
    def start_over(self):
        """A user starts over: the run is moved aside, and nothing of it is left here."""
        if self._open({"take_over": True, "fresh": True}):
            self.told, self.maybe = set(), set()
        else:  # it may have been moved before something failed
            self.told, self.maybe = set(), self.told | self.maybe

    @precondition(lambda self: self.n_sets < SETS + 2)
    @rule()
    def grow(self):
        """The user adds a parameter set."""
        self.n_sets += 1
        self._open({"take_over": True})

    def _open(self, how):
        process = Process(next(self.names), lambda _: None)
        try:
            store = open_store(self.world.place, self.study, around=self.world.around(process), **how)
        except (RunInUseError, StorageError):
            return False
        except ResultsError as error:
            if not any(words in str(error) for words in ("start again", "--fresh once more")):
                raise
            return False
        self.stores.append(store)
        return True

    @precondition(lambda self: self.stores)
    @rule(which=st.randoms(use_true_random=False), fails=st.booleans())
    def commit(self, which, fails):
        """One of the sessions, be it over or not, commits what it takes for missing."""
        store = which.choice(self.stores)
        left = [position for position in range(len(store._done)) if position not in store.done()]
        if store._session is None or not left:
            return
        some = sorted(which.sample(left, which.randint(1, len(left))))
        failed, done = (some[:1], some[1:]) if fails else ([], some)
        study = grid(len(store._done) // REPLICATES, REPLICATES)
        try:
            store.commit([payload(study, done)] if done else [], [failure(position) for position in failed])
        except RunInUseError:
            self.stores.remove(store)
        except StorageError:
            self.maybe |= set(done)
            self.stores.remove(store)
        else:
            self.told |= set(done)

    @precondition(lambda self: self.stores)
    @rule(which=st.randoms(use_true_random=False), is_ended=st.booleans())
    def leave(self, which, is_ended):
        """A session ends, or is killed."""
        store = which.choice(self.stores)
        self.stores.remove(store)
        if is_ended:
            try:
                store.close("stopped")
            except (RunInUseError, StorageError):
                return

    @invariant()
    def reads_what_was_told(self):
        """A reader finds each simulation once, and all that was told."""
        if not hasattr(self, "told"):
            return
        with self.world.bucket.in_good_weather():
            if not is_there(open_folder(self.world.place)):
                return
            rows = RunReader(self.world.place).simulations().to_pylist()
        order = {(each.param_id, each.seed): each.position for each in Simulations(self.study)}
        positions = [order[row["param_id"], row["seed"]] for row in rows]
        completed = {at for at, row in zip(positions, rows, strict=True) if row["status"] == "completed"}
        assert sorted(set(positions)) == positions
        assert self.told <= completed <= self.told | self.maybe


class OnDisk(RunDirectory):
    """On files: the disk loses power, is full, or fails to sync."""

    @rule(tears=st.booleans())
    def lose_power(self, tears):
        """All sessions are gone; what was synced is there."""
        self.stores.clear()
        self.world.disk.crash(tears=tears)

    @rule(is_full=st.booleans(), fails=st.sampled_from([0.0, 0.3]))
    def fail(self, is_full, fails):
        """The disk has no room, or some syncs fail, until it is well again."""
        self.world.disk.is_full, self.world.disk.fails = is_full, fails


class OnBucket(RunDirectory):
    """On an object store: requests are refused, repeated, and lose their answers."""

    place = "bucket"

    @precondition(lambda self: self.stores)
    @rule(kinds=st.sets(st.sampled_from(BUCKET_FAULTS), min_size=1), weather=st.sampled_from([0.0, 0.3, 0.5]))
    def storm(self, kinds, weather):
        """From here on requests meet these faults."""
        self.world.bucket.kinds, self.world.bucket.weather = tuple(kinds), weather

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def wait(self, seconds):
        """Requests that were given up take effect."""
        self.world.turns.run(until_s=self.world.turns.now_s + seconds)


FEW = settings(max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=2000, stateful_step_count=30)


@pytest.mark.parametrize("kind", [OnDisk, OnBucket])
def test_a_run_directory_says_what_it_was_told(kind):
    """In a few orders; the others are in the long suite."""
    run_state_machine_as_test(kind, settings=FEW)


@pytest.mark.long
@pytest.mark.parametrize("kind", [OnDisk, OnBucket])
def test_a_run_directory_says_what_it_was_told_in_thousands_of_orders(kind):
    """Two thousand for each kind of place."""
    run_state_machine_as_test(kind, settings=MANY)
