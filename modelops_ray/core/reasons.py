"""Why a run ends before everything is done, as values; the sentences are written in `session.reasons`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from modelops_ray.core.report import Failure


@dataclass(frozen=True, slots=True)
class TooManyCpus:
    """No node has the CPUs that one simulation asks for; `most_cpus` are those of the largest."""

    cpus: float
    most_cpus: float


@dataclass(frozen=True, slots=True)
class TooMuchMemory:
    """No node has the memory that one simulation and its worker ask for; `top_bytes` is that of the largest."""

    memory_bytes: int
    base_bytes: int
    top_bytes: int


@dataclass(frozen=True, slots=True)
class KilledInVain:
    """More than half of the last `n_attempts` were killed for memory, although they stayed within their requests."""

    n_attempts: int


@dataclass(frozen=True, slots=True)
class PodsDie:
    """The last `n_pods` that died of memory took more simulations along than were completed meanwhile.

    `sentence` is what is told of the last of them.
    """

    n_pods: int
    sentence: str


@dataclass(frozen=True, slots=True)
class TooManyFailed:
    """As many simulations failed as the user does not allow."""

    n_failed: int


@dataclass(frozen=True, slots=True)
class AllFailAlike:
    """The first `n_failed` simulations failed in one way, that of `first`."""

    n_failed: int
    first: Failure


class Lacking(Enum):
    """What did not happen for too long."""

    FINISH = "finish"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class NoProgress:
    """Nothing finished, or nothing was committed, for `for_s` seconds.

    `request_bytes` are the requests of the tasks that wait or run, ascending; `said` is what the cluster says about it.
    """

    lacking: Lacking
    for_s: float
    n_tasks: int
    request_bytes: tuple[int, ...]
    cpus: float
    n_pending: int
    n_nodes: int
    n_slots: int
    said: tuple[str, ...]


Reason = TooManyCpus | TooMuchMemory | KilledInVain | PodsDie | TooManyFailed | AllFailAlike | NoProgress
