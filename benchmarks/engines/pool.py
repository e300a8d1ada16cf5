"""`pool`: processes that have imported the model and fetch simulations: the practical limit of the machine.

As many per pod as fit by arithmetic. It keeps nothing, survives nothing, and has to be told what a simulation needs.
`python -m benchmarks.engines.pool SOCKET PROCESSES MODEL` is the main process of a pod.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any, cast

from benchmarks.calling import call_all, load, next_size, value_of
from benchmarks.engines.base import Engine, Site, python
from benchmarks.job import Job, Task
from benchmarks.scenarios import Case, Layout, at_once


def processes(case: Case, layout: Layout) -> int:
    """How many processes a pod gets."""
    if layout.pod_bytes is None:
        return layout.slots
    return at_once(layout, case.need_bytes) // layout.pods


@contextmanager
def start(site: Site) -> Iterator[str]:
    """Start the pods; the client they connect to comes later."""
    address = str(site.folder / "pool")
    n = processes(site.case, site.layout)
    for pod in site.pods:
        command = python("-m", "benchmarks.engines.pool", address, str(n), site.case.model)
        pod.start(command, site.environment)
    yield address


def work(job: Job) -> None:
    """Give every process two chunks, and another whenever it has done one."""
    assert job.address is not None
    n = processes(job.case, job.layout) * job.layout.pods
    with Listener(job.address, "AF_UNIX", backlog=n) as listener:
        workers = [listener.accept() for _ in range(n)]
        for worker in workers:
            worker.recv()
        job.ready()
        _serve(job, workers)
        # Before the workers see that it is over and end, which their pod, and whatever is in it, does not survive.
        job.end()


def _serve(job: Job, workers: list[Connection[Any, Any]]) -> None:
    left = iter(enumerate(job.tasks))
    size = dict.fromkeys(map(id, workers), 1)
    for _ in range(2):
        for worker in workers:
            _give(worker, left, 1)
    while len(job.values) < job.case.simulations:
        for ready in wait(workers):
            worker = cast("Connection[Any, Any]", ready)
            results, seconds = worker.recv()
            for position, result in results:
                job.finish(position, value_of(result))
            left_over = job.case.simulations - len(job.values)
            size[id(worker)] = next_size(size[id(worker)], seconds, left_over, len(workers))
            _give(worker, left, size[id(worker)])


def _give(worker: Connection[Any, Any], left: Iterator[tuple[int, Task]], n: int) -> None:
    chunk = list(islice(left, n))
    if chunk:
        worker.send(chunk)


def serve(address: str, model: str) -> None:
    """Be one process of the pool."""
    load(model)
    with _connected(address) as server:
        server.send("ready")
        while True:
            server.send(call_all(model, server.recv()))


def _connected(address: str) -> Connection[Any, Any]:
    while True:
        try:
            return Client(address, "AF_UNIX")
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.05)


ENGINES = (Engine("pool", "a multiprocessing pool that has imported the model: the practical limit", start, work),)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=serve, args=(sys.argv[1], sys.argv[3])) for _ in range(int(sys.argv[2]))]
    for one in started:
        one.start()
    for one in started:
        one.join()
