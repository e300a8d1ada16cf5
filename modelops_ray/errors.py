"""The exceptions of modelops_ray; the failure of a simulation is a row of the results, never one of these.

ModelopsRayError
├── UsageError          a knob or an option is wrong                    (exit 2)
├── StudyError          the study file is wrong                         (names file and place)
├── ModelError          the model cannot be loaded or called            (before anything is submitted)
├── ResultsError        the run directory contradicts itself            (names the file)
│   └── RunInUseError   another session writes this run directory       (names host and process)
├── ManifestError       a Kubernetes manifest cannot be read        (names file and place)
├── StorageError        reading or writing the run directory failed     (full disk, permissions)
├── BackendError        Ray itself failed, or is not there
├── NodeError           a node lacks what it takes to run simulations   (the driver repeats the chunk)
├── PayloadLostError    the outputs of a finished chunk are gone        (the driver repeats the chunk)
└── NoProgressError     the run cannot go on                            (names what it waits for)

Every message is one line that names the thing, the place and the remedy. `one_line` is for what others say in it.
"""

from __future__ import annotations

__all__ = [
    "BackendError", "ManifestError", "ModelError", "ModelopsRayError", "NoProgressError", "NodeError",
    "PayloadLostError", "ResultsError", "RunInUseError", "StorageError", "StudyError", "UsageError",
]  # fmt: skip

NO_WORKING_FOLDER = "the working directory has been removed; change to one that is there, as by `cd`"


def one_line(text: object, most_chars: int = 2000) -> str:
    """Write text, or what an exception says, without line breaks, its end cut off where it is longer."""
    line = " ".join(str(text).split())
    return line if len(line) <= most_chars else line[: most_chars - 1] + "…"


def first_line(error: BaseException) -> str:
    """Return the first line of a message that says something, cut to 300 characters; else the error's class."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:300] for line in lines if line), type(error).__name__)


def last_line(text: str) -> str:
    """Return the last line of a text that says something, "" if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class ModelopsRayError(Exception):
    """Base of everything this package raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(ModelopsRayError):
    """A value of an option or an argument is out of range or contradicts another one."""

    exit_code = 2


class StudyError(ModelopsRayError):
    """A study is not what the format demands."""


class ModelError(ModelopsRayError):
    """A model cannot be found, imported or called with (params, seed[, scenario])."""


class ResultsError(ModelopsRayError):
    """A run directory is damaged, of another study or model, or of a newer format."""


class RunInUseError(ResultsError):
    """Another session holds the run directory."""


class ManifestError(ModelopsRayError):
    """A manifest or a kustomization cannot be read, or does not fit together; `rule` names what it breaks."""

    def __init__(self, message: str, rule: str = "unreadable") -> None:
        super().__init__(message)
        self.rule = rule


class StorageError(ModelopsRayError):
    """An I/O operation on a run directory failed; what was committed before is intact."""


class BackendError(ModelopsRayError):
    """The cluster cannot be reached, started or used."""


class NodeError(ModelopsRayError):
    """A node lacks processes, descriptors or disk for simulations, which others may have."""


class PayloadLostError(ModelopsRayError):
    """The outputs of a finished chunk were lost before they were committed."""


class NoProgressError(ModelopsRayError):
    """Nothing can move any more; the message says what the run waited for."""
