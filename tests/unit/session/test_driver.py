"""The driver with a scripted backend and a store in memory: it performs what the core decides, and always ends."""

from itertools import pairwise

import pytest
from support.fakes import FakeBackend, Fault, Script
from support.in_place import InPlace

from modelops_ray.core.events import Capacity, Ending, Node, PodDied
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.ranges import Ranges
from modelops_ray.core.reasons import Lacking, TooManyCpus
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.core.state import RunState
from modelops_ray.errors import ModelError, StorageError
from modelops_ray.session.committer import Desk
from modelops_ray.session.driver import Driver
from modelops_ray.session.ports import NotYet, Ports
from modelops_ray.session.source import StudySource
from modelops_ray.study.chunk import Payload
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

MIB = 2**20
GIB = 2**30


class MemoryStore:
    """Keeps commits in a list; `broken` raises at the commit of that number, from 0."""

    def __init__(self, done=(), broken=None, rejected=()):
        self.commits = []
        self.heartbeats = []
        self.broken = broken or {}
        self.rejected = rejected
        self._done = Ranges(done)

    def done(self):
        """Positions that have a row already."""
        return self._done

    def commit(self, payloads, failures, attempts=()):
        """Keep the positions of one commit."""
        if error := self.broken.get(len(self.commits)):
            raise error
        completed = [position for payload in payloads for position in payload.positions]
        self.commits.append((completed, [failure.position for failure in failures]))
        rejected, self.rejected = self.rejected, ()
        return rejected

    def heartbeat(self, counters):
        """Count."""
        self.heartbeats.append(counters)

    @property
    def completed(self):
        """Every completed position of every commit."""
        return [position for completed, _ in self.commits for position in completed]

    @property
    def failed(self):
        """Every failed position of every commit."""
        return [position for _, failed in self.commits for position in failed]


def run_chunk(chunk):
    """Complete every simulation, at 100 MiB each."""
    measured = tuple(Measured(s.position, 1.0, 100 * MIB) for s in chunk.simulations)
    positions = tuple(s.position for s in chunk.simulations)
    return ChunkReport(measured, base_bytes=100 * MIB, payload_bytes=1000), Payload(positions, None)


class Pods:
    """An observer that tells of one dead pod, and knows of a node that could come."""

    def __init__(self):
        self.told = []

    def poll(self, now_s):
        """Tell it once."""
        self.told.append(now_s)
        return [PodDied(now_s, "10.0.0.1", "pod w-1 was OOMKilled", is_memory=True)] if len(self.told) == 1 else []

    def reachable(self):
        """Three nodes of the size of those that are there."""
        return (Node(4.0, 8 * GIB),) * 3


def study(n):
    """A study of `n` simulations, 30 replicates where that divides."""
    replicates = 30 if n % 30 == 0 else 1
    return Simulations(Study.grid({"beta": range(n // replicates)}, replicates=replicates))


class Watching:
    """A watcher that calls one function at every turn, and one with what is told."""

    def __init__(self, update, note):
        self.update, self.note = update, note


class Hesitant(StudySource):
    """A study of which nothing is known yet at first, and after each batch for a while."""

    def __init__(self, simulations, done, clock, pause_s):
        super().__init__(simulations, done)
        self._clock, self._pause_s, self._next_s = clock, pause_s, pause_s

    def next(self):
        """Hand out a batch when its time has come."""
        if self._clock() < self._next_s:
            return NotYet()
        self._next_s = self._clock() + self._pause_s
        return super().next()


def _ignore(_):
    """Stand in for a person."""


def drive(n, script=None, store=None, policy=None, backend_class=FakeBackend, **kwargs):
    """Make a driver of `n` simulations; returns it with its backend and store.

    `only`, `observer` and `pause_s` say more; `observe` is called at every turn, and `notify` with what is told.
    """
    backend = backend_class(run_chunk, script or Script())
    store = store or MemoryStore()
    source = StudySource(study(n), store.done(), kwargs.get("only"))
    if "pause_s" in kwargs:
        source = Hesitant(study(n), store.done(), backend.clock, kwargs["pause_s"])
    ports = Ports(
        backend,
        InPlace(Desk(store, backend.take, backend.clock), backend.sleep),
        source,
        Watching(kwargs.get("observe", _ignore), kwargs.get("notify", _ignore)),
        backend.clock,
        kwargs.get("observer"),
    )
    state = (CheckedRun if n <= 300 else RunState)(policy or Policy())
    return Driver(state, ports, n_simulations=n, n_resumed=len(store.done())), backend, store


def test_a_run_commits_every_simulation_once():
    """Given an untroubled backend, every position is committed exactly once."""
    driver, _, store = drive(120)
    assert Ending.COMPLETE == driver.run().ending
    assert list(range(120)) == sorted(store.completed)
    assert (120, 120) == (driver.snapshot().view.completed, driver.snapshot().view.committed)
    assert driver.seconds_to_first_commit is not None


def test_a_study_of_which_everything_is_done_submits_nothing():
    """Going on with a finished run ends at once."""
    driver, backend, store = drive(30, store=MemoryStore(done=[(0, 30)]))
    assert (Ending.COMPLETE, [], []) == (driver.run().ending, backend.submitted, store.commits)
    assert (30, 0) == (driver.snapshot().resumed, driver.snapshot().left)


def test_a_run_that_gives_up_before_it_has_begun_ends():
    """However much of the study has not been looked at yet."""
    driver, backend, _ = drive(5001, policy=Policy(cpus=64.0))
    finish = driver.run()
    assert (Ending.GAVE_UP, []) == (finish.ending, backend.submitted)
    assert TooManyCpus(64.0, 4.0) == finish.reason


def test_what_is_done_already_is_not_run_again():
    """Given commits of an earlier session, only the rest runs."""
    driver, _, store = drive(60, store=MemoryStore(done=[(10, 25), (40, 41)]))
    driver.run()
    assert [*range(10), *range(25, 40), *range(41, 60)] == sorted(store.completed)


def test_only_the_positions_asked_for_run():
    """`only` leaves out everything else."""
    driver, _, store = drive(60, only=Ranges([(3, 5), (29, 31)]))
    driver.run()
    assert [3, 4, 29, 30] == sorted(store.completed)


def test_a_lost_payload_is_repeated():
    """Given that the outputs of the first two chunks vanish, their simulations run again and are committed once."""
    driver, _, store = drive(60, Script(lost=frozenset({1, 2})))
    assert Ending.COMPLETE == driver.run().ending
    assert list(range(60)) == sorted(store.completed)
    assert 2 == driver.snapshot().view.infrastructure_retries


def test_a_chunk_that_dies_is_repeated_with_its_count_of_attempts():
    """Given a lost node, the simulation runs again as its second attempt."""
    driver, backend, store = drive(30, Script(faults={7: [Fault(Cause.NODE_LOST)]}))
    driver.run()
    tries = [a for c in backend.submitted for s, a in zip(c.simulations, c.attempts, strict=True) if s.position == 7]
    assert ([1, 2], list(range(30))) == (tries, sorted(store.completed))


def test_attempts_that_are_committed_alone_are_no_first_result():
    """Given two nodes lost a hundred seconds apart, their attempts are durable before any result is."""
    faults = {position: [Fault(Cause.NODE_LOST)] for position in (0, 1)}
    driver, backend, store = drive(2, Script(faults=faults, seconds=lambda _: 100.0))
    driver.run()
    assert ([([], [])], [0, 1]) == (store.commits[:1], sorted(store.completed))
    assert 300.0 <= driver.seconds_to_first_commit <= backend.now_s


def test_a_failing_store_ends_the_run_with_its_error():
    """Given a full disk at the second commit, the error is raised, nothing is outstanding, the first commit holds."""
    store = MemoryStore(broken={1: StorageError("runs/x: no space left on the device; free some and start again")})
    driver, backend, _ = drive(3000, store=store)
    with pytest.raises(StorageError, match="no space left"):
        driver.run()
    assert () == backend.outstanding
    assert 1 == len(store.commits)


def test_a_bug_in_the_store_ends_the_run_too():
    """Given an error that is not handled in the writing thread, the run ends with it instead of waiting for ever."""
    driver, _, _ = drive(3000, store=MemoryStore(broken={0: ZeroDivisionError("a bug")}))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        driver.run()


class _BreaksBackend(FakeBackend):
    """Its `wait` raises ModelError after some chunks have ended."""

    def wait(self, timeout_s):
        if len(self.submitted) - len(self.outstanding) >= 40:
            raise ModelError("sir.py: the model was edited while it ran; start again")
        return super().wait(timeout_s)


def test_an_error_of_the_backend_is_raised_after_committing_what_had_finished():
    """Given a model that changed under the run, what had finished is committed first."""
    driver, backend, store = drive(3000, policy=Policy(chunk=1), backend_class=_BreaksBackend)
    with pytest.raises(ModelError, match="was edited"):
        driver.run()
    assert () == backend.outstanding
    assert (40, 40) == (len(store.completed), driver.snapshot().view.completed)


def test_a_stop_commits_what_finished_and_cancels_the_rest():
    """Given a stop after 50 results, nothing more is submitted and all that finished is committed."""

    def observe(snapshot):
        if snapshot.view.completed >= 50:
            driver.stop("interrupted")

    driver, backend, store = drive(3000, observe=observe)
    finish = driver.run()
    assert (Ending.STOPPED, "interrupted") == (finish.ending, finish.reason)
    assert driver.snapshot().view.completed == len(store.completed) >= 50
    assert () == backend.outstanding
    assert backend.cancelled


def test_heartbeats_go_on_while_nothing_finishes():
    """Given a chunk that hangs, the store is told every three seconds that the session lives."""
    driver, _, store = drive(1, Script(hanging=frozenset({1})), policy=Policy(timeout_s=100))
    assert Ending.GAVE_UP == driver.run().ending
    beats_s = [counters["elapsed_seconds"] for counters in store.heartbeats if counters["outstanding"]]
    assert len(beats_s) > 40
    assert all(3.0 <= later - earlier < 3.5 for earlier, later in pairwise(beats_s))


def test_a_source_that_has_nothing_yet_is_asked_again_and_its_end_ends_the_run():
    """Given batches with an hour between them, the run waits for each, ends after the last, and gives up on none."""
    driver, backend, store = drive(5000, policy=Policy(timeout_s=10), pause_s=3600.0)
    assert Ending.COMPLETE == driver.run().ending
    assert list(range(5000)) == sorted(store.completed)
    assert backend.clock() > 3 * 3600


def test_a_run_in_which_nothing_moves_ends_by_itself():
    """Given a chunk that hangs for longer than one and a half timeouts, the run gives up and says so."""
    driver, backend, _ = drive(1, Script(hanging=frozenset({1})), policy=Policy(timeout_s=600))
    finish = driver.run()
    assert Ending.GAVE_UP == finish.ending
    assert Lacking.FINISH is finish.reason.lacking
    assert [1] == backend.cancelled


def test_outputs_that_do_not_fit_become_failures():
    """Given that the store rejects a simulation, it is committed as a failure, and the rest as results."""
    misfit = Failure(0, Cause.BAD_OUTPUT, "TypeError", "column day is text")
    driver, _, store = drive(30, store=MemoryStore(rejected=(misfit,)))
    assert Ending.COMPLETE == driver.run().ending
    assert ([0], 29, 1) == (store.failed, driver.snapshot().view.completed, driver.snapshot().view.failed)


def test_no_more_than_the_window_is_outstanding_for_12000_simulations():
    """Given 12,000 simulations of no length on 4 slots, at most 2 x 4 + 1 chunks are outstanding at any time."""
    seen = []
    capacities = [(0.0, Capacity((Node(4.0, 8 * GIB),)))]
    script = Script(capacities=capacities, seconds=lambda _: 0.001)
    driver, _, store = drive(12_000, script, observe=lambda snapshot: seen.append(snapshot.view.outstanding))
    driver.run()
    assert 12_000 == len(set(store.completed)) == len(store.completed)
    assert 9 == max(seen)


def test_a_fixed_window_is_kept():
    """`--window 2` means two."""
    seen = []
    driver, _, _ = drive(300, policy=Policy(window=2), observe=lambda snapshot: seen.append(snapshot.view.outstanding))
    driver.run()
    assert 2 == max(seen)


def test_a_snapshot_tells_speed_and_what_is_left():
    """Per second counts results of this session; what is left has no row yet."""
    snapshots = []
    driver, _, _ = drive(60, store=MemoryStore(done=[(0, 20)]), observe=snapshots.append)
    driver.run()
    last = snapshots[-1]
    assert (0, 40.0) == (last.left, last.per_second * last.elapsed_s)
    assert 0.0 == snapshots[0].per_second or snapshots[0].elapsed_s > 0


def test_what_became_of_pods_reaches_the_run_and_so_does_what_could_come():
    """What Ray knows itself comes first; of the rest, an observer tells."""
    told = []
    driver, _, _ = drive(30, observer=Pods(), notify=told.append)
    assert Ending.COMPLETE == driver.run().ending
    assert ["pod w-1 was OOMKilled"] == told
    assert 3 == len(driver.snapshot().view.capacity.reachable)
    known = Script(capacities=((0.0, Capacity((Node(4.0, 8 * GIB),), (Node(4.0, 8 * GIB),))),))
    driver, _, _ = drive(30, known, observer=Pods())
    driver.run()
    assert 1 == len(driver.snapshot().view.capacity.reachable)
