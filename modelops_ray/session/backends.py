"""Which backend runs the simulations of a session, and what there is for them: the one place that tells backends apart.

Owns the choice, and what a backend is given. How one runs chunks is its own business.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from modelops_ray.backends.local import LocalBackend
from modelops_ray.backends.ray.backend import RayBackend, nodes_now
from modelops_ray.backends.ray.connect import connect, would_start
from modelops_ray.backends.ray.embedded import sizes
from modelops_ray.backends.ray.task import tell_excess
from modelops_ray.core.events import Capacity, Node
from modelops_ray.runner.chunk import run_chunk
from modelops_ray.sandbox.machine import available_memory_bytes, usable_cpus
from modelops_ray.session import ports, request


@contextmanager
def opened(question: request.RunRequest, watcher: ports.Watcher) -> Iterator[ports.Backend]:
    """Have the backend that the options name for as long as the context lasts."""
    config = question.config
    if config.backend == "local":
        run = functools.partial(run_chunk, request.chunk_context(question, config.limit_memory or 0))
        with closing(LocalBackend(run, cpus=config.cpus, memory_bytes=config.limit_memory)) as local:
            yield local
        return
    limits = {"limit_memory_bytes": config.limit_memory, "limit_cpus": config.limit_cpus}
    with connect(config.address, environ=os.environ, **limits) as cluster:
        # A total limit is enforced only where the user gave one; a pod has its own.
        node_bytes = cluster.memory_bytes if config.limit_memory else 0
        context = replace(request.chunk_context(question, node_bytes), tell_excess=tell_excess)
        started = "started" if cluster.owned else f"joined at {cluster.address}"
        with closing(RayBackend(functools.partial(run_chunk, context), cluster)) as backend:
            watcher.note(f"Ray {started} in {cluster.start_s:.1f} s")
            yield backend


def capacity(question: request.RunRequest) -> Capacity:
    """Say what there would be for the simulations, without starting a Ray."""
    config = question.config
    if config.backend == "local":
        return Capacity((Node(config.cpus, config.limit_memory or available_memory_bytes()),))
    if not would_start(config.address, os.environ):
        with connect(config.address, environ=os.environ):
            return Capacity(nodes_now())
    chosen = sizes(available_memory_bytes(), config.limit_cpus or usable_cpus(), config.limit_memory)
    return Capacity((Node(float(chosen.cpus), chosen.memory_bytes),))
