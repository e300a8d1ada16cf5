"""How a model of which nothing is known is tried: one simulation before all others, then one of the probes twice.

Owns when the trial begins and ends. What a failure of the first one means is `guards.FailureGuard`'s to say.
"""

from __future__ import annotations

from modelops_ray.core.guards import Counters
from modelops_ray.core.retry import FailurePolicy
from modelops_ray.core.scheduler import Dispatch


class Trial:
    """Where more simulations wait than have to fail alike to end a run, they wait for the first one, for a time.

    It delays a run by one simulation, and saves all others where the model cannot work. A model that has completed a
    simulation, in this run (`is_known`) or an earlier one, is none to try; nor is one where the user says how many may
    fail.
    """

    def __init__(self, dispatch: Dispatch, failures: FailurePolicy, counters: Counters, *, is_known: bool) -> None:
        """Begin before any simulation is known; the others are the run's own and are changed."""
        self._dispatch, self._failures, self._counters = dispatch, failures, counters
        policy = dispatch.policy
        is_known = is_known or dispatch.memory.n_samples > 0 or dispatch.mean_seconds is not None
        self._is_over = is_known or policy.max_failures is not None or not policy.trial_wait_s
        self._began_s: float | None = None

    def update(self, now_s: float) -> None:
        """Have others wait while one is tried; once it has completed, the next one is to run twice."""
        if self._is_over or not (self._dispatch.pending.n or self._began_s is not None):
            return
        if self._began_s is None:
            self._is_over = self._dispatch.pending.n <= self._dispatch.policy.alike_failures
            if not self._is_over:
                self._began_s = now_s
                self._dispatch.admission.is_trial = True
                self._failures.on_trial()
            return
        n_completed = self._counters.completed
        waited_s = now_s - self._began_s
        if n_completed or self._counters.failed or waited_s >= self._dispatch.policy.trial_wait_s:
            self._is_over = True
            self._dispatch.admission.is_trial = False
            self._dispatch.admission.has_twin = n_completed > 0
