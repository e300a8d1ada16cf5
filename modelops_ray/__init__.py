"""Run simulation studies on Ray: memory measured, learned and declared; bounded in everything; nothing lost.

The public names are below; everything else may change. Importing this package imports none of its heavy parts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modelops_ray.errors import (
    BackendError,
    ModelError,
    ModelopsRayError,
    NoProgressError,
    PayloadLostError,
    ResultsError,
    RunInUseError,
    StorageError,
    StudyError,
    UsageError,
)
from modelops_ray.version import __version__

if TYPE_CHECKING:
    from modelops_ray.api import Run, Submission, open_run, plan, profile, run, submit
    from modelops_ray.session.run_config import RunConfig
    from modelops_ray.study.study import Study

__all__ = [
    "BackendError", "ModelError", "ModelopsRayError", "NoProgressError", "PayloadLostError", "ResultsError", "Run",
    "RunConfig", "RunInUseError", "StorageError", "Study", "StudyError", "Submission", "UsageError", "__version__",
    "open_run", "plan", "profile", "run", "submit",
]  # fmt: skip

_LAZY = {
    "RunConfig": "modelops_ray.session.run_config",
    "Study": "modelops_ray.study.study",
    **dict.fromkeys(("Run", "Submission", "open_run", "plan", "profile", "run", "submit"), "modelops_ray.api"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
