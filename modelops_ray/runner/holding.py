"""How long a chunk may go on while what it has finished waits for its end; pure.

A simulation counts once it is committed, and is committed only after the chunk it ran in has ended. Time is given by
the caller, in seconds on one clock.
"""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP_S = 30.0


@dataclass(slots=True)
class Holding:
    """When the first simulation of a chunk ended, and what another one takes at least.

    `most_s` is how long a finished simulation may wait for the last one of its chunk. What the first one takes says
    little of others, as it may be a compilation that they share, unless it is more than `WARM_UP_S`.
    """

    most_s: float
    _first_end_s: float | None = None
    _least_s: float | None = None

    def ended(self, now_s: float, seconds: float) -> None:
        """Take note of a simulation that ended now and took `seconds`."""
        if self._first_end_s is None:
            self._first_end_s = now_s
            if seconds < WARM_UP_S:
                return
        self._least_s = seconds if self._least_s is None else min(self._least_s, seconds)

    def held_s(self, now_s: float) -> float:
        """How long the first simulation that ended has waited; 0 while none has ended."""
        return 0.0 if self._first_end_s is None else now_s - self._first_end_s

    def is_enough(self, now_s: float) -> bool:
        """Whether one more simulation would keep the first one waiting for too long."""
        if self._first_end_s is None:
            return False
        return self.held_s(now_s) + (self._least_s or 0.0) >= self.most_s
