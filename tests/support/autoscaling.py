"""Ray's own `AutoscalingCluster`, made to live beside other Rays: real autoscaler (v2), real raylets, no cloud.

Owns the configuration, which the wheel of Ray leaves out, free ports, and that only processes of its own are ended:
the original ends every Ray of the machine before it starts and when it stops.
"""

# ruff: noqa: TID253 (imported only by processes that start Ray)

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.cluster_utils import AutoscalingCluster

MIB = 2**20
EMPTY: dict[str, Any] = {
    "auth": {}, "cluster_synced_files": [], "file_mounts": {}, "file_mounts_sync_continuously": False,
    "rsync_exclude": [], "rsync_filter": [], "initialization_commands": [], "setup_commands": [],
    "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}  # fmt: skip


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


class Autoscaling(AutoscalingCluster):
    """A head without CPUs and groups of fake nodes that the autoscaler starts and ends by demand."""

    def __init__(self, folder: Path, groups: Mapping[str, Mapping[str, Any]], *, idle_s: float = 6.0) -> None:
        """Choose a port and write the configuration; `groups` map a name to `resources` and `max_workers`."""
        self._folder = folder
        self._port = free_port()
        self.address = f"{_host()}:{self._port}"
        types = {name: {"node_config": {}, "min_workers": 0, **group} for name, group in groups.items()}
        super().__init__({"CPU": 0}, types, autoscaler_v2=True, idle_timeout_minutes=idle_s / 60)
        self._process: subprocess.Popen[bytes] | None = None

    def _generate_config(self, head_resources, worker_node_types, **changes):
        head = {"resources": dict(head_resources), "node_config": {}, "max_workers": 0}
        return {
            **EMPTY,
            "cluster_name": "fake_multinode",
            "max_workers": sum(group["max_workers"] for group in worker_node_types.values()),
            "provider": {
                "type": "external",
                "module": "support.fake_nodes.MemoryNodeProvider",
                "launch_multiple": True,
                "head_node_id": FAKE_HEAD_NODE_ID,
                "gcs_address": self.address,
            },
            "available_node_types": {**worker_node_types, "ray.head.default": head},
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1000.0,
            "idle_timeout_minutes": changes["idle_timeout_minutes"],
        }

    def start(self, _system_config=None, override_env=None) -> None:
        """Start the head and its autoscaler in a process group of their own."""
        config = self._folder / "autoscaling.json"
        config.write_text(json.dumps(self._config))
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={self._port}",
            "--include-dashboard=false", "--num-cpus=0", f"--object-store-memory={80 * MIB}", f"--memory={64 * MIB}",
            f"--temp-dir={self._folder}", f"--autoscaling-config={config}",
        ]  # fmt: skip
        environ = os.environ | {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_TMPDIR": str(self._folder),
            **(override_env or {}),
        }
        with (self._folder / "head.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)

    def shutdown(self) -> None:
        """End what was started here, and nothing else."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextlib.contextmanager
def autoscaling(folder: Path, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> Iterator[Autoscaling]:
    """An autoscaling cluster for as long as the context lasts."""
    cluster = Autoscaling(folder, groups, **options)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _host() -> str:
    from ray._private.services import get_node_ip_address

    return str(get_node_ip_address())
