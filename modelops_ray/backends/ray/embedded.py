"""Starts a Ray of our own on this machine, sized by what is free now, and removes every trace of it.

Owns the sizing, the private folder and the environment of that Ray. Does not know about chunks.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_ray.backends.ray.errors import refused
from modelops_ray.backends.ray.leftovers import PROC, end_processes_writing
from modelops_ray.backends.ray.quiet import calm_ray, job_config, replaced
from modelops_ray.config import format_size
from modelops_ray.errors import BackendError
from modelops_ray.runner import private
from modelops_ray.sandbox.machine import available_memory_bytes, usable_cpus

MIB = 2**20

# What an embedded Ray owns besides its workers, measured with Ray 2.60 on Python 3.11 as anonymous memory after 2,000
# tasks: GCS 33, raylet 10, dashboard agent 89, runtime environment agent 46 MiB. To that: 140 MiB for the pages of the
# programs themselves, without which everything is slow, and 64 MiB for outputs that wait in this process for a commit.
RAY_BYTES = (180 + 140 + 64) * MIB
# An idle worker owns 65 MiB (RSS 131), and Ray keeps one per CPU.
IDLE_WORKER_BYTES = 65 * MIB
# Ray's own minimum is 75 MiB.
OBJECT_STORE_BYTES = (80 * MIB, 2048 * MIB)
SMALLEST_BYTES = 64 * MIB

# A Ray that lives as long as one command has no use for a dashboard, an autoscaler or the part that prints the
# workers' logs: without the three a start takes 5 s instead of 11 s and a stop 0.4 s instead of 1.4 s
# on two cores. Names that a newer Ray does not have are left alone: it only starts slower.
UNNEEDED = ("start_api_server", "start_monitor", "start_log_monitor")

POPEN = "ConsolePopen"
RAY_PARAMS = "RayParams"

RAYLET = "raylet"
TITLE = "modelops-ray-own"
_GCS_ADDRESS = re.compile(rb"\0--gcs-address=([0-9A-Za-z.:\[\]-]+)\0")

# No other kind of folder may begin like it: its owner holds no lock, and would be taken for dead.
FOLDER_PREFIX = "modelops-own-"
# A socket's path must stay below 108 bytes, and Ray adds about 65 to its folder.
LONGEST_FOLDER = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Sizes:
    """What an embedded Ray is started with; `memory_bytes` is what tasks may declare in total."""

    cpus: int
    memory_bytes: int
    object_store_bytes: int


def sizes(available_bytes: int, cpus: int, limit_bytes: int | None = None) -> Sizes:
    """Divide what is available between Ray's own processes, its object store and the tasks.

    BackendError if too little is left for any task.
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

    BackendError if there is too little memory, or Ray does not start.
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
    with calm_ray(), _lean_node() as started, refused("Ray does not start on this machine"), ExitStack() as undo:
        undo.callback(_end, started, folder)
        ray.init(
            address="local",
            num_cpus=chosen.cpus,
            num_gpus=0,
            object_store_memory=chosen.object_store_bytes,
            object_spilling_directory=str(spill),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            job_config=job_config(),
            _memory=chosen.memory_bytes,
            _temp_dir=str(sessions),
        )
        undo.pop_all()


def _end(started: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    """End what started before the start failed; it belongs to nothing yet that Ray would shut down."""
    import ray

    ray.shutdown()
    for process in started:
        process.kill()
        process.wait()
    end_processes_writing(folder.resolve())


def _set_token() -> None:
    """Let only this user's processes talk to this Ray.

    Ray would write a token to the home directory, which may be read-only. Ray caches that of the environment: it stays.
    """
    tokens = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(os.environ.get(name) for name in tokens) and not _has_token_at_home():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _has_token_at_home() -> bool:
    with suppress(OSError, RuntimeError):  # no home, or one that cannot be looked into
        return (Path.home() / ".ray" / "auth_token").exists()
    return False


@contextmanager
def _lean_node() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start only what is needed, in process groups apart: a signal to ours must find Ray alive, or nothing can commit.

    Gives the processes as they are started. By itself Ray blocks Ctrl-C there, and not a SIGTERM to the whole group.
    """
    from ray._private import parameter, services
    from ray._private.node import Node

    # The port it would take by default may be another Ray's, and it would wait 3.4 s for that to end.
    any_port = {RAY_PARAMS: functools.partial(vars(parameter)[RAY_PARAMS], dashboard_agent_listen_port=0)}
    started: list[subprocess.Popen[bytes]] = []
    apart = {POPEN: functools.partial(_start_apart, started, vars(services).get(POPEN, subprocess.Popen))}
    lean = dict.fromkeys(UNNEEDED, _start_nothing)
    with replaced(Node, lean), replaced(services, apart), replaced(parameter, any_port):
        yield started


def _start_apart(
    started: list[subprocess.Popen[bytes]],
    popen: Callable[..., subprocess.Popen[bytes]],
    command: Sequence[str],
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a process of Ray in a group of its own; the raylet under a name by which no other program finds it.

    `ray.init("auto")`, `ray status` and this program join any process that is called `raylet`.
    """
    if Path(command[0]).name == RAYLET:
        options["executable"], command = command[0], [TITLE, *command[1:]]
    started.append(popen(command, process_group=0, **options))
    return started[-1]


def embedded_addresses(proc: Path = PROC) -> set[str]:
    """Find the addresses of the embedded Rays of this machine, of all users."""
    return {address for path in proc.glob("[0-9]*/cmdline") if (address := _address_of(path))}


def _address_of(command_line: Path) -> str:
    """Read the address of a raylet whose session is in a folder of ours; empty if it is none."""
    with suppress(OSError):
        arguments = command_line.read_bytes()
        if f"/{FOLDER_PREFIX}".encode() in arguments and (found := _GCS_ADDRESS.search(arguments)):
            return found[1].decode()
    return ""


def _start_nothing(_node: object, **_options: object) -> None:
    """Stand in for the start of a process that is not needed."""


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder for sessions, sockets, logs and spilled objects that only this user can read, and remove it.

    Its lock is held as long as this process lives, so that what a killed one left can be told apart and removed.
    """
    try:
        base = _base_folder()
        _remove_abandoned(base)
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
    except OSError as error:
        reason = error.strerror or error
        raise BackendError(f"no folder for temporary files: {reason}; set TMPDIR to one that works") from error
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _base_folder() -> Path:
    return private.temporary_place(LONGEST_FOLDER - len(FOLDER_PREFIX) - 8)


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of processes of this user that were killed before they could, and what still runs in them.

    Others may put there what is called like ours: what is no folder of this user alone is left as it is.
    """
    with _closing(os.open(base, _FOLDER)) as within, private.folders_in(within, FOLDER_PREFIX) as folders:
        for name, folder in folders:
            _remove_if_abandoned(name, folder, within)


def _remove_if_abandoned(name: str, folder: int, within: int) -> None:
    with suppress(OSError):
        lock = private.open_file("lock", folder)
        if lock is None:
            return
        with _closing(lock):
            if _is_free(lock):
                # By its real path, also where the folder for temporary files is a link.
                end_processes_writing(Path(f"/proc/self/fd/{folder}").readlink())
                shutil.rmtree(name, ignore_errors=True, dir_fd=within)


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
