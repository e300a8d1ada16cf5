"""The part of a chunk's task that runs in its worker, and what it tells the driver through the GCS before it ends.

Owns the marks of tasks that started, and the records of simulations beyond their limit. `backend` is the driver's.
"""

from __future__ import annotations

import functools
import gc
import json
from collections.abc import Mapping

from modelops_ray.core.report import ChunkReport
from modelops_ray.study.chunk import Chunk, Payload, RunChunk

NAMESPACE = b"modelops_ray"


def supervisor(run_chunk: RunChunk, run: str) -> RunChunk:
    """Bind what is the same for all chunks, so that it travels with the function and not with every chunk."""

    def supervise(chunk: Chunk) -> tuple[ChunkReport, Payload]:
        if chunk.announce:
            from ray.experimental.internal_kv import _internal_kv_put

            _internal_kv_put(f"{run}{chunk.chunk_id}", b"", namespace=NAMESPACE)
        _settle()
        return run_chunk(chunk)

    return supervise


@functools.lru_cache(maxsize=1)
def _settle() -> None:
    """Leave what this worker has imported out of later garbage collections: it is most of what they would visit."""
    gc.freeze()


def tell_excess(chunk_id: int, excess: Mapping[int, int]) -> None:
    """Record in the GCS the bytes that simulations of a chunk use beyond their limit; a `TellExcess`."""
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

    if excess:
        _internal_kv_put(_excess_key(chunk_id), json.dumps(sorted(excess.items())), True, namespace=NAMESPACE)
    else:
        _internal_kv_del(_excess_key(chunk_id), namespace=NAMESPACE)


def excess_of(chunk_id: int) -> tuple[tuple[int, int], ...]:
    """Take the last such record of a chunk whose node is gone."""
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get

    found = _internal_kv_get(_excess_key(chunk_id), namespace=NAMESPACE)
    if not found:
        return ()
    _internal_kv_del(_excess_key(chunk_id), namespace=NAMESPACE)
    return tuple((int(position), int(used_bytes)) for position, used_bytes in json.loads(found))


def _excess_key(chunk_id: int) -> str:
    """Return a key that is the same in the driver and in its workers, and differs from every other driver's."""
    import ray

    return f"excess:{ray.get_runtime_context().get_job_id()}:{chunk_id}"
