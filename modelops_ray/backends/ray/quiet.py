"""Keeps Ray from doing more than asked of a process that connects: notices, usage reports, shipping of folders.

Owns the environment variables of Ray that this program sets, and what it is told of the program. Connects nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The second object of a failed task is dropped unread on purpose: its error has been read from the first.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}
UV_HOOK = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
IN_A_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Prints every death of a worker to stdout, also without `log_to_driver`; they arrive as exceptions as well.
LEVEL = "RAY_BACKEND_LOG_LEVEL"
ENTRYPOINT = "get_entrypoint_name"
ON_SIGTERM = "set_sigterm_handler"
LISTENER = "listen_error_messages"


@contextmanager
def calm_ray() -> Iterator[None]:
    """Connect to Ray inside of this; what the user has set in the environment stays.

    Under `uv run` Ray would copy the working folder to every node and start each worker by `uv run` again. Unless the
    user asks for that, or this is a job that was submitted with a folder, workers run what is installed.
    A handler of SIGTERM that this process has stays.
    """
    from ray._private import ray_constants, utils, worker

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    leave_hook = UV_HOOK in os.environ or IN_A_RAY_JOB in os.environ
    is_free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            replaced(ray_constants, {} if leave_hook else {UV_HOOK: False}),
            replaced(worker, {LISTENER: _no_listener}),
            replaced(utils, {ENTRYPOINT: _entrypoint} | ({} if is_free else {ON_SIGTERM: _no_handler})),
            _in_a_folder_that_ray_can_name(),
        ):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Ray's libraries print on stderr to themselves: 20 lines where one says it, and an exception comes too.

    A user who sets the level of Ray's messages wants to see them.
    """
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        before = os.dup(2)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        before = -1  # it is closed
    if before < 0 or LEVEL in os.environ:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def _in_a_folder_that_ray_can_name() -> Iterator[None]:
    """Be elsewhere for a while if the working folder's path is not UTF-8: Ray keeps it as text."""
    if _is_utf8(os.getcwd()):  # noqa: PTH109 (a text is wanted)
        yield
        return
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/")
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def _is_utf8(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        text.encode()
        return True
    return False


_OURS = str(Path(__file__).parents[2])


class _WhereOursIs(list[str]):
    """Folders for workers to search first; takes in none but that of this package."""

    def extend(self, folders: Iterable[str]) -> None:
        """Add folders."""
        super().extend(folder for folder in folders if folder == _OURS)


def job_config() -> Any:
    """Return the `JobConfig` of a driver whose workers find nothing of the model's by themselves.

    Ray would have them look into the script's folder and the working directory first, so that a model's helper called
    `statistics.py` would be taken for Python's by Ray's worker and by ours.
    """
    from ray.job_config import JobConfig

    config = JobConfig()
    config._py_driver_sys_path = _WhereOursIs()  # noqa: SLF001 (there is no option for it)
    return config


def _entrypoint() -> str:
    """Name the command that runs, for Ray's list of jobs."""
    return " ".join(sys.argv).encode(errors="backslashreplace").decode()


def _no_handler(_handler: object) -> None:
    """Stand in for replacing the handler of SIGTERM by one that ends this process as it stands."""


def _no_listener(_worker: object, _stopped: object) -> None:
    """Stand in for the thread that prints."""


@contextmanager
def replaced(owner: object, values: Mapping[str, object]) -> Iterator[None]:
    """Give attributes of a module or a class other values for a while; names it does not have are left alone."""
    before = {name: vars(owner)[name] for name in values if name in vars(owner)}
    for name in before:
        setattr(owner, name, values[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
