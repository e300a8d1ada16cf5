"""Starts a Ray of our own on this machine, sized by what is free now, and removes every trace of it.

Owns the sizing, the private folder and the environment of that Ray. Does not know about chunks.
"""

from __future__ import annotations

import fcntl
import functools
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from modelops_ray.backends.calm import calm_ray, replaced
from modelops_ray.backends.leftovers import end_processes_writing
from modelops_ray.backends.ray_errors import first_line
from modelops_ray.config import format_size
from modelops_ray.errors import BackendError
from modelops_ray.machine import available_memory_bytes, usable_cpus

MIB = 2**20

# What an embedded Ray owns besides its workers, measured with Ray 2.60 on Python 3.11 as anonymous memory after 2,000
# tasks: GCS 33, raylet 10, dashboard agent 89, runtime environment agent 46 MiB. To that: 140 MiB for the pages of the
# programs themselves, without which everything crawls, and 64 MiB that outputs waiting to be committed take here.
RAY_BYTES = (180 + 140 + 64) * MIB
# An idle worker owns 65 MiB (RSS 131), and Ray keeps one per CPU.
IDLE_WORKER_BYTES = 65 * MIB
# Ray's own minimum is 75 MiB.
OBJECT_STORE_BYTES = (80 * MIB, 2048 * MIB)
SMALLEST_BYTES = 64 * MIB

# Nobody looks at the dashboard of a Ray that lives as long as one command, no autoscaler has anything to scale, and
# nobody reads the workers' logs: without the three a start takes 5 s instead of 11 s and a stop 0.4 s instead of 1.4 s
# on two cores. Names that a newer Ray does not have are left alone: it only starts slower.
UNNEEDED = ("start_api_server", "start_monitor", "start_log_monitor")

POPEN = "ConsolePopen"
RAY_PARAMS = "RayParams"

# No other folder of ours may begin like it: the owners of those hold no lock, and would be taken for dead.
FOLDER_PREFIX = "modelops-own-"
# A socket's path must stay below 108 bytes, and Ray adds about 65 to its folder.
LONGEST_FOLDER = 40


@dataclass(frozen=True, slots=True)
class Sizes:
    """What an embedded Ray is started with; `memory_bytes` is what tasks may declare in total."""

    cpus: int
    memory_bytes: int
    object_store_bytes: int


def sizes(available_bytes: int, cpus: int, limit_bytes: int | None = None) -> Sizes:
    """Divide what is available between Ray's own processes, its object store and the tasks.

    Raises:
        BackendError: Too little is left for any task.
    """
    total_bytes = min(available_bytes, limit_bytes or available_bytes)
    smallest, largest = OBJECT_STORE_BYTES
    store_bytes = min(max(total_bytes // 20, smallest), largest)
    memory_bytes = total_bytes - RAY_BYTES - cpus * IDLE_WORKER_BYTES - store_bytes
    if memory_bytes < SMALLEST_BYTES:
        need_bytes = total_bytes - memory_bytes + SMALLEST_BYTES
        raise BackendError(
            f"{format_size(total_bytes)} of memory are too little for Ray with {cpus} CPUs, which needs "
            f"{format_size(need_bytes)}; free memory, raise --limit-memory, or lower --limit-cpus"
        )
    return Sizes(cpus, memory_bytes, store_bytes)


@contextmanager
def embedded_ray(limit_memory_bytes: int | None = None, limit_cpus: int | None = None) -> Iterator[Sizes]:
    """Run a Ray of our own for as long as the context lasts; nothing of it is left afterwards.

    Raises:
        BackendError: There is too little memory, or Ray does not start.
    """
    import ray

    chosen = sizes(available_memory_bytes(), limit_cpus or usable_cpus(), limit_memory_bytes)
    with _private_folder() as folder:
        _start(chosen, folder)
        try:
            yield chosen
        finally:
            ray.shutdown()


def _start(chosen: Sizes, folder: Path) -> None:
    import ray

    _set_token()
    spill, sessions = folder / "spill", folder / "ray"
    spill.mkdir()
    with calm_ray(), _lean_node():
        try:
            ray.init(
                address="local",
                num_cpus=chosen.cpus,
                num_gpus=0,
                object_store_memory=chosen.object_store_bytes,
                object_spilling_directory=str(spill),
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _memory=chosen.memory_bytes,
                _temp_dir=str(sessions),
            )
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            ray.shutdown()
            raise BackendError(f"Ray does not start on this machine: {first_line(error)}") from error


def _set_token() -> None:
    """Let only this user's processes talk to this Ray.

    Ray would write a token to the home directory, which may be read-only; one in the environment leaves nothing behind.
    Ray caches it, so it stays for later ones as well.
    """
    tokens = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(os.environ.get(name) for name in tokens) and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _lean_node() -> Iterator[None]:
    """Start only what is needed, in process groups apart: a signal to ours must find Ray alive, or nothing can commit.

    Ray blocks Ctrl-C in its processes by itself, and not the SIGTERM that a supervisor sends to a whole group.
    """
    from ray._private import parameter, services
    from ray._private.node import Node

    # The port it would take by default may be another Ray's, and it would wait 3.4 s for that to end.
    any_port = {RAY_PARAMS: functools.partial(vars(parameter)[RAY_PARAMS], dashboard_agent_listen_port=0)}
    apart = {POPEN: functools.partial(vars(services).get(POPEN, subprocess.Popen), process_group=0)}
    with (
        replaced(Node, dict.fromkeys(UNNEEDED, _start_nothing)),
        replaced(services, apart),
        replaced(parameter, any_port),
    ):
        yield


def _start_nothing(_node: object, **_options: object) -> None:
    """Stand in for the start of a process that is not needed."""


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder for sessions, sockets, logs and spilled objects that only this user can read, and remove it.

    Its lock is held as long as this process lives, so that what a killed one left can be told apart and removed.
    """
    base = _base_folder()
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
    with _lock_path(folder).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _base_folder() -> Path:
    base = Path(tempfile.gettempdir())
    return base if len(os.fsencode(base)) + len(FOLDER_PREFIX) + 8 <= LONGEST_FOLDER else Path("/tmp")  # noqa: S108


def _lock_path(folder: Path) -> Path:
    return folder / "lock"


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of processes of this user that were killed before they could, and what still runs in them."""
    for folder in base.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError), _lock_path(folder).open() as lock:
            if folder.stat().st_uid == os.getuid() and _is_free(lock):
                end_processes_writing(folder.resolve())
                shutil.rmtree(folder, ignore_errors=True)


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
