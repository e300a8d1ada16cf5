"""What the core and the workers obey, made of the options of a run: one function each."""

from __future__ import annotations

from modelops_ray.core.policy import Policy
from modelops_ray.runner.executor import ChunkContext
from modelops_ray.session.request import RunRequest
from modelops_ray.store.profiles import Profile


def policy(question: RunRequest, profile: Profile) -> Policy:
    """What the core obeys; `profile` says what a worker is known to need."""
    config = question.config
    too_many = config.max_failures
    return Policy(
        cpus=config.cpus,
        memory_bytes=config.memory,
        max_memory_bytes=config.max_memory,
        attempts=config.attempts,
        max_failures=None if too_many is None else too_many.count(question.n_simulations),
        timeout_s=config.timeout,
        chunk=config.chunk,
        window=config.window,
        supervised=config.isolation != "none" and config.is_on_cluster,
        known_worker_bytes=max(0, profile.base_bytes - profile.child_bytes),
        known_child_bytes=profile.child_bytes,
        known_shared_bytes=profile.shared_bytes,
    )


def chunk_context(question: RunRequest, node_bytes: int) -> ChunkContext:
    """What the workers obey; all simulations of a node use `node_bytes` at most, 0 for what the node has."""
    config = question.config
    return ChunkContext(
        question.model,
        question.identity,
        question.study.outputs,
        config.timeout,
        isolation=config.isolation,
        cpus=config.cpus,
        is_hard=config.memory is not None,
        cap_bytes=config.max_memory,
        per_child=config.per_child,
        node_bytes=node_bytes,
    )
