"""What is run: scenarios as values. Each names a model, its parameter sets, the pods it runs in, and its answer.

Owns sizes and limits. Knows neither engines nor processes: an engine gets a `Case`, one point of a scenario.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.models import MIB, three_decades

GIB = 2**30
Size = Literal["small", "full"]
Axes = Mapping[str, list[Any]]

STORE_BYTES = 80 * MIB
"""Ray's object store in a pod, where outputs are small; its own minimum is 75 MiB."""
STUCK_AFTER, STUCK_AFTER_SLOW = 2.0, 5.0
"""An engine gets this many times what the practical limit takes, and `GRACE_S`, before it counts as stuck.

The second one is for simulations that need little memory, with which an engine can only be slow.
"""
GRACE_S = 10.0


@dataclass(frozen=True)
class Layout:
    """Pods: how many, the memory limit of each, and what each has to run simulations.

    `slots` is how many simulations a pod runs at a time where memory allows: the Dask processes of the report. None as
    `pod_bytes` is a pod without a limit: one machine, as it is.
    """

    pods: int = 1
    pod_bytes: int | None = None
    slots: int = 2

    @property
    def share_bytes(self) -> int:
        """What the report's Dask gives each of its processes."""
        assert self.pod_bytes is not None
        return self.pod_bytes // self.slots


@dataclass(frozen=True)
class Case:
    """One point of a scenario at one size.

    Attributes:
        point: Where on the scenario's axis it is; None where there is none.
        model: `module:function`.
        axes: Values by parameter; their full factorial is run.
        limit_s: About what the practical limit takes.
        need_bytes: What the largest simulation fills; what `dask-tuned` is told.
        check_every: Every how-manyeth result is compared with the answer; of no common factor with the replicates, so
            that all of them have their turn.
        keeps_ledger: Whether the model takes part in `ledger`.
        holds: How many simulations wait for each other and are then weighed together; 0 for none.
        losing_every_s: Seconds from one kill of a worker process to the next; 0 for no kills.
        stuck_after: How many times the practical limit an engine may take.
    """

    scenario: str
    size: Size
    model: str
    axes: Axes
    replicates: int
    layout: Layout
    limit_s: float
    point: float | None = None
    need_bytes: int = 0
    check_every: int = 1
    keeps_ledger: bool = False
    holds: int = 0
    losing_every_s: float = 0.0
    stuck_after: float = STUCK_AFTER
    object_store_bytes: int = STORE_BYTES

    @property
    def simulations(self) -> int:
        """How many."""
        n = self.replicates
        for values in self.axes.values():
            n *= len(values)
        return n

    @property
    def stuck_s(self) -> float:
        """When an engine that has not finished counts as stuck."""
        return self.stuck_after * self.limit_s + GRACE_S


@dataclass(frozen=True)
class Scenario:
    """A question, and the cases that answer it; `engines` are those it is about, all by default.

    `against_pool` says that rates are compared with the pool's; elsewhere it is not run.
    """

    name: str
    question: str
    cases: Callable[[Size], list[Case]]
    engines: tuple[str, ...] = field(default=())
    against_pool: bool = True


PODS = 4


def pods_that_fit(pod_bytes: int, most: int = PODS) -> int:
    """How many pods of a size this machine has memory for; at least one."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(most, int(0.8 * memory_bytes) // pod_bytes))


# The report's pod: 4 GiB, 2 CPUs, 4 Dask processes. The pod is kept as it is, because what an interpreter needs does
# not shrink with it; what scales with the machine is how many there are, one per core.
# One of the proposals makes them twice as large.
INCIDENT = Layout(pods=pods_that_fit(8 * GIB, min(PODS, os.cpu_count() or 1)), pod_bytes=4 * GIB, slots=4)
# A study has hundreds; the fewer there are here, the more the few seconds count in which workers come up.
WAVES = 16
HOLD_S = 2.0
STARSIM_MIB = 30
"""What a simulation of 1,000 people adds to a process that has imported Starsim."""
REPLICATES = 30
"""Of every parameter set, as in the incident: a process of ours runs replicates of a few sets, and no more."""
RATIOS = (0.3, 0.7, 1.0, 1.3, 2.0)


def at_once(layout: Layout, need_bytes: int, own_bytes: int = 64 * MIB) -> int:
    """How many simulations fit into the memory of all pods, by arithmetic; `own_bytes` is each interpreter's own."""
    assert layout.pod_bytes is not None
    return layout.pods * max(1, min(layout.slots, (layout.pod_bytes - own_bytes) // (need_bytes + own_bytes)))


def need_sweep(size: Size, ratios: tuple[float, ...] = RATIOS) -> list[Case]:
    """A simulation needs each of `ratios` times a Dask process's share of its pod."""
    if size == "small":
        small = Layout(pods=2, pod_bytes=2 * GIB, slots=2)
        return [_need("need_sweep", size, small, ratio, waves=3, hold_s=0.3) for ratio in (0.3, 1.3)]
    return [_need("need_sweep", size, INCIDENT, ratio, waves=WAVES, hold_s=HOLD_S) for ratio in ratios]


def _need(scenario: str, size: Size, layout: Layout, ratio: float, waves: int, hold_s: float) -> Case:
    mib = round(ratio * layout.share_bytes / MIB)
    n = max(24 if size == "full" else 0, waves * at_once(layout, mib * MIB))
    waves = n // at_once(layout, mib * MIB)
    # Filling takes a seventh of a second of CPU per GiB, and counts as holding.
    wave_s = max(hold_s, at_once(layout, mib * MIB) * mib / 1024 * 0.14 / 2)
    return Case(
        scenario,
        size,
        "benchmarks.fillers:need",
        {"mib": [mib], "hold_s": [hold_s], "ledger": [""], "x": list(range(-(-n // 4)))},
        4,
        layout,
        limit_s=round(waves * wave_s * 1.1, 1),
        point=ratio,
        need_bytes=mib * MIB,
        keeps_ledger=True,
    )


def memory_tail(size: Size) -> list[Case]:
    """One parameter set in twenty needs eight times the median; the limit is that of running as if all did."""
    layout = INCIDENT if size == "full" else Layout(pods=2, pod_bytes=2 * GIB, slots=2)
    mib = 320 if size == "full" else 64
    sets = 20 if size == "full" else 5
    axes: Axes = {
        "mib": [mib],
        "tail": [8],
        "every": [20],
        "hold_s": [HOLD_S],
        "ledger": [""],
        "x": list(range(8, 8 + sets)),
    }
    return [
        Case(
            "memory_tail",
            size,
            "benchmarks.fillers:need",
            axes,
            4,
            layout,
            limit_s=4 * sets / layout.pods * HOLD_S * 1.1,
            need_bytes=8 * mib * MIB,
            keeps_ledger=True,
        )
    ]


def busy_for(name: str, ms: float, full_s: float, small: int) -> Callable[[Size], list[Case]]:
    """Every simulation computes for so long; about `full_s` seconds in total on two cores."""

    def cases(size: Size) -> list[Case]:
        sets = max(1, round((full_s * 2 * 1000 / ms if size == "full" else small) / REPLICATES))
        axes: Axes = {"ms": [ms], "x": list(range(sets))}
        seconds = max(1.0, sets * REPLICATES * ms / 2000)
        model = "benchmarks.models:busy"
        return [Case(name, size, model, axes, REPLICATES, Layout(), seconds, stuck_after=STUCK_AFTER_SLOW)]

    return cases


def long_tail(size: Size) -> list[Case]:
    """Run times over three decades."""
    times = three_decades(40 if size == "full" else 4)
    replicates = 3 if size == "full" else 2
    axes: Axes = {"ms": times}
    seconds = sum(times) * replicates / 2000
    limit_s = round(seconds, 1)
    return [
        Case(
            "long_tail",
            size,
            "benchmarks.models:busy",
            axes,
            replicates,
            Layout(),
            limit_s,
            stuck_after=STUCK_AFTER_SLOW,
        )
    ]


def noop(size: Size) -> list[Case]:
    """Nothing but the engine's own cost, in many replicates; the limit is what a thousand a second would take.

    A process of ours runs at most three parameter sets, so with `REPLICATES` of each this would measure forks.
    """
    n, replicates = (90_000, 300) if size == "full" else (900, 300)
    axes: Axes = {"x": [float(i) for i in range(n // replicates)]}
    model = "benchmarks.models:noop"
    return [Case("noop", size, model, axes, replicates, Layout(), n / 1000, stuck_after=STUCK_AFTER_SLOW)]


def driver_growth(size: Size) -> list[Case]:
    """The same at sizes apart: what the driver has more at the end is what each simulation costs it.

    The limit is what five hundred a second would take, for the smaller sizes.
    """
    sizes = (10_000, 30_000, 100_000, 1_000_000) if size == "full" else (500, 1_000)
    return [
        Case(
            "driver_growth",
            size,
            "benchmarks.models:noop",
            {"x": [float(i) for i in range(n // 100)]},
            100,
            Layout(),
            limit_s=min(100.0, n / 500),
            point=n,
            check_every=101,
        )
        for n in sizes
    ]


def large_outputs(size: Size) -> list[Case]:
    """Outputs of 20 MB, ten times the object store in total."""
    n, store_bytes = (64, 128 * MIB) if size == "full" else (4, 80 * MIB)
    return [
        Case(
            "large_outputs",
            size,
            "benchmarks.fillers:large",
            {"mib": [20], "x": list(range(n // 2))},
            2,
            Layout(pods=1, pod_bytes=4 * GIB, slots=2),
            limit_s=n * 0.3,
            need_bytes=60 * MIB,
            stuck_after=STUCK_AFTER_SLOW,
            object_store_bytes=store_bytes,
        )
    ]


def worker_loss(size: Size) -> list[Case]:
    """A worker process is killed every few seconds."""
    case = _need("worker_loss", size, INCIDENT, 0.1, waves=20 if size == "full" else 6, hold_s=0.8)
    return [replace(case, point=None, losing_every_s=3.0)]


def incident(size: Size) -> list[Case]:
    """The incident's study: 20 x 20 parameter sets of Starsim's SIR, 30 replicates, in 4 pods of 4 GiB."""
    per_axis, replicates = (20, 30) if size == "full" else (2, 3)
    axes: Axes = {
        "beta": [round(0.01 + 0.005 * i, 3) for i in range(per_axis)],
        "dur_inf": [3.0 + 0.5 * i for i in range(per_axis)],
    }
    n = per_axis**2 * replicates
    layout = Layout(pods=pods_that_fit(4 * GIB) if size == "full" else 1, pod_bytes=4 * GIB, slots=4)
    model = "benchmarks.epidemics:sir"
    return [
        Case(
            "incident",
            size,
            model,
            axes,
            replicates,
            layout,
            limit_s=n * 0.05 + 60,
            # No pool says what this machine takes, and on one at two thirds of the speed twice the limit is too short.
            stuck_after=STUCK_AFTER_SLOW,
            check_every=n // 50 + 1,
        )
    ]


def incident_small(size: Size) -> list[Case]:
    """The same model, of which each simulation needs 1.3 times a Dask process's share of its pod."""
    layout = INCIDENT if size == "full" else Layout(pods=1, pod_bytes=4 * GIB, slots=4)
    mib = round(1.3 * layout.share_bytes / MIB) - STARSIM_MIB
    n = 20 if size == "full" else 2
    axes: Axes = {"beta": [0.05], "dur_inf": [5.0], "mib": [mib], "hold_s": [1.0], "ledger": [""], "x": list(range(n))}
    return [
        Case(
            "incident-small",
            size,
            "benchmarks.epidemics:heavy_sir",
            axes,
            4,
            layout,
            limit_s=n * 4 * 1.8 / at_once(layout, (mib + STARSIM_MIB) * MIB) + 5,
            need_bytes=(mib + STARSIM_MIB) * MIB,
            check_every=11,
            keeps_ledger=True,
        )
    ]


def density(size: Size) -> list[Case]:
    """Numbers of Starsim simulations in flight, on one machine without a limit."""
    return [
        Case(
            "density",
            size,
            "benchmarks.epidemics:kept",
            {"together": [n], "hold_s": [4.0], "ledger": [""], "x": list(range(n))},
            4,
            Layout(slots=n),
            limit_s=60.0 + 4 * n,
            point=n,
            check_every=n + 1,
            holds=n,
        )
        for n in ((4, 8, 16, 32, 64) if size == "full" else (2,))
    ]


MAIN = ("modelops-ray", "ray-plain", "dask-incident", "dask-tuned")
INCIDENT_ENGINES = ("modelops-ray", "dask-incident")
TAILED = (*MAIN, "dask-8gi")
GROWING = ("modelops-ray", "dask-incident")
WEIGHED = ("modelops-ray", "dask-incident")

SCENARIOS: Mapping[str, Scenario] = {
    one.name: one
    for one in (
        Scenario("need_sweep", "From which need per process on does each engine fail?", need_sweep),
        Scenario(
            "incident", "What do the incident's 12,000 simulations do?", incident, INCIDENT_ENGINES, against_pool=False
        ),
        Scenario("incident-small", "And where each needs 1.3 times its share?", incident_small),
        Scenario("memory_tail", "What if one simulation in twenty needs eight times the median?", memory_tail, TAILED),
        Scenario("long_tail", "What if run times differ by three decades?", long_tail, MAIN),
        Scenario("many_tiny", "How many simulations of 1 ms per second?", busy_for("many_tiny", 1, 30, 200), MAIN),
        Scenario("ten_ms", "How many simulations of 10 ms per second?", busy_for("ten_ms", 10, 20, 100), MAIN),
        Scenario("hundred_ms", "How many of 100 ms per second?", busy_for("hundred_ms", 100, 20, 20), MAIN),
        Scenario("noop", "What does the engine itself cost?", noop, MAIN),
        Scenario("large_outputs", "What if the outputs are ten times the object store?", large_outputs, MAIN),
        Scenario("worker_loss", "What if a worker dies every few seconds?", worker_loss, MAIN),
        Scenario(
            "driver_growth", "What does each simulation cost the driver?", driver_growth, GROWING, against_pool=False
        ),
        Scenario("density", "What does each further simulation in flight cost?", density, WEIGHED, against_pool=False),
    )
}
