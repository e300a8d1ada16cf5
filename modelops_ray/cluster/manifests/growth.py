"""Whether a cluster grows as a study needs it, in Ray's own judgement: demands, pods of each group, and what to change.

Owns which demands a run makes. Ray is asked through a function that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from modelops_ray.cluster.manifests.autoscaler import Demand
from modelops_ray.cluster.manifests.findings import Problem
from modelops_ray.cluster.manifests.sizing import Need, share
from modelops_ray.cluster.manifests.views import Cluster, Group
from modelops_ray.cluster.quantity import GIB, amount, as_bytes, whole, write_gib
from modelops_ray.core.events import Node
from modelops_ray.core.policy import Policy
from modelops_ray.core.window import slots, window_size

Grow = Callable[[Cluster, Mapping[Demand, int]], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a study makes of a cluster: pods by group, the most there may be of each, and what is wrong with that."""

    pods: Mapping[str, int]
    max_pods: Mapping[str, int]
    problems: tuple[Problem, ...]


def outlook(cluster: Cluster, need: Need, grow: Grow) -> Outlook:
    """Ask what a study's requests make of a cluster that has only its head; ManifestError if Ray cannot read it."""
    nodes = {group.name: _node(group) for group in cluster.workers}
    requests = _requests(need, nodes)
    problems = list(_infeasible(cluster, need, max(requests), nodes))
    pods: Mapping[str, int] = dict.fromkeys(nodes, 0)
    if not problems:
        pods = grow(cluster, _demands(cluster, need, requests, nodes))
        if not any(pods.values()):
            place = cluster.at("workerGroupSpecs")
            problems.append(Problem("no-growth", place, "the autoscaler launches nothing", "raise maxReplicas"))
    return Outlook(pods, {group.name: group.max_replicas for group in cluster.workers}, tuple(problems))


def _node(group: Group) -> Node:
    limits = group.quantities("limits")
    cpus = amount(group.resources.get("CPU") or limits.get("cpu")) or 0
    return Node(float(cpus), group.memory_bytes or as_bytes(limits.get("memory")) or 0)


def _requests(need: Need, nodes: Mapping[str, Node]) -> dict[int, int]:
    """Numbers of simulations by the bytes they request, in at most as many sizes as a run uses."""
    smallest_bytes = min((node.memory_bytes for node in nodes.values()), default=0)
    step = math.ceil(len(need.limits) / Policy().request_sizes)
    requests: dict[int, int] = {}
    for first in range(0, len(need.limits), step):
        some = need.limits[first : first + step]
        request_bytes = need.request_bytes(some[-1][0], smallest_bytes)
        requests[request_bytes] = requests.get(request_bytes, 0) + sum(count for _, count in some)
    return requests


def _infeasible(cluster: Cluster, need: Need, wanted_bytes: int, nodes: Mapping[str, Node]) -> Iterator[Problem]:
    """Requests that no pod of any group can hold."""
    if not nodes:
        place = cluster.at("workerGroupSpecs")
        yield Problem("no-workers", place, "no group of workers, and the head takes no simulations", "add a group")
        return
    largest = max(cluster.workers, key=lambda group: nodes[group.name].memory_bytes)
    given_bytes = nodes[largest.name].memory_bytes
    if wanted_bytes > given_bytes:
        wanted, given = write_gib(wanted_bytes), write_gib(given_bytes)
        found = f"group {largest.name} promises {given}, a simulation asks for {wanted}"
        yield Problem("group-too-small", largest.at("resources", "memory"), found, _remedy(largest, wanted_bytes))
    widest = max(cluster.workers, key=lambda group: nodes[group.name].cpus)
    if need.cpus > nodes[widest.name].cpus:
        found = f"group {widest.name} has {nodes[widest.name].cpus:g} CPUs, a simulation asks for {need.cpus:g}"
        remedy = f"write {math.ceil(need.cpus)} there and in the pod, or --cpus less"
        yield Problem("group-too-narrow", widest.at("resources", "CPU"), found, remedy)


def _remedy(group: Group, wanted_bytes: int) -> str:
    limit_bytes, plasma_bytes = group.limit_bytes or 0, group.plasma_bytes or 0
    while share(limit_bytes, plasma_bytes, group.threshold or 0.95).memory_bytes < wanted_bytes:
        limit_bytes += GIB
    return f"write {whole(wanted_bytes)} or more, and {whole(limit_bytes)} for requests and limits of its pod"


def _demands(cluster: Cluster, need: Need, requests: Mapping[int, int], nodes: Mapping[str, Node]) -> dict[Demand, int]:
    """The tasks that a run has outstanding at once: its window, spread over the sizes as the simulations are."""
    known = sum(requests.values())
    typical_bytes = sum(size * count for size, count in requests.items()) // known
    reachable = sum(each.max_replicas * slots([nodes[each.name]], need.cpus, typical_bytes) for each in cluster.workers)
    n_tasks = min(need.simulations, window_size(1, reachable, Policy().window_cap))
    return {Demand(need.cpus, size): max(1, round(n_tasks * count / known)) for size, count in requests.items()}
