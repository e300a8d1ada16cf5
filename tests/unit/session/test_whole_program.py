"""The whole program in one thread: driver, core, committer and a real run directory, in virtual time.

A seed decides the study, the names, the times and the misfortunes, so that a seed is one run, byte for byte. The
command for a thousand seeds is `uv run pytest -n 0 -m long tests/unit/session/test_whole_program.py`.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from support.fakes import FakeBackend, Fault, Script
from support.in_place import InPlace
from support.simulated_cluster import SimulatedBackend, Workload
from support.stores import grid, open_store, payload

from modelops_ray.core.events import Capacity, ChunkFailed, ChunkFinished, Ending, Node
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.core.report import Cause, ChunkReport, Failure, Measured
from modelops_ray.errors import PayloadLostError
from modelops_ray.session.committer import Desk
from modelops_ray.session.driver import Driver
from modelops_ray.session.ports import NotYet, Ports
from modelops_ray.session.source import StudySource
from modelops_ray.store.heartbeat import ProcessIdentity
from modelops_ray.store.reader import RunReader
from modelops_ray.store.writer import Surroundings
from modelops_ray.study.simulations import Simulations

MIB, GIB = 2**20, 2**30
LOSSES = [Cause.NODE_LOST, Cause.WORKER_LOST, Cause.CRASHED, Cause.OUT_OF_MEMORY]
SMALL = Capacity((Node(2.0, 4 * GIB),))
LARGE = Capacity((Node(4.0, 8 * GIB), Node(2.0, 4 * GIB)))
MISFORTUNES = {
    "failed",
    "bad_output",
    "oom_retries",
    "infrastructure_retries",
    "killed",
    "resumed",
    "hesitated",
    "attempts",
}


class KilledError(Exception):
    """The program was killed at this moment."""


class World:
    """Everything that a seed decides, and what the run came to."""

    def __init__(self, seed, out):
        """Draw a study, the simulations that fail, and the turn of the driver at which the program is killed."""
        self.dice = dice = random.Random(seed)
        self.out = out
        self.study = grid(sets=dice.randint(1, 4), replicates=dice.randint(1, 4))
        self.simulations = Simulations(self.study)
        self.raising, self.misfitting, self.misfits = self._some(0.07), self._some(0.07), set()
        self.kill_at_turn = dice.choice([None, None, dice.randint(1, 20)])
        self.hesitation = dice.choice([0.0, 0.0, 0.5])
        self.now_s = 0.0
        self.finish = None
        self.met = Counter()
        # As what each attempt ended that gave no result, by position and number: again, where a commit was lost.
        self.ended = defaultdict(set)

    def _some(self, share):
        return {position for position in range(len(self.simulations)) if self.dice.random() < share}

    def play(self):
        """Run session after session until one is not killed; return the bytes of every file of the run directory."""
        while self.finish is None:
            try:
                self._session()
            except KilledError:
                self.met["killed"] += 1
        return {str(path.relative_to(self.out)): path.read_bytes() for path in self.out.rglob("*") if path.is_file()}

    def _session(self):
        backend = self._backend()
        self._clock = backend.clock
        self._watch(backend)
        self._store = store = open_store(self.out, self.study, around=self._around(), take_over=True)
        policy = Policy(chunk=self.dice.choice([None, 1, 3]))
        state = CheckedRun(policy, n_completed_before=store.completed, attempts_before=store.attempts_made())
        source = Hesitant(self, StudySource(self.simulations, store.done()))
        committer = InPlace(Desk(store, backend.take, backend.clock, backend.clock), backend.sleep)
        ports = Ports(backend, committer, source, self, backend.clock)
        n_resumed = len(store.done())
        try:
            driver = Driver(state, ports, n_simulations=len(self.simulations), n_resumed=n_resumed)
            self.finish = driver.run()
        finally:
            self.now_s = backend.clock() + 1.0
        self.met.update({name: value for name, value in driver.snapshot().counters().items() if value})
        store.close(str(self.finish.ending), driver.snapshot().counters())

    def _watch(self, backend):
        """Take down what becomes of every attempt, as the backend tells it."""
        submit, wait, take = backend.submit, backend.wait, backend.take
        chunks = {}

        def submitted(chunk):
            chunks[chunk.chunk_id] = self._tries(chunk)
            submit(chunk)

        def waited(timeout_s):
            events = wait(timeout_s)
            for event in events:
                match event:
                    case ChunkFailed():
                        self._ended(chunks[event.chunk_id].items(), event.cause, event.kernel_killed)
                    case ChunkFinished():
                        for failure in event.report.failures:
                            self._ended([(failure.position, chunks[event.chunk_id][failure.position])], failure.cause)
            return events

        def taken(chunk_id):
            try:
                return take(chunk_id)
            except PayloadLostError:
                self._ended(chunks[chunk_id].items(), Cause.WORKER_LOST)
                raise

        backend.submit, backend.wait, backend.take = submitted, waited, taken

    def _ended(self, attempts, cause, kernel_killed=None):
        for key in attempts:
            self.ended[key].add(Cause.OUT_OF_MEMORY if kernel_killed and len(attempts) == 1 else cause)

    @staticmethod
    def _tries(chunk):
        return {each.position: n for each, n in zip(chunk.simulations, chunk.attempts, strict=True)}

    def _around(self):
        return Surroundings(
            lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._clock()),
            lambda n_bytes: self.dice.randbytes(n_bytes).hex(),
            lambda: ProcessIdentity("node", 7, "boot", 1),
        )

    def _backend(self):
        dice = self.dice
        script = Script(
            faults={position: [self._fault()] for position in self._some(0.15)},
            lost=frozenset(self._some(0.1)),
            capacities=[(0.0, dice.choice([SMALL, LARGE])), (dice.uniform(2, 20), dice.choice([SMALL, LARGE]))],
            pick=dice.choice,
            seconds=lambda _: dice.choice([0.01, 0.1, 2.0]),
        )
        backend = FakeBackend(self._run_chunk, script)
        backend.now_s = self.now_s
        return backend

    def _fault(self):
        used_bytes, kernel_killed = self.dice.choice([None, GIB]), self.dice.choice([None, True, False])
        return Fault(self.dice.choice(LOSSES), used_bytes, kernel_killed)

    def _run_chunk(self, chunk):
        positions = [simulation.position for simulation in chunk.simulations]
        done = [position for position in positions if position not in self.raising]
        failed = [position for position in positions if position in self.raising]
        report = ChunkReport(
            tuple(Measured(position, 0.5, (50 + position) * MIB) for position in done),
            tuple(Failure(position, Cause.MODEL_ERROR, f"Error{position}", "no luck") for position in failed),
            base_bytes=100 * MIB,
            payload_bytes=1000 * len(done),
        )
        return report, self._payload(done, self._tries(chunk))

    def _payload(self, positions, tries):
        if self._store.completed:
            # Once there are numbers, a text in their place does not fit.
            self.misfits |= self.misfitting.intersection(positions)
        return payload(self.study, positions, self._model, self.simulations, tries)

    def _model(self, simulation):
        day = ["a", "b"] if simulation.position in self.misfits else [0, 1]
        return {"incidence": {"day": day, "cases": [float(simulation.seed), float(simulation.position)]}}

    def update(self, _snapshot):
        """Watch a turn of the driver; at one of them the program is killed."""
        self.kill_at_turn = None if self.kill_at_turn is None else self.kill_at_turn - 1
        if self.kill_at_turn == 0:
            raise KilledError

    def note(self, _text):
        """Hear what a person would be told."""

    def verify(self):
        """Every simulation has one row, in study order; results are the model's, failures those of the script."""
        reader, simulations = RunReader(self.out), list(self.simulations)
        rows = reader.simulations().to_pylist()
        assert Ending.COMPLETE == self.finish.ending
        assert [self._expected(each) for each in simulations] == [(row["seed"], row["cause"]) for row in rows]
        completed = [each for each in simulations if self._expected(each)[1] is None]
        found = reader.output("incidence").to_pylist() if completed else []
        assert [
            (each.seed, day, case)
            for each in completed
            for day, case in zip([0, 1], [float(each.seed), float(each.position)], strict=True)
        ] == [(row["seed"], row["day"], row["cases"]) for row in found]
        self.met.update(row["cause"] for row in rows if row["cause"])
        self._verify_attempts(rows, reader.attempts().to_pylist())

    def _verify_attempts(self, simulations, attempts):
        """All attempts of a simulation but the last one of a result have a row each, which says what happened."""
        place = {row["task_id"]: position for position, row in enumerate(simulations)}
        last = [(row["task_id"], row["attempts"], row["status"] == "failed") for row in simulations]
        assert [
            (task, number, failed and number == n) for task, n, failed in last for number in range(1, n + failed)
        ] == [(row["task_id"], row["attempt"], row["follows"] == "failed") for row in attempts]
        for row in attempts:
            key = place[row["task_id"]], row["attempt"]
            assert row["cause"] in self.ended[key] | ({"bad_output"} if key[0] in self.misfits else set())
            assert row["ended_at"] is not None
        self.met["attempts"] += len(attempts)

    def _expected(self, simulation):
        if simulation.position in self.raising:
            return simulation.seed, "model_error"
        return simulation.seed, "bad_output" if simulation.position in self.misfits else None


class Cluster(World):
    """The same on a simulated cluster that loses a node, gains one, and loses outputs."""

    def _backend(self):
        dice, n = self.dice, len(self.simulations)
        self.raising = set()
        workload = Workload(
            [dice.uniform(0.1, 9.0) for _ in range(n)], [dice.randint(50, 900) * MIB for _ in range(n)], 1
        )
        nodes = [(2.0, 4 * GIB), (4.0, 8 * GIB)]
        backend = SimulatedBackend(workload, nodes, self._outputs, seed=dice.randint(0, 9))
        backend.now_s = self.now_s
        backend.at(self.now_s + dice.uniform(0.5, 9.0), backend.lose, 0)
        backend.at(self.now_s + dice.uniform(0.5, 9.0), backend.gain, 3.0, 6 * GIB)
        backend.at(self.now_s + dice.uniform(0.5, 20.0), backend.forget, 0.5)
        return backend

    def _outputs(self, chunk):
        tries = self._tries(chunk)
        return self._payload(list(tries), tries)


class Hesitant:
    """A source that has nothing yet now and then."""

    def __init__(self, world, source):
        """Hesitate as often as the seed says."""
        self._world, self._source = world, source
        self.take = source.take

    def next(self):
        """Say `NotYet`, or what the study says."""
        if self._world.dice.random() < self._world.hesitation:
            self._world.met["hesitated"] += 1
            return NotYet()
        return self._source.next()


def play_twice(kind, seed, folder):
    """Play a seed in two places, compare all bytes, check the rows, and return what the run met with."""
    world = kind(seed, folder / f"{seed}")
    found, again = world.play(), kind(seed, folder / f"{seed} again").play()
    assert [] == [(seed, name) for name in sorted(found | again) if found.get(name) != again.get(name)]
    world.verify()
    return world.met


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on a disk that need not be waited for: nothing here loses power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return tmp_path


def test_a_seed_is_one_run_byte_for_byte_and_every_simulation_has_one_row(folder):
    """Given lost chunks, lost outputs, failures, misfits and kills, 100 seeds complete with the rows of the model."""
    met = sum((play_twice(World, seed, folder) for seed in range(100)), Counter())
    assert set() == MISFORTUNES - met.keys()


def test_nodes_that_come_and_go_change_neither(folder):
    """Given a simulated cluster behind the same port, the same holds for 40 seeds."""
    met = sum((play_twice(Cluster, seed, folder) for seed in range(40)), Counter())
    assert {"oom_retries", "infrastructure_retries"} <= met.keys()


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_a_thousand_seeds_are_a_thousand_runs(folder, first):
    """The same as the first, in under a minute."""
    for seed in range(first, first + 250):
        play_twice(World, seed, folder)
