"""The whole program in one thread, from one seed: sessions on one run directory, and all that happens to them.

Owns what a seed decides (study, simulations, faults, what the user does) and the order of things. What must hold is
`promises`'. Every kind of fault is switched on or off by the seed, so that rare ones are also met alone.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from support.in_place import InPlace
from support.stores import grid, opened, payload
from support.world.bucket import Requests
from support.world.disk import Disk
from support.world.nodes import DRAINED_S, Fates, WorldBackend, reached_of, tries_of
from support.world.parquet import Parquet
from support.world.promises import Promises
from support.world.turns import EndlessError, Process, Turns

from modelops_ray.config import Shard
from modelops_ray.core.events import Ending, Finish
from modelops_ray.core.invariants import CheckedRun
from modelops_ray.core.policy import Policy
from modelops_ray.errors import ModelopsRayError
from modelops_ray.session import driver
from modelops_ray.session.committer import Desk
from modelops_ray.session.driver import Driver
from modelops_ray.session.ports import Ports, Snapshot
from modelops_ray.session.source import StudySource
from modelops_ray.store import heartbeat, parts, run_json, writer
from modelops_ray.store.heartbeat import ProcessIdentity
from modelops_ray.store.shards import FOLDER
from modelops_ray.store.storage import local, names, objects
from modelops_ray.store.storage.buckets import Bucket
from modelops_ray.store.storage.objects import ObjectFolder
from modelops_ray.store.storage.places import inside
from modelops_ray.store.writer import Surroundings
from modelops_ray.study.simulations import Simulations, scope_of
from modelops_ray.study.study import Study

MIB, GIB = 2**20, 2**30
URI = "s3://bucket/runs/run"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TROUBLE_S = 400.0
"""Faults begin within these seconds, and have stopped after them."""
PATIENCE_S = 7200.0
"""Once faults have stopped, a session ends within these seconds: retries take minutes at most."""

_COMMIT = re.compile(r"(link|put) \S*\d{6}\.json")
_DECISIVE = ("put", "link", "rename", "replace", "unlink", "delete", "copy", "mkdir", "fsync")

FEW_SECONDS, MANY_SECONDS = (0.05, 1.0, 9.0), (9.0, 40.0, 90.0)
TICKS_S = (0.2, 1.0, 1.0, 1.0)
"""How long a driver waits while nothing happens; most turns are such, and the more there are the slower is a seed."""
CHURN = 3
"""Nodes that are lost one after the other, each with what runs on it; one comes for each."""
LOSSES = ("node_lost", "node_drained", "node_back", "churn")
MOST_LOSSES = 4
"""With its crashes a simulation is lost less often than it may be tried; less often where memory takes tries too."""
MOST_TURNS = 20_000
"""Of the driver in one session, which take 0.2 s each where nothing happens."""

NODE_FAULTS = (
    "node_lost",
    "node_gained",
    "node_drained",
    "node_back",
    "pod_died",
    "payload_lost",
    "out_of_memory",
    "crashed",
    "hopeless",
    "model_error",
    "misfit",
    "wider",
    "churn",
    "long",
)
SESSION_FAULTS = ("killed", "stopped", "interrupted", "second_session", "clock_skew", "clock_jump", "slow_storage")
USER_ACTS = ("fresh", "retry_failed", "extended", "take_over", "sharded")
DISK_FAULTS = ("power", "torn", "full", "failing_sync", "lying_sync")
BUCKET_FAULTS = (
    "refused",
    "throttled",
    "unanswered",
    "delayed",
    "repeated",
    "conflict",
    "refused_read",
    "late_request",
    "old_listing",
)
KINDS = (*NODE_FAULTS, *SESSION_FAULTS, *USER_ACTS, *DISK_FAULTS, *BUCKET_FAULTS)


@functools.cache
def study_of(n_sets: int, n_replicates: int) -> tuple[Study, Simulations]:
    """A study and its simulations, made once for all seeds; a larger one begins with the smaller."""
    study = grid(n_sets, n_replicates)
    return study, Simulations(study)


@dataclass(frozen=True)
class Plan:
    """What a seed decides before anything happens; the fields can be made smaller to see what matters."""

    seed: int
    place: str
    n_sets: int
    n_replicates: int
    n_nodes: int
    kinds: frozenset[str]

    @classmethod
    def draw(cls, seed: int) -> Self:
        """Draw a plan."""
        dice = random.Random(f"plan {seed}")
        place = dice.choice(["disk", "bucket"])
        there = NODE_FAULTS + SESSION_FAULTS + USER_ACTS + (DISK_FAULTS if place == "disk" else BUCKET_FAULTS)
        share = dice.choice([0.1, 0.3, 0.6])
        kinds = frozenset(kind for kind in there if dice.random() < share)
        return cls(seed, place, dice.randint(1, 4), dice.randint(1, 4), dice.randint(1, 3), kinds)


@dataclass
class Told:
    """What a session told its user: how it ended, or the error. `how` names the part of the study if it is a shard."""

    session: Process
    how: dict[str, Any]
    finish: Finish | None = None
    error: BaseException | None = None


@dataclass
class World:
    """One seed, from the first session to the last."""

    plan: Plan
    folder: Path
    met: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the place, the study and the fates of its simulations."""
        self.dice = random.Random(self.plan.seed)
        self.turns = Turns()
        self.disk = Disk(self.folder / "disk", self.dice)
        self.bucket = Requests(self.dice, self._requested, lambda: self.turns.now_s, self.turns.at)
        self.place: Any = self.disk.root / "run" if self.plan.place == "disk" else URI
        self.n_sets = self.plan.n_sets
        self.losses = self._losses()
        self.fates = self._fates(len(study_of(self.plan.n_sets + 2, self.plan.n_replicates)[1]))
        self.misfitting = self._some("misfit", 0.2)
        self.met["long"] += "long" in self.plan.kinds
        self.parts = self._parts()
        self.promises = Promises(self)
        self.processes: list[Process] = []
        self.told: list[Told] = []
        self.is_calm = False

    @property
    def study(self) -> Study:
        """The study as large as it has grown."""
        return study_of(self.n_sets, self.plan.n_replicates)[0]

    @property
    def simulations(self) -> Simulations:
        """Those of the study."""
        return study_of(self.n_sets, self.plan.n_replicates)[1]

    def _parts(self) -> list[Shard | None]:
        """What the user runs one by one: the study, or its shards."""
        if "sharded" not in self.plan.kinds or self.plan.n_sets == 1:
            return [None]
        self.met["sharded"] += 1
        n = self.dice.randint(2, min(3, self.plan.n_sets))
        return [Shard(number, n) for number in range(1, n + 1)]

    def place_of(self, part: Shard | None) -> Any:
        """The run directory of the study, or of a shard."""
        return self.place if part is None else inside(self.place, f"{FOLDER}/{part.name}")

    def last_of_each(self) -> list[Told]:
        """The last session of the study, or of each shard."""
        return list({told.how["part"]: told for told in self.told}.values())

    def has(self, kind: str) -> bool:
        """Whether this kind of fault happens now."""
        return kind in self.plan.kinds and not self.is_calm

    def say(self, what: str) -> None:
        """Write a line of the story."""
        self.story.append(f"{self.turns.now_s:9.3f} {what}")

    # The whole of it

    def play(self) -> None:
        """Let everything happen, then one session in calm, and look at what is left."""
        with self._everywhere():
            self._plan_trouble()
            user = self.turns.start(Process("user", self._use))
            self.turns.run(until_s=TROUBLE_S * 20, is_over=lambda: user.is_over)
            if user.error is not None:
                raise user.error
            if not user.is_over:
                raise EndlessError("the user waits for ever")
            self._require_no_fault()
            self._end_in_calm()
            self._require_no_fault()
            self.promises.check_the_end()

    def _use(self, _user: Process) -> None:
        """Do what a user does until the study is complete, or the trouble is over."""
        while self.turns.now_s < TROUBLE_S:
            processes = [self._session(self._how(part)) for part in self.parts]
            if self.has("second_session") and self.dice.random() < 0.5:
                self.turns.sleep(self.dice.uniform(0, 60))
                self.met["second_session"] += 1
                self._session(self._how(self.dice.choice(self.parts)))
            for process in processes:
                self._wait_for(process)
            if self._is_content():
                break
            self.turns.sleep(self.dice.choice([1.0, 30.0, 90.0]))

    def _wait_for(self, process: Process) -> None:
        while not process.is_over and self.turns.now_s < TROUBLE_S * 4:
            self.turns.sleep(1.0)
        self._require_no_fault()

    def _require_no_fault(self) -> None:
        """What a session ends with is an error of its own kind, told to its user; any other is a fault of ours."""
        for process in self.processes:
            if process.error is not None:
                raise process.error

    def _is_content(self) -> bool:
        finished = {told.how["part"]: told.finish.ending for told in self.told if told.finish is not None}
        is_complete = [finished.get(part) is Ending.COMPLETE for part in self.parts]
        return all(is_complete) and self.dice.random() < 0.5

    def _how(self, part: Shard | None) -> dict[str, Any]:
        how: dict[str, Any] = {"part": part}
        for kind, share in (("fresh", 0.2), ("retry_failed", 0.4), ("take_over", 0.5)):
            if self.has(kind) and self.dice.random() < share:
                self.met[kind] += 1
                how[kind] = True
        if self.has("extended") and self.dice.random() < 0.3 and self.n_sets < self.plan.n_sets + 2:
            self.met["extended"] += 1
            self.n_sets += 1
        return how

    def _end_in_calm(self) -> None:
        self.is_calm, self.disk.is_full, self.disk.lies, self.disk.fails, self.bucket.weather = True, False, False, 0, 0
        for process in self.processes:
            self.turns.kill(process)
        while self.bucket.late:
            self.bucket.arrive()
        self.say("calm")
        for part in self.parts:
            self._finish_in_calm(part)

    def _finish_in_calm(self, part: Shard | None) -> None:
        for how in ({"take_over": True}, {"take_over": True, "fresh": True}):
            process = self._session({"part": part, **how})
            began_s = self.turns.now_s
            self.turns.run(until_s=began_s + PATIENCE_S, is_over=lambda process=process: process.is_over)
            if not process.is_over:
                raise EndlessError("a session does not end although all is calm")
            self._require_no_fault()
            if self.told[-1].finish is not None:
                return
            self.promises.may_refuse(self.told[-1].error)

    # Sessions

    def _session(self, how: dict[str, Any]) -> Process:
        skew_s = self.dice.choice([0.0, 65.0, -65.0, 3600.0]) if self.has("clock_skew") else 0.0
        self.met["clock_skew"] += bool(skew_s)
        name = f"session {len(self.processes) + 1}"
        process = Process(name, functools.partial(self._run_session, how, self.n_sets), skew_s)
        self.processes.append(process)
        self.say(f"{name} starts {how} on {self.n_sets} sets")
        self._plan_its_trouble(process)
        return self.turns.start(process)

    def _run_session(self, how: dict[str, Any], n_sets: int, process: Process) -> None:
        told = Told(process, how)
        self.told.append(told)
        try:
            told.finish = _Session(self, process, how, n_sets).run()
            self.say(f"{process.name} ends: {told.finish.ending} {told.finish.reason}")
        except ModelopsRayError as error:
            told.error = error
            self.say(f"{process.name} ends: {type(error).__name__} {error}")
            self.promises.check_error(told)

    # Trouble

    def _plan_trouble(self) -> None:
        dice, turns = self.dice, self.turns
        when = functools.partial(dice.uniform, 0.1, TROUBLE_S / 4)
        if self.has("power") or self.has("torn"):
            for _ in range(dice.randint(1, 3)):
                turns.at(when(), self._lose_power)
        if self.has("full"):
            for began_s in (dice.uniform(0.0, 9.0), when()):
                turns.at(began_s, lambda: self._set_full(is_full=True))
                turns.at(began_s + dice.choice([0.5, 20.0]), lambda: self._set_full(is_full=False))
        self.disk.fails = dice.choice([0.03, 0.1]) if self.has("failing_sync") else 0.0
        self.disk.lies = self.has("lying_sync")
        self.bucket.kinds = tuple(kind for kind in BUCKET_FAULTS if self.has(kind))
        self.bucket.weather = dice.choice([0.02, 0.1]) if self.bucket.kinds else 0.0
        for _ in range(3):
            turns.at(when(), self.promises.look)

    def _jump_clock(self, process: Process) -> None:
        if not process.is_over and not self.is_calm:
            self.met["clock_jump"] += 1
            process.skew_s += self.dice.choice([-3600.0, -70.0, 70.0, 3600.0])

    def _plan_its_trouble(self, process: Process) -> None:
        dice, turns = self.dice, self.turns
        soon = functools.partial(dice.choice, [dice.uniform(0, 2), dice.uniform(0, 20), dice.uniform(0, 80)])
        if self.has("killed") and dice.random() < 0.6:
            turns.at(turns.now_s + soon(), lambda: self._kill(process))
        if self.has("clock_jump"):
            turns.at(turns.now_s + soon(), lambda: self._jump_clock(process))
        if self.has("stopped") and dice.random() < 0.6:
            turns.at(turns.now_s + soon(), lambda: self._stop(process))

    def _set_full(self, *, is_full: bool) -> None:
        self.disk.is_full = is_full and not self.is_calm

    def _lose_power(self) -> None:
        if self.is_calm:
            return
        self.say("power is lost")
        for process in self.processes:
            self.turns.kill(process)
        self.met["torn"] += self.has("torn")
        self.disk.crash(tears=self.has("torn"))
        self.promises.power_was_lost(lied=self.has("lying_sync"))

    def _kill(self, process: Process) -> None:
        if not process.is_over and not self.is_calm:
            self.met["killed"] += 1
            self.say(f"{process.name} is killed")
            self.turns.kill(process)

    def _stop(self, process: Process) -> None:
        if not process.is_over and not self.is_calm:
            self.met["stopped"] += 1
            self.say(f"{process.name} is stopped for a while")
            self.turns.stop(process, self.dice.choice([5.0, 70.0, 200.0]))

    def _step(self, what: str) -> None:
        """A process is about to touch the storage."""
        self.turns.require_alive()
        if self.turns.here is None or self.turns.here.name == "user":
            return
        often = 10.0 if _COMMIT.search(what) else 2.0 if what.startswith(_DECISIVE) else 0.5
        if self.has("slow_storage") and self.dice.random() < 0.02 * often:
            self.met["slow_storage"] += 1
            self.turns.sleep(self.dice.choice([0.01, 0.5, 8.0, 90.0]))
        deadly = 0.01 * self.has("late_request") + 0.002 * self.has("killed")
        if self.dice.random() < deadly * often:
            self.met["killed"] += 1
            self.say(f"{self.turns.here.name} is killed before it does {what}")
            self.turns.kill(self.turns.here)

    def _requested(self, what: str, effect: Callable[[], object] | None) -> None:
        """A process is about to send a request, or has been answered."""
        try:
            self._step(what)
        except BaseException:
            if effect is not None and self.has("late_request") and self.dice.random() < 0.5:
                self.bucket.late.append(effect)
            raise

    # What a seed decides

    def _some(self, kind: str, share: float) -> frozenset[int]:
        n = len(self.fates.seconds)
        return frozenset(i for i in range(n) if kind in self.plan.kinds and self.dice.random() < share)

    def days_of(self, position: int) -> list[int] | list[float]:
        """The days that the model returns: halves are met late, and widen the columns of what is committed."""
        return [0.5, 1.5] if "wider" in self.plan.kinds and position % 3 == 2 else [0, 1]

    def _losses(self) -> Counter[str]:
        """How often nodes go in a session, and what runs on them is lost."""
        kinds = [kind for kind in LOSSES if kind in self.plan.kinds]
        self.dice.shuffle(kinds)
        most = 2 if "out_of_memory" in self.plan.kinds else MOST_LOSSES
        losses = Counter(kinds[:most])
        if "churn" in losses:
            losses["churn"] = min(CHURN, 1 + most - len(losses))
        return losses

    def _fates(self, n: int) -> Fates:
        dice, large = self.dice, "out_of_memory" in self.plan.kinds
        fates = Fates(
            [dice.choice(FEW_SECONDS if "long" not in self.plan.kinds else MANY_SECONDS) for _ in range(n)],
            [dice.randint(30, 1500 if large else 60) * MIB for _ in range(n)],
        )
        self.fates = fates
        fates.raising = self._some("model_error", 0.2)
        most = max(0, min(3, (2 if large else MOST_LOSSES) - self.losses.total()))
        fates.deaths = {position: dice.randint(min(1, most), most) for position in self._some("crashed", 0.2)}
        fates.hopeless = self._some("hopeless", 0.2) - fates.raising
        fates.deaths |= dict.fromkeys(fates.hopeless, 10**6)
        return fates

    # The program's surroundings

    @contextmanager
    def _everywhere(self) -> Iterator[None]:
        """Let the program's storage, names, clocks and waiting be those of this world."""
        shim = SimpleNamespace(sleep=self.turns.sleep)
        here = SimpleNamespace(this=self._process)
        token = SimpleNamespace(token_hex=self._token)
        with pytest.MonkeyPatch.context() as patch:
            for module in (local, names):
                patch.setattr(module, "os", self.disk.os(self._step))
            patch.setattr(local, "_renamed", functools.partial(self.disk.moved_aside, local._renamed))
            patch.setattr(objects, "obstore", self.bucket)
            patch.setattr(objects, "ThreadPoolExecutor", InPlacePool)
            patch.setattr(objects, "time", shim)
            patch.setattr(heartbeat, "ProcessIdentity", here)
            patch.setattr(parts, "pq", Parquet())
            patch.setattr(driver, "TICK_S", self.dice.choice(TICKS_S))
            for module in (local, objects, run_json, writer):
                patch.setattr(module, "secrets", token)
            patch.setattr(ObjectFolder, "at", classmethod(lambda _, uri: self._in_memory(uri)))
            yield

    def around(self, process: Process) -> Surroundings:
        """What a session takes from outside."""
        return Surroundings(
            lambda: BEGAN + timedelta(seconds=self.turns.now_s + process.skew_s),
            self._token, self._process, self.turns.sleep,
        )  # fmt: skip

    def _process(self) -> ProcessIdentity:
        name = "reader" if self.turns.here is None else self.turns.here.name
        return ProcessIdentity(name, 1, f"boot of {name}", 1)

    def _token(self, n_bytes: int = 8) -> str:
        return self.dice.randbytes(n_bytes).hex()

    def _in_memory(self, uri: str) -> ObjectFolder:
        folder = ObjectFolder(uri, Bucket("s3", "bucket"), uri.removeprefix("s3://bucket/"), self.bucket.memory)
        folder._found_out.is_there = True
        return folder


class InPlacePool:
    """A pool of one thread: the one that asks."""

    def __init__(self, _threads: int) -> None:
        """There is nothing to start."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Do it now."""
        future: Future[Any] = Future()
        future.set_result(work(*args))
        return future

    map = staticmethod(map)


class _Session:
    """One session of the program: what `modelops-ray run` does, in virtual time."""

    def __init__(self, world: World, process: Process, how: dict[str, Any], n_sets: int) -> None:
        self._world, self._process, self._how = world, process, how
        self._study, self._simulations = study_of(n_sets, world.plan.n_replicates)
        self._n_turns = 0

    def run(self) -> Finish:
        """Begin, run to the end, and say how it ended."""
        world = self._world
        part, around = self._how["part"], world.around(self._process)
        opening = opened(
            world.place_of(part), self._study, around=around, simulations=self._simulations,
            whole=world.place, **self._how,
        )  # fmt: skip
        world.turns.sleep(world.dice.uniform(0.5, 5.0))
        self._store = store = opening.begin()
        if store._session is None:
            return Finish(Ending.COMPLETE, "there is nothing to do")
        world.promises.began(store, self._process, self._how)
        self._backend_now = backend = self._backend()
        policy = Policy(
            chunk=world.dice.choice([None, 1, 3]), window=world.dice.choice([None, None, 1, 3]), no_progress_s=300.0
        )
        backend.window, backend.attempts = policy.window, policy.attempts
        state = CheckedRun(policy, n_completed_before=store.completed, attempts_before=store.attempts_made())
        committer = _Told(self, Desk(store, backend.take, backend.clock, backend.clock), backend.sleep)
        scope = None if part is None else scope_of(self._simulations, part)
        source = StudySource(self._simulations, store.done(), scope)
        ports = Ports(backend, committer, source, self, backend.clock, backend)
        n = len(self._simulations if scope is None else scope)
        self._driver = Driver(state, ports, n_simulations=n, n_resumed=len(store.done()))
        if world.has("interrupted") and world.dice.random() < 0.5:
            world.turns.at(world.turns.now_s + world.dice.uniform(0, 30), self._interrupt)
        finish = self._driver.run()
        world.promises.finished(self._driver.snapshot(), finish, backend.longest_wait_for_commit_s, self._process)
        store.close(str(finish.ending), self._driver.snapshot().counters())
        return finish

    def _interrupt(self) -> None:
        if not self._process.is_over and not self._world.is_calm:
            self._world.met["interrupted"] += 1
            self._driver.stop("interrupted")

    def committed(self) -> None:
        """The driver hears of a commit."""
        self._world.promises.committed(self._store)

    def takes_time(self) -> None:
        """A commit takes some time, or a loop of commits would take none."""
        self._world.turns.sleep(0.01)

    def heard(self) -> None:
        """The session has said that it lives, or need not yet."""
        self._world.promises.heard(self._process)

    def update(self, _snapshot: Snapshot) -> None:
        """Watch a turn of the driver."""
        self._n_turns += 1
        if self._n_turns > MOST_TURNS:
            raise EndlessError(f"{self._process.name} has made {self._n_turns:,} turns")

    def note(self, text: str) -> None:
        """Hear what a person would be told."""
        self._world.say(f"{self._process.name}: {text}")

    def _backend(self) -> WorldBackend:
        world, dice = self._world, self._world.dice
        nodes = [(float(dice.randint(1, 4)), dice.choice([4, 8]) * GIB) for _ in range(world.plan.n_nodes)]
        backend = WorldBackend(world.turns, world.fates, nodes, self._outputs, world.met, seed=dice.randint(0, 9))
        backend.pods_die = world.has("pod_died")
        now_s = world.turns.now_s
        happens = {"node_lost": self._lose_node, "node_drained": self._drain_node, "node_back": self._restart_node}
        for kind, n in world.losses.items():
            for at in range(n if world.has(kind) else 0):
                when_s = 3.0 * at + dice.uniform(0.1, 2.9) if kind == "churn" else dice.uniform(0.5, 9.0)
                backend.at(now_s + when_s, happens.get(kind, self._replace_node), backend)
        if any(map(world.has, ("node_gained", "node_lost", "node_drained"))):
            backend.at(now_s + dice.uniform(0.5, 20.0), self._gain_node, backend)
        for _ in range(4 if world.has("payload_lost") else 0):
            backend.at(now_s + dice.uniform(0.5, 20.0), self._lose_payloads, backend)
        return backend

    def _lose_node(self, backend: WorldBackend) -> None:
        self._world.met["node_lost"] += 1
        backend.lose(0)

    def _drain_node(self, backend: WorldBackend) -> None:
        if there := backend.staying():
            self._world.met["node_drained"] += 1
            backend.drain(self._world.dice.choice(there), self._world.dice.choice(DRAINED_S))

    def _restart_node(self, backend: WorldBackend) -> None:
        """A node goes, and comes back under the same address."""
        dice, there = self._world.dice, backend.staying()
        if not there:
            return
        self._world.met["node_back"] += 1
        index = dice.choice(there)
        backend.lose(index)
        backend.at(backend.now_s + dice.uniform(0.1, 9.0), backend.come_back, index)

    def _replace_node(self, backend: WorldBackend) -> None:
        there = backend.staying()
        if there and not self._world.is_calm:
            self._world.met["churn"] += 1
            backend.gain(3.0, 8 * GIB)
            backend.lose(self._world.dice.choice(there))

    def _gain_node(self, backend: WorldBackend) -> None:
        self._world.met["node_gained"] += 1
        backend.gain(3.0, 8 * GIB)

    def _lose_payloads(self, backend: WorldBackend) -> None:
        self._world.met["payload_lost"] += bool(backend._payloads)
        backend.forget(0.5)

    def _outputs(self, chunk: Any) -> Any:
        tries, reached = tries_of(chunk), reached_of(self._backend_now, chunk)
        positions = [position for position in reached if position not in self._world.fates.raising]
        return payload(self._study, positions, self._model, self._simulations, tries)

    def _model(self, simulation: Any) -> Any:
        day: list[Any] = self._world.days_of(simulation.position)
        if simulation.position in self._world.misfitting and self._store.completed:
            # Once there are numbers, a text in their place does not fit.
            self._world.met["misfit"] += 1
            day = ["a", "b"]
        return {"incidence": {"day": day, "cases": [float(simulation.seed), float(simulation.position)]}}


class _Told(InPlace):
    """A committer that tells the world what the driver hears."""

    def __init__(self, session: _Session, desk: Desk, wait: Callable[[float], None]) -> None:
        super().__init__(desk, wait)
        self._of = session

    def poll(self, timeout_s: float = 0.0) -> list[Any]:
        """Commit, and let the world know that it holds from here on."""
        events = super().poll(timeout_s)
        if events:
            self._of.takes_time()
            self._of.committed()
        return events

    def _beat_in_time(self) -> None:
        super()._beat_in_time()
        self._of.heard()
