"""Starts a Ray whose head is outside of the pods and takes no simulations, and a raylet in every pod.

Owns sizes and ports. Both Ray engines run on the same cluster; what they do with it is theirs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.cgroups import entering
from benchmarks.engines.base import NotStartedError, Site, free_port, process
from benchmarks.models import MIB
from benchmarks.scenarios import Layout

HEAD_STORE_BYTES = 512 * MIB
SYSTEM_BYTES = 300 * MIB
JOIN_S = 60.0
# Ray starts as many workers at a time as the machine has CPUs. A pod sees those of its host, and has fewer of its own
# to run simulations with; here several pods share a machine that may have fewer than one of them.
RAY = """
import multiprocessing, sys
multiprocessing.cpu_count = lambda: {slots}
from ray.scripts.scripts import main
sys.argv[0] = "ray"
main()
"""
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}


def node_memory_bytes(pod_bytes: int, store_bytes: int) -> int:
    """What a pod may declare to Ray: what its limit leaves beside the object store, Ray's own processes and a buffer.

    Ray's processes take 250 to 300 MiB of a pod that runs nothing, as measured here; its monitor acts when less than a
    twentieth is left.
    """
    return pod_bytes - store_bytes - SYSTEM_BYTES - pod_bytes // 20


@contextmanager
def raylets(site: Site) -> Iterator[str | None]:
    """Start the cluster and give the address of its GCS; None without pods: the client starts one."""
    if site.layout.pod_bytes is None:
        yield None
        return
    address = f"127.0.0.1:{free_port()}"
    environment = {**site.environment, **ENVIRONMENT}
    entering_counting = entering(site.counting) if site.counting else ()
    with ExitStack() as stack:
        head = _command(site, "--head", f"--port={address.rpartition(':')[2]}", f"--temp-dir={site.folder}/r")
        head += ["--num-cpus=0", "--include-dashboard=false", f"--object-store-memory={HEAD_STORE_BYTES}"]
        stack.enter_context(process(head, environment, site.folder / "head.log", entering_counting))
        _wait_until_started(site.folder / "head.log")
        for pod in site.pods:
            # Raylets of one machine share a folder and race for sockets in it; pods do not.
            command = _command(site, f"--address={address}", *_sizes(site))
            pod.start(command, environment, private=site.folder / "r")
            if pod.group is None:
                _wait_until_started(pod.log)
        yield address


def _command(site: Site, *options: str) -> list[str]:
    """Ports are given by the kernel: the defaults are for one node per machine."""
    ports = [f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"]
    always = ["--block", "--node-ip-address=127.0.0.1", "--num-gpus=0", "--disable-usage-stats"]
    ray = [sys.executable, "-c", RAY.format(slots=site.layout.slots), "start"]
    return [*ray, *always, *ports, "--include-log-monitor=false", *options]


def _sizes(site: Site) -> list[str]:
    layout, store_bytes = site.layout, site.case.object_store_bytes
    assert layout.pod_bytes is not None
    return [
        f"--num-cpus={layout.slots}",
        f"--memory={node_memory_bytes(layout.pod_bytes, store_bytes)}",
        f"--object-store-memory={store_bytes}",
    ]


def is_ray_worker(command: str) -> bool:
    """Tell a Ray worker from the agents of a raylet, which it does not survive."""
    return command.startswith("ray::") and "Agent" not in command


def join(address: str, layout: Layout) -> None:
    """Connect this process, and wait until all pods are there."""
    import ray

    ray.init(address=address, log_to_driver=False, configure_logging=False)
    deadline_s = time.monotonic() + JOIN_S
    while sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes()) < layout.pods:
        assert time.monotonic() < deadline_s, "the pods did not join"
        time.sleep(0.1)


def _wait_until_started(log: Path) -> None:
    """Wait for the whole head: a raylet that finds only its GCS gives up after half a minute."""
    deadline_s = time.monotonic() + JOIN_S
    while not log.exists() or b"Ray runtime started" not in log.read_bytes():
        if time.monotonic() > deadline_s:
            raise NotStartedError(f"Ray had not started after {JOIN_S:.0f} s")
        time.sleep(0.1)
