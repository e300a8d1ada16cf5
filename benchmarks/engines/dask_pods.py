"""Starts a Dask as the incident report has it: a scheduler, and `dask worker` in every pod.

Owns processes, threads, limits and configuration of a Dask; how simulations are submitted is `dask`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cgroups import entering
from benchmarks.engines.base import Site, free_port, process
from benchmarks.scenarios import Case, Layout

DASK = Path(sys.executable).with_name("dask")
ALLOWED_FAILURES = "3"


@dataclass(frozen=True)
class DaskPods:
    """How a Dask is set up: processes and threads of a pod, and configuration by Dask's names."""

    processes: Callable[[Case, Layout], int] = lambda _, layout: layout.slots
    threads: int = 1
    config: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def __call__(self, site: Site) -> Iterator[str]:
        """Start it, and give the scheduler's address."""
        address = f"tcp://127.0.0.1:{free_port()}"
        config = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": ALLOWED_FAILURES, **self.config}
        environment = {**site.environment, **config}
        scheduler = [str(DASK), "scheduler", "--host", address.rpartition(":")[0], "--no-dashboard", "--no-show"]
        scheduler += ["--port", address.rpartition(":")[2]]
        log = site.folder / "head.log"
        with process(scheduler, environment, log, entering(site.counting) if site.counting else ()):
            for pod in site.pods:
                pod.start(self._worker(site, address), environment)
            yield address

    def _worker(self, site: Site, address: str) -> list[str]:
        n = self.processes(site.case, site.layout)
        limit = str(site.layout.pod_bytes // n) if site.layout.pod_bytes else "0"
        command = [str(DASK), "worker", address, "--nworkers", str(n), "--nthreads", str(self.threads)]
        return [*command, "--memory-limit", limit, "--no-dashboard", "--resources", "aggregation=1"]
