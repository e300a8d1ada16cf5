"""A whole run, drawn from a seed: its cluster, its simulations, its options, and all that will go wrong.

Everything is decided here, but for the order in which tasks are placed. Sizes in bytes, times in virtual seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum

from modelops_ray.core.events import Segment
from modelops_ray.core.memory import bin_of
from modelops_ray.core.policy import Policy

MIB = 2**20
GIB = 2**30
NODE_SIZES = (GIB // 2, GIB, 2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB, 64 * GIB, 128 * GIB)


class Fate(StrEnum):
    """What becomes of a simulation that has the memory it needs."""

    COMPLETES = "completes"
    RAISES = "raises an exception"
    MISFITS = "returns columns that do not fit"
    HANGS = "runs until its time limit"
    CRASHES = "crashes always"
    CRASHES_ONCE = "crashes the first time"


@dataclass(frozen=True, slots=True)
class Simulated:
    """One simulation: what it takes, needs and returns, and its fate."""

    seconds: float
    need_bytes: int
    output_bytes: int
    fate: Fate = Fate.COMPLETES


@dataclass(frozen=True, slots=True)
class Machine:
    """One node, or a kind of node of which an autoscaler brings up to `most`."""

    cpus: float
    memory_bytes: int
    most: int = 1


class Change(StrEnum):
    """What happens to a node; one that drains takes nothing more, and then dies."""

    COMES = "comes"
    DIES = "dies"
    DRAINS = "drains"
    SHRINKS = "shrinks"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens to a node at a time, and the machine that it is from then on."""

    at_s: float
    what: Change
    node: int
    machine: Machine


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that is decided before a run begins.

    `machines` are there from the start; those below `n_staying` stay, as they are. `kinds` come after `scaling_s`, and
    go when they have been idle. Importing the model takes `shared_bytes` on every node, a worker `worker_bytes`, a
    child `child_bytes`. `kills` is the chance that a learned, soft limit is enforced; `losses` that a task is lost,
    `lost_payloads` that outputs are, all of them between `storm_s`. `child_lives_s` are what workers tell of how long
    a child is to run.
    """

    seed: int
    policy: Policy
    simulations: tuple[Simulated, ...]
    segments: tuple[Segment, ...]
    machines: tuple[Machine, ...]
    n_staying: int
    kinds: tuple[Machine, ...]
    scaling_s: float
    happenings: tuple[Happening, ...]
    shared_bytes: int
    worker_bytes: int
    child_bytes: int
    kills: float
    losses: float
    lost_payloads: float
    storm_s: tuple[float, float]
    commit_s: float
    child_lives_s: tuple[float | None, ...]
    stop_s: float
    known_peaks: dict[int, int] = field(default_factory=dict)
    known_seconds: float | None = None

    @property
    def lasting(self) -> tuple[Machine, ...]:
        """Nodes that are there for the whole run, or can come at any time of it, and have the CPUs it takes."""
        return tuple(m for m in (*self.machines[: self.n_staying], *self.kinds) if m.cpus >= self.policy.cpus)

    def room_on(self, memory_bytes: int) -> int:
        """What one simulation can use on a node that it has for itself."""
        return memory_bytes - self.shared_bytes - self.worker_bytes - self.child_bytes

    def is_feasible(self, need_bytes: int) -> bool:
        """Whether a simulation that needs this much fits the largest node that lasts, and the cap."""
        room = max((self.room_on(machine.memory_bytes) for machine in self.lasting), default=0)
        return need_bytes <= min(room, self.policy.max_memory_bytes or room)


def draw(seed: int) -> Schedule:
    """Draw a schedule; the same one for the same seed."""
    rng = random.Random(seed)
    machines, n_staying, kinds = _cluster(rng)
    lasting = [*machines[:n_staying], *kinds]
    shared_bytes = rng.choice([0, 0, 50 * MIB, 300 * MIB, GIB])
    worker_bytes, child_bytes = rng.choice([65 * MIB, 140 * MIB]), rng.choice([0, 10 * MIB, 60 * MIB])
    largest = max(machine.memory_bytes for machine in lasting)
    room = max(32 * MIB, largest - shared_bytes - worker_bytes - child_bytes)
    simulations, segments = _study(rng, room)
    policy = _policy(rng, room, max(machine.cpus for machine in lasting))
    horizon_s = sum(one.seconds for one in simulations) / max(1.0, sum(m.cpus for m in machines)) + 30.0
    storm_s = rng.uniform(0.0, horizon_s)
    known = rng.random() < 0.3
    happenings = _happenings(rng, machines, n_staying, horizon_s)
    # A session that begins while a node is away does not know that it will be back.
    may_stop = all(one.node >= n_staying for one in happenings) and rng.random() < 0.3
    return Schedule(
        seed=seed,
        policy=policy,
        simulations=simulations,
        segments=segments,
        machines=machines,
        n_staying=n_staying,
        kinds=kinds,
        scaling_s=rng.choice([5.0, 60.0, 400.0]),
        happenings=happenings,
        shared_bytes=shared_bytes,
        worker_bytes=worker_bytes,
        child_bytes=child_bytes,
        kills=rng.choice([0.0, 0.5, 1.0]),
        losses=rng.choice([0.0, 0.0, 0.02, 0.1]),
        lost_payloads=rng.choice([0.0, 0.0, 0.0, 0.05]),
        storm_s=(storm_s, storm_s + rng.choice([0.0, 0.0, 20.0, 100.0])),
        commit_s=rng.choice([0.05, 0.3, 1.5]),
        child_lives_s=rng.choice([(0.0,), (0.0,), (None, None, 0.0), (None, 30.0), (3.0,)]),
        stop_s=rng.uniform(0.0, horizon_s) if may_stop else math.inf,
        # What an earlier run knew may be of another time.
        known_peaks={bin_of(one.need_bytes * rng.choice([1.0, 1.0, 0.3])): 3 for one in simulations[:9]}
        if known
        else {},
        known_seconds=simulations[0].seconds if known else None,
    )


def _cluster(rng: random.Random) -> tuple[tuple[Machine, ...], int, tuple[Machine, ...]]:
    """Machines of the start, how many of the first of them stay, and kinds that can come."""

    def one(most: int = 1) -> Machine:
        return Machine(rng.choice([0.0, 1.0, 2.0, 4.0, 8.0, 16.0]), rng.choice(NODE_SIZES), most)

    kinds = tuple(one(rng.randint(1, 3)) for _ in range(rng.choice([0, 0, 1, 2])))
    staying = [one() for _ in range(rng.randint(0 if kinds else 1, 3))]
    if not any(machine.cpus for machine in (*staying, *kinds)):
        staying.append(Machine(4.0, rng.choice(NODE_SIZES)))
    passing = [one() for _ in range(rng.choice([0, 0, 1, 2, 3]))]
    return (*staying, *passing), len(staying), kinds


def _happenings(
    rng: random.Random, machines: tuple[Machine, ...], n_staying: int, horizon_s: float
) -> tuple[Happening, ...]:
    """What befalls the nodes that do not stay; some come back, perhaps smaller. Those that stay may restart."""
    happenings: list[Happening] = []
    for index, machine in enumerate(machines):
        if index < n_staying and rng.random() < 0.8:
            continue
        at_s = rng.uniform(0.0, horizon_s)
        what = Change.DIES if index < n_staying else rng.choice([Change.DIES, Change.DRAINS, Change.SHRINKS])
        smaller = machine.memory_bytes // rng.choice([2, 4, 32])
        happenings.append(Happening(at_s, what, index, Machine(machine.cpus, smaller)))
        if index < n_staying or (what is not Change.SHRINKS and rng.random() < 0.5):
            back = machine if index < n_staying else rng.choice([machine, Machine(machine.cpus, smaller)])
            happenings.append(Happening(at_s + 70.0 + rng.choice([0.0, 30.0, 200.0]), Change.COMES, index, back))
    if rng.random() < 0.1:
        # All of the cluster goes, and comes back.
        at_s, back_s = rng.uniform(0.0, horizon_s), rng.choice([3.0, 100.0, 250.0])
        for index, machine in enumerate(machines[:n_staying]):
            happenings.append(Happening(at_s, Change.DIES, index, machine))
            happenings.append(Happening(at_s + back_s, Change.COMES, index, machine))
    return tuple(sorted(happenings, key=lambda one: one.at_s))


def _study(rng: random.Random, room: int) -> tuple[tuple[Simulated, ...], tuple[Segment, ...]]:
    """Simulations of a few parameter sets, most of which fit the largest node."""
    n_sets, replicates = rng.randint(1, 16), rng.randint(1, 10)
    typical = room * rng.choice([0.001, 0.01, 0.1, 0.4, 0.9])
    shape = rng.choice(["alike", "by set", "two kinds", "heavy tail", "one giant", "some too large"])
    mean_s, sigma = rng.choice([0.02, 1.0, 10.0, 60.0]), rng.choice([0.1, 0.5, 1.5])
    trouble = rng.choice([0.0, 0.0, 0.05, 0.3])
    output = rng.choice([1_000, 100_000, 3 * MIB, 30 * MIB])
    giant = rng.randrange(n_sets * replicates)
    simulations = []
    for index in range(n_sets):
        set_factor = rng.lognormvariate(0.0, 1.0 if shape == "by set" else 0.05)
        set_s = mean_s * rng.lognormvariate(0.0, sigma)
        for replicate in range(replicates):
            need = typical * set_factor * rng.uniform(0.9, 1.1)
            if shape == "two kinds" and rng.random() < 0.3:
                need *= 20
            elif shape == "heavy tail":
                need *= rng.paretovariate(1.0)
            elif shape == "one giant" and index * replicates + replicate == giant:
                need = room
            too_large = shape == "some too large" and rng.random() < 0.1
            bounded = room + rng.choice([1, GIB]) if too_large else min(max(need, 20_000), room)
            seconds = min(300.0, set_s * rng.uniform(0.8, 1.2))
            fate = rng.choice(list(Fate)) if rng.random() < trouble else Fate.COMPLETES
            simulations.append(Simulated(seconds, int(bounded), int(output * rng.uniform(0.5, 1.5)), fate))
    segments = tuple(Segment(i, i * replicates, (i + 1) * replicates) for i in range(n_sets))
    return tuple(simulations), segments


def _policy(rng: random.Random, room: int, most_cpus: float) -> Policy:
    """Options of the user, most of them left out."""

    def sometimes(chance: float, *values: int) -> int | None:
        return rng.choice(values) if rng.random() < chance else None

    cap = sometimes(0.15, room // 20 + MIB, room // 3 + MIB, room)
    given = sometimes(0.3, 10 * MIB, room // 50 + MIB, room // 8 + MIB, room)
    return Policy(
        cpus=rng.choice([each for each in (0.5, 1.0, 1.0, 1.0, 2.0, 3.0) if each <= most_cpus]),
        memory_bytes=given if given is None or cap is None else min(given, cap),
        max_memory_bytes=cap,
        attempts=rng.choice([1, 2, 3, 5, 5, 5]),
        max_failures=rng.choice([None, 10**9, 10**9]),
        timeout_s=600.0,
        chunk=sometimes(0.2, 1, 3, 50),
        window=sometimes(0.2, 1, 2, 7),
        supervised=rng.random() < 0.8,
        payload_budget_bytes=rng.choice([8 * MIB, 256 * MIB]),
        payload_budget_per_node_bytes=rng.choice([0, 64 * MIB]),
        window_cap=rng.choice([10, 4000]),
        request_sizes=rng.choice([5, 12]),
    )
