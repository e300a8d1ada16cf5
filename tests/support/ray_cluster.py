"""A real Ray cluster of several processes on this machine: a head with its dashboard, and nodes of their own sizes.

Owns free ports, folders and the end of every process. Each node has its own folder for temporary files and, where this
user may, its own host name, as machines have.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20
OBJECT_STORE_BYTES = 80 * MIB
PATIENCE_S = 90.0
BIN = Path(sys.executable).parent
_UNSET = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "PYTHONPATH")


@dataclass(slots=True)
class RayCluster:
    """A cluster whose head takes no simulations; `environ` is what its processes have besides the usual."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    gcs_address: str = ""
    address: str = ""
    token: str = ""
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_head(self, *options: str) -> None:
        """Start the head and wait until its dashboard answers."""
        gcs, dashboard, *others = free_ports(6)
        names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
        ports = [f"--{name}={port}" for name, port in zip((*names, "ray-client-server-port"), others, strict=True)]
        self.address = f"http://127.0.0.1:{dashboard}"
        sizes = ("--num-cpus=0", f"--memory={100 * MIB}")
        node = self._start("head", "--head", f"--port={gcs}", f"--dashboard-port={dashboard}", *ports, *sizes, *options)
        self._wait(node, self._answers)
        known = self.folder / "head" / "ray_current_cluster"
        self._wait(node, known.exists)
        self.gcs_address = known.read_text()

    @property
    def is_alive(self) -> bool:
        """Whether everything that was started runs, and the dashboard answers."""
        return all(node.poll() is None for node in self._started) and self._answers()

    def start_node(self, name: str, memory_bytes: int, *options: str) -> subprocess.Popen[bytes]:
        """Start a node of one CPU that may give `memory_bytes` to tasks; returns once it has joined."""
        joining = (f"--address={self.gcs_address}", "--num-cpus=1", f"--memory={memory_bytes}", *options)
        node = self._start(name, *joining, hostname=name)
        self._wait(node, (self.folder / name / "ray_current_cluster").exists)
        return node

    def has_ended(self) -> bool:
        """Whether the head has."""
        return self._started[0].poll() is not None

    def kill_node(self, node: subprocess.Popen[bytes]) -> None:
        """Take a node's raylet away as a lost machine would, and then what is left of the node."""
        for pid in _children(node.pid):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet":
                os.kill(pid, signal.SIGKILL)
        _end(node)

    def close(self) -> None:
        """End everything that was started."""
        for node in reversed(self._started):
            _end(node)
        for pid in _of_folder(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + PATIENCE_S
        while (left := _of_folder(self.folder)) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert not left, f"processes are left: {left}"

    def _start(self, name: str, *options: str, hostname: str = "") -> subprocess.Popen[bytes]:
        place = self.folder / name
        place.mkdir()
        command = [str(BIN / "ray"), "start", "--block", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        command += [f"--temp-dir={place}", *options]
        if hostname and _may_name_hosts():
            script = f'hostname {hostname}; exec "$@"'
            command = ["unshare", "--uts", "sh", "-c", script, "sh", *command]
        environ = {key: value for key, value in os.environ.items() if key not in _UNSET}
        environ |= {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "TMPDIR": str(place),
            "RAY_TMPDIR": str(place),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            # Said, or a token in the home folder would be asked for.
            "RAY_AUTH_MODE": "disabled",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
            **self.environ,
        }
        with (place / "start.log").open("wb") as log:
            node = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
            )
        self._started.append(node)
        return node

    def _wait(self, node: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_ready():
            log = node.args[0] if isinstance(node.args, list) else node.args
            assert node.poll() is None, f"{log} ended with {node.returncode}; see {self.folder}"
            assert time.monotonic() < deadline_s, f"nothing after {PATIENCE_S:g} s; see {self.folder}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.address}/api/version")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextlib.contextmanager
def ray_cluster(folder: Path, *options: str, **environ: str) -> Iterator[RayCluster]:
    """A cluster for as long as the context lasts, of which nothing is left afterwards."""
    cluster = RayCluster(folder, environ, token=environ.get("RAY_AUTH_TOKEN", ""))
    try:
        cluster.start_head(*options)
        yield cluster
    finally:
        cluster.close()


def free_ports(n: int) -> list[int]:
    """Ports on which no process listens, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _may_name_hosts() -> bool:
    return 0 == subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode


def _end(node: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def _of_folder(folder: Path) -> list[int]:
    """The living processes that were started with a folder below this one for temporary files."""
    mark = f"TMPDIR={folder}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_ours = any(entry.startswith(mark) for entry in (place / "environ").read_bytes().split(b"\0"))
            if is_ours and (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found
