"""The seam between the driver and the backends, which run chunks; owns no behaviour."""

from __future__ import annotations

from typing import Protocol

from modelops_ray.core.events import Capacity, Event
from modelops_ray.study.chunk import Chunk, Payload


class Backend(Protocol):
    """Runs chunks somewhere. Used by one thread, except `take`, which the committing thread calls."""

    def capacity(self) -> Capacity:
        """Look at the cluster. Cheap enough for every 5 seconds."""
        ...

    def submit(self, chunk: Chunk) -> None:
        """Start a chunk; never blocks, never raises for what goes wrong with the chunk itself."""
        ...

    def cancel(self, chunk_id: int) -> None:
        """Forget a chunk; no event about it is returned afterwards. An unknown chunk is ignored."""
        ...

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what happened, in chunk order, waiting at most `timeout_s` for the first; [] if nothing did."""
        ...

    def take(self, chunk_id: int) -> Payload:
        """Hand out the payload of a finished chunk, once, and let go of it.

        Raises:
            PayloadLostError: The payload no longer exists.
        """
        ...

    def spilled_bytes(self) -> int:
        """How many bytes of payloads went to disk so far because memory was short."""
        ...

    def close(self) -> None:
        """End everything this backend started; nothing of it survives. May be called twice."""
        ...
