"""From what a study needs to pods: memory tiers, how many of each, head, spill volume, disk. Arithmetic only.

Owns the formula for what Ray may promise of a pod's memory, and the choice of sizes. A `Shape` has the manifests' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from modelops_ray.cluster.quantity import GIB, MIB
from modelops_ray.core.events import Node
from modelops_ray.core.overhead import Overhead
from modelops_ray.core.policy import Policy
from modelops_ray.core.window import slots

TARGET_S = 3600.0
"""If no number of pods is given, there are as many as finish the study in about this time."""
TYPICAL_SHARE = 0.95
"""The first tier is for this share of the simulations; those that need more may have a tier of their own."""
RAISED = 1.5
"""After an overrun a simulation is given at least this multiple: the largest tier has room for it."""
MOST_MEMORY_PER_CPU_BYTES = 16 * GIB
"""Few machines have more memory for each CPU; for simulations that need more, CPUs stay idle instead."""


class Share(NamedTuple):
    """How the memory of a pod is divided; bytes."""

    limit_bytes: int
    plasma_bytes: int
    system_bytes: int
    buffer_bytes: int
    memory_bytes: int


def share(limit_bytes: int, plasma_bytes: int, threshold: float) -> Share:
    """Divide the memory of a pod into the object store, Ray's processes, head-room, and what Ray may promise.

    `limit_bytes` are requested, too; `threshold` is the share of them at which Ray kills.
    """
    system_bytes = min(10 * GIB, max(500 * MIB, limit_bytes // 10))
    buffer_bytes = max(512 * MIB, math.ceil((1 - threshold) * limit_bytes))
    memory_bytes = limit_bytes - plasma_bytes - system_bytes - buffer_bytes
    return Share(limit_bytes, plasma_bytes, system_bytes, buffer_bytes, memory_bytes)


def promised_bytes(limit_bytes: int, plasma_bytes: int, threshold: float) -> int:
    """What Ray may promise of a pod's memory, in whole GiB, or MiB below 16 GiB."""
    memory_bytes = share(limit_bytes, plasma_bytes, threshold).memory_bytes
    unit_bytes = GIB if memory_bytes >= 16 * GIB else MIB
    return max(0, memory_bytes // unit_bytes * unit_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is known of a study and its model; bytes and seconds.

    `limits` are pairs, ascending: what a simulation may add, and how many simulations there are of that size. The
    results of the whole study take `output_bytes` on disk, and `payload_bytes` in memory and where Ray spills them.
    `cap_bytes` is the most that the user allows for one simulation.
    """

    simulations: int
    limits: tuple[tuple[int, int], ...]
    cpus: float = 1.0
    worker_bytes: int
    child_bytes: int = 0
    shared_bytes: int = 0
    seconds: float | None = None
    output_bytes: int | None = None
    payload_bytes: int | None = None
    cap_bytes: int | None = None

    def request_bytes(self, limit_bytes: int, memory_bytes: int) -> int:
        """What a simulation with this limit asks of Ray on nodes of this memory."""
        return Overhead(self.worker_bytes, self.child_bytes, self.shared_bytes, (memory_bytes,)).task_bytes(limit_bytes)

    def within(self, share_of_all: float) -> int:
        """The lowest limit that holds this share of the simulations."""
        left = math.ceil(share_of_all * sum(count for _, count in self.limits))
        for limit_bytes, count in self.limits:
            left -= count
            if left <= 0:
                return limit_bytes
        return self.limits[-1][0]

    @property
    def largest_bytes(self) -> int:
        """What the largest simulation may be given once it has overrun its limit."""
        return min(int(RAISED * self.limits[-1][0]), self.cap_bytes or 2**60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the manifests say: of a group of workers besides its memory, and the bytes of which no less is planned."""

    cpus: int
    plasma_bytes: int
    threshold: float
    max_replicas: int
    head_bytes: int
    spill_bytes: int
    disk_bytes: int

    def memory_bytes(self, limit_bytes: int) -> int:
        """What Ray may promise of a pod of this size."""
        return promised_bytes(limit_bytes, self.plasma_bytes, self.threshold)

    def limits(self) -> Iterator[int]:
        """Pod sizes, ascending: 2 GiB for each CPU, then twice as much, and so on to 16 TiB."""
        limit_bytes = 2 * GIB * self.cpus
        while limit_bytes <= 2**44:
            yield limit_bytes
            limit_bytes *= 2


@dataclass(frozen=True, slots=True)
class Tier:
    """A group of workers with one size of memory. `simulations` of the study need that size or less."""

    share: Share
    memory_bytes: int
    cpus: int
    at_a_time: int
    simulations: int
    max_replicas: int

    @property
    def name(self) -> str:
        """Named by its memory for each CPU, in GiB."""
        return f"mem{math.ceil(self.share.limit_bytes / self.cpus / GIB)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes for a study; `seconds` is how long it takes on all pods, None where that is not known."""

    tiers: tuple[Tier, ...]
    head_bytes: int
    uncommitted_bytes: int
    spill_bytes: int
    disk_bytes: int
    seconds: float | None


def plan(need: Need, shape: Shape, *, pods: int | None) -> Plan:
    """Choose sizes for a study; `pods` are the most workers of all tiers, None for as many as finish in an hour."""
    tiers = _replicas(_tiers(need, shape), need, shape, pods)
    uncommitted = uncommitted_bytes(sum(tier.max_replicas for tier in tiers))
    # The head of the manifests is for their own pods; a million simulations of any kind are 100 MB of it.
    grown = max(0, uncommitted - uncommitted_bytes(shape.max_replicas))
    spill = 2 * min(uncommitted, need.payload_bytes or uncommitted) + shape.plasma_bytes
    return Plan(
        tiers=tiers,
        head_bytes=shape.head_bytes + _whole_gib(grown),
        uncommitted_bytes=uncommitted,
        spill_bytes=max(shape.spill_bytes, _whole_gib(spill)),
        disk_bytes=max(shape.disk_bytes, _whole_gib(2 * (need.output_bytes or 0))),
        seconds=_seconds(tiers, need),
    )


def uncommitted_bytes(n_pods: int) -> int:
    """The bytes of outputs that may have finished without being committed, on `n_pods` pods."""
    policy = Policy()
    return max(policy.payload_budget_bytes, policy.payload_budget_per_node_bytes * n_pods)


def _tiers(need: Need, shape: Shape) -> list[Tier]:
    """The tier for nearly all simulations, and one for the largest where these would not fit it after an overrun."""
    typical_bytes, largest_bytes = need.within(TYPICAL_SHARE), need.largest_bytes
    first = _tier(need, shape, typical_bytes, max(1, int(shape.cpus / need.cpus)))
    if need.request_bytes(largest_bytes, first.memory_bytes) <= first.memory_bytes:
        return [first]
    second = _tier(need, shape, largest_bytes, 1)
    return [first] if second.share == first.share else [first, second]


def _tier(need: Need, shape: Shape, limit_bytes: int, at_a_time: int) -> Tier:
    """The smallest pod that holds `at_a_time` of these simulations, or one of them where CPUs must stay idle."""
    most_bytes = MOST_MEMORY_PER_CPU_BYTES * shape.cpus
    sizes = [(size, shape.memory_bytes(size)) for size in shape.limits()]
    holds = {size: n_bytes // need.request_bytes(limit_bytes, n_bytes) if n_bytes > 0 else 0 for size, n_bytes in sizes}
    chosen = next((size for size, n in holds.items() if n >= at_a_time and size <= most_bytes), None)
    if chosen is None:
        chosen = next((size for size, n in holds.items() if n and size >= most_bytes), sizes[-1][0])
    memory_bytes = shape.memory_bytes(chosen)
    held = slots([Node(float(shape.cpus), memory_bytes)], need.cpus, need.request_bytes(limit_bytes, memory_bytes))
    below = sum(count for limit, count in need.limits if need.request_bytes(limit, memory_bytes) <= memory_bytes)
    known = sum(count for _, count in need.limits)
    return Tier(
        share=share(chosen, shape.plasma_bytes, shape.threshold),
        memory_bytes=memory_bytes,
        cpus=shape.cpus,
        at_a_time=held,
        simulations=math.ceil(need.simulations * below / known),
        max_replicas=1,
    )


def _replicas(tiers: list[Tier], need: Need, shape: Shape, pods: int | None) -> tuple[Tier, ...]:
    """Pods for each tier, in proportion to its work: at least one each, and at most `pods` in all."""
    most = shape.max_replicas if pods is None else pods
    below, wanted = 0, []
    for tier in tiers:
        n, below = max(1, tier.simulations - below), tier.simulations
        wanted.append(_pods(n, tier, need, pods))
    total = sum(wanted)
    scale = min(1.0, most / total)
    counts = [max(1, math.floor(n * scale)) for n in wanted]
    counts[0] = max(1, min(counts[0], most - sum(counts[1:])))
    return tuple(replace(tier, max_replicas=n) for tier, n in zip(tiers, counts, strict=True))


def _pods(n_simulations: int, tier: Tier, need: Need, pods: int | None) -> int:
    at_a_time = max(1, tier.at_a_time)
    useful = math.ceil(n_simulations / at_a_time)
    if need.seconds is None or pods is not None:
        return useful
    return max(1, min(useful, math.ceil(n_simulations * need.seconds / at_a_time / TARGET_S)))


def _seconds(tiers: Sequence[Tier], need: Need) -> float | None:
    if need.seconds is None:
        return None
    n_slots = sum(tier.max_replicas * max(1, tier.at_a_time) for tier in tiers)
    return max(need.seconds, need.simulations * need.seconds / n_slots)


def _whole_gib(n_bytes: int) -> int:
    return math.ceil(n_bytes / GIB) * GIB
