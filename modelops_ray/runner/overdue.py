"""How long a supervisor waits for its children: to load the model, to run a simulation, to send the rest of a message.

Owns the time limits, and telling which simulations use more than their soft limit. What follows from an end is
`supervisor`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from modelops_ray.errors import ModelError
from modelops_ray.runner.borrowed import Borrowed
from modelops_ray.runner.executor import TellExcess
from modelops_ray.runner.failures import TIMEOUT
from modelops_ray.sandbox.boot import LOADING_WITHIN_S

SILENT_S = 60.0
"""How long a child may be silent in the middle of a message, also without a time limit."""
CHECK_EVERY_S = 1.0


def patience_s(children: Iterable[Borrowed], timeout_s: float) -> float:
    """How many seconds may pass before a child can be late; `timeout_s` is the time limit, 0 for none."""
    if not timeout_s:
        return CHECK_EVERY_S
    deadlines = (child.deadline_s(timeout_s) for child in children if child.is_busy and not child.is_late)
    return min(CHECK_EVERY_S, max(0.0, min(deadlines, default=float("inf")) - time.monotonic()))


def end_overdue(children: Iterable[Borrowed], timeout_s: float, label: str) -> None:
    """Kill the children that are late or silent; ModelError where one has not loaded the model `label` in time."""
    now_s = time.monotonic()
    for child in children:
        if not child.is_ready and now_s - child.asked_s > LOADING_WITHIN_S:
            raise ModelError(f"model {label} was not imported within {LOADING_WITHIN_S:g} s by a process of its own")
        is_timed = timeout_s and child.is_busy and not child.is_late and not child.garbled
        if is_timed and now_s >= child.deadline_s(timeout_s):
            child.is_late = True
            child.kill(TIMEOUT)
        _end_silent(child)


def _end_silent(child: Borrowed) -> None:
    """End one that stopped in the middle of a message, or that is done and left out an answer."""
    if child.garbled or not (child.is_busy or child.incoming.is_partial):
        return
    if time.monotonic() - child.incoming.heard_s > SILENT_S and child.incoming.is_partial:
        child.refuse(f"nothing more came for {SILENT_S:g} s in the middle of a message")
    elif child.is_done and not child.has_sent:
        child.refuse("an answer is missing")


class Excess:
    """Tells which simulations use more than their soft limit: if that costs the node, this process is gone, too."""

    def __init__(self, tell: TellExcess | None, chunk_id: int, limit_bytes: int) -> None:
        self._tell_excess, self._chunk_id, self._limit_bytes = tell, chunk_id, limit_bytes
        self._told: dict[int, int] = {}
        self._read_s = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to update it."""
        return time.monotonic() - self._read_s >= CHECK_EVERY_S

    def update(self, children: Iterable[Borrowed]) -> None:
        """Measure the children, and tell what is not as it was told last."""
        self._read_s = time.monotonic()
        used = ((child.running, child.used_bytes) for child in children)
        self._tell({one.position: n for one, n in used if one is not None and n > self._limit_bytes})

    def end(self) -> None:
        """Tell that no simulation of the chunk uses more any longer."""
        self._tell({})

    def _tell(self, excess: dict[int, int]) -> None:
        if self._tell_excess is not None and excess != self._told:
            self._told = excess
            self._tell_excess(self._chunk_id, excess)
