"""What earlier runs of a model taught, in the core's terms, and what a run adds to it.

Owns where profiles are kept, and what the core knows of them from the start. Their format stands in `store.profiles`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from modelops_ray.core.memory import bin_of, edge_of
from modelops_ray.core.state import RunState
from modelops_ray.core.view import Learned
from modelops_ray.errors import StorageError
from modelops_ray.session.request import RunRequest, policy
from modelops_ray.store.profiles import Profile, load_profile, save_profile
from modelops_ray.store.run_store import Written

WHERE_PROFILES_GO = "XDG_CACHE_HOME says where profiles are kept"


class Priors:
    """What is known of the model of one question.

    Attributes:
        profile: What earlier runs measured; empty if there were none, or if this user has no home to keep it in.
    """

    def __init__(self, question: RunRequest) -> None:
        """Read the profile of the model; StorageError if that cannot be read or is damaged."""
        self._question = question
        self._folder = _folder()
        self.profile = _load(self._folder, question.model.digest)
        self._peaks = _bins(self.profile)

    def state(self, n_completed_before: int, attempts_before: Mapping[int, int] | None = None) -> RunState:
        """Begin a run that knows it, of which earlier sessions have kept results, and attempts without one."""
        return RunState(
            policy(self._question, self.profile),
            known_peaks=self._peaks,
            known_seconds=self.profile.seconds_per_simulation,
            n_completed_before=n_completed_before,
            attempts_before=attempts_before,
        )

    def keep(self, learned: Learned, n_completed: int, written: Written) -> None:
        """Add what a run begun by `state` has `learned` from `n_completed` results, and the size of what is `written`.

        StorageError if it cannot be written.
        """
        measured = Counter(learned.peaks)
        measured.subtract(self._peaks)
        peaks = {edge_of(index): count for index, count in measured.items() if count > 0}
        if not peaks or self._folder is None:
            return
        new = Profile(
            model_digest=self._question.model.digest,
            samples=n_completed,
            base_bytes=learned.worker_bytes + learned.child_bytes,
            child_bytes=learned.child_bytes,
            shared_bytes=learned.shared_bytes,
            peaks=peaks,
            seconds=(learned.mean_seconds or 0.0) * n_completed,
            written=written.simulations,
            payload_bytes=written.payload_bytes,
            output_bytes=written.output_bytes,
        )
        save_profile(self._folder, self.profile.merged(new))


def _folder() -> Path | None:
    """`$XDG_CACHE_HOME/modelops-ray/profiles`, or under `~/.cache`; None for a user without a home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(cache) if cache else Path.home() / ".cache") / "modelops-ray" / "profiles"
    except RuntimeError:
        # A container's user may be a number without a name, and so without a home.
        return None


def _load(folder: Path | None, digest: str) -> Profile:
    try:
        return Profile(model_digest=digest) if folder is None else load_profile(folder, digest)
    except StorageError as error:
        raise StorageError(f"{error}; {WHERE_PROFILES_GO}") from error


def _bins(profile: Profile) -> Mapping[int, int]:
    """How many peaks of a profile fall into each bin; a profile with few bins has joined some."""
    counts: Counter[int] = Counter()
    for edge_bytes, count in profile.peaks.items():
        counts[bin_of(edge_bytes)] += count
    return counts
