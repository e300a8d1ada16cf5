"""Watches whether the GCS of a Ray is there, so that the run ends with a line of its own where it is not.

Ray asks a GCS that has ended again and again for a minute, every call waits as long, and then Ray ends this process
without a word of ours. Owns when to look and when to give up. A GCS that only does not answer counts as there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from modelops_ray.errors import BackendError

LOOK_EVERY_S = 1.0
CONNECT_S = 0.5
COMES_BACK_WITHIN_S = 40.0
"""The head of a cluster may start its GCS again. Ray gives up after 60 s: what finished is to be committed before."""


class GcsWatch:
    """Looks at most once a second; `comes_back` is False for a Ray of our own, whose GCS is started once."""

    def __init__(self, address: str, clock: Callable[[], float], *, comes_back: bool) -> None:
        host, _, port = address.rpartition(":")
        self._where = host.strip("[]"), int(port)
        self._address = address
        self._clock = clock
        self._comes_back = comes_back
        self._patience_s = COMES_BACK_WITHIN_S if comes_back else 0.0
        self._looked_s = -LOOK_EVERY_S
        self._away_since_s: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether no GCS listens at the address, as of the last second."""
        now_s = self._clock()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            if self._listens():
                self._away_since_s = None
            elif self._away_since_s is None:
                self._away_since_s = now_s
        return self._away_since_s is not None

    def require(self) -> None:
        """BackendError if it has been away for longer than it may."""
        if self.is_away and self._away_since_s is not None and self._looked_s - self._away_since_s >= self._patience_s:
            raise BackendError(
                f"Ray failed: its GCS at {self._address} is gone: it ended, or its machine did; "
                "start the same command again once Ray is there"
            )

    def _listens(self) -> bool:
        try:
            with socket.create_connection(self._where, CONNECT_S):
                return True
        except ConnectionRefusedError:
            return False
        except OSError:
            # Of our own Ray, on this machine: too busy to answer, or no descriptor left here. That is not its end.
            return not self._comes_back
