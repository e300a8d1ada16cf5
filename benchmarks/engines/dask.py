"""Dask as in the incident, with each of the report's proposals, and tuned as well as it can be.

Every proposal is as written there; where that could not have run, or would have changed nothing, `what` of the engine
says what was mended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

from benchmarks.calling import call, call_all, call_with, next_size, value_of
from benchmarks.engines.base import Engine
from benchmarks.engines.dask_pods import DaskPods
from benchmarks.job import Job
from benchmarks.models import MIB
from benchmarks.scenarios import Case, Layout

BATCH = 100
FIRST_BATCH, LARGEST_BATCH = 10, 1000
LOOK_AT_PODS_S = 1.0
OWN_BYTES = 140 * MIB
"""What a Dask worker process has without a simulation."""
JOIN_S = 300

Run = Callable[[Job, Any], None]


def client(job: Job, run: Run, pods: DaskPods) -> None:
    """Connect, wait for all workers, and run."""
    from distributed import Client

    n = pods.processes(job.case, job.layout) * job.layout.pods
    with Client(job.address, timeout=60) as connected:
        connected.wait_for_workers(n, timeout=JOIN_S)
        job.ready()
        run(job, connected)
        job.at(job.done, job.committed)
        job.end()


def submit(job: Job, connected: Any, position: int, function: Callable[..., Any] = call, *more: Any) -> Any:
    """Submit one simulation as the report's job runner does."""
    params, seed = job.tasks[position]
    key = f"job-951bcfcb-p{position // job.case.replicates}-s{seed}-{position}"
    return connected.submit(function, job.case.model, params, seed, *more, pure=False, key=key)


def positions(job: Job) -> range:
    """All simulations."""
    return range(job.case.simulations)


def collect(job: Job, futures: dict[Any, int]) -> None:
    """Take results as they come; what Dask gave up is lost."""
    from distributed import as_completed

    for future, result in as_completed(futures, with_results=True, raise_errors=False):
        take(job, futures.pop(future), future, result)


def take(job: Job, position: int, future: Any, result: Any) -> None:
    """Note one result or loss."""
    if future.status == "finished":
        job.finish(position, value_of(result))
    else:
        job.lose(f"{future.status}: {result!r}")


def submit_all(job: Job, connected: Any) -> None:
    """Submit everything at once."""
    collect(job, {submit(job, connected, i): i for i in positions(job)})


def batches(job: Job, connected: Any) -> None:
    """Submit 100, take all of them, and so on; a result that is an error ends the job, as written."""
    from distributed import as_completed

    for start in range(0, job.case.simulations, BATCH):
        futures = {submit(job, connected, i): i for i in positions(job)[start : start + BATCH]}
        for future in as_completed(futures):
            if future.status != "finished":
                job.lose(f"{future.status}: {future.exception()!r}")
                job.facts["failed"] = "result() of a simulation that Dask gave up ends the job"
                return
            job.finish(futures[future], value_of(future.result()))


def semaphore(job: Job, connected: Any) -> None:
    """Let as many run as the workers' memory holds by what one needs."""
    from distributed import Semaphore

    workers = connected.scheduler_info(n_workers=-1)["workers"].values()
    total_bytes = sum(one["memory_limit"] for one in workers)
    n = max(1, int(total_bytes / job.case.need_bytes)) if total_bytes and job.case.need_bytes else len(workers)
    leases = Semaphore(max_leases=n, name="simulations")
    collect(job, {submit(job, connected, i, call_with, leases): i for i in positions(job)})


def abort(job: Job, connected: Any) -> None:
    """Submit everything at once, and stop as soon as the kernel has killed in a pod."""
    is_over = threading.Event()
    futures = {submit(job, connected, i): i for i in positions(job)}
    killed: list[str] = []

    def look() -> None:
        while not is_over.wait(LOOK_AT_PODS_S):
            if any(job.folder.glob("p*/oom_killed")):
                killed.append("a pod was OOM-killed")
                connected.cancel(list(futures), force=True)
                return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    from distributed import as_completed

    for future, result in as_completed(dict(futures), with_results=True, raise_errors=False):
        if killed:
            job.facts["failed"] = killed[0]
            break
        take(job, futures[future], future, result)
    is_over.set()
    looking.join()


def progressive(job: Job, connected: Any) -> None:
    """Submit 10, then twice as many after every success, up to 1000; half as many after a failure, and not below 2."""
    from distributed import as_completed

    left, size, tries = list(positions(job)), FIRST_BATCH, 0
    while left:
        batch, left = left[:size], left[size:]
        tries += 1
        futures = {_again(job, connected, i, tries): i for i in batch}
        failed = []
        for future in as_completed(futures):
            if future.status == "finished":
                job.finish(futures[future], value_of(future.result()))
            else:
                failed.append(futures[future])
                job.facts["why_lost"] = repr(future.exception())[:300]
        if not failed:
            size = min(2 * size, LARGEST_BATCH)
            continue
        size, left = size // 2, failed + left
        if size == 1:
            job.facts["failed"] = "a batch failed, and half of it would be one simulation"
            return


def _again(job: Job, connected: Any, position: int, tries: int) -> Any:
    params, seed = job.tasks[position]
    return connected.submit(call, job.case.model, params, seed, pure=False, key=f"batch-{tries}-{position}")


def window(job: Job, connected: Any) -> None:
    """Keep twice as many tasks submitted as there are processes; short simulations share one, as the pool's do."""
    from distributed import as_completed

    n_workers = sum(one["nthreads"] for one in connected.scheduler_info(n_workers=-1)["workers"].values())
    left = iter(enumerate(job.tasks))
    chunks: dict[Any, list[tuple[int, Any]]] = {}

    def give(size: int) -> list[Any]:
        chunk = list(islice(left, size))
        if not chunk:
            return []
        future = connected.submit(call_all, job.case.model, chunk, pure=False, key=f"chunk-{chunk[0][0]}")
        chunks[future] = chunk
        return [future]

    coming = as_completed([one for _ in range(2 * n_workers) for one in give(1)], with_results=True, raise_errors=False)
    for future, result in coming:
        chunk = chunks.pop(future)
        size = _take_all(job, chunk, future, result, n_workers)
        for another in give(size):
            coming.add(another)


def _take_all(job: Job, chunk: list[tuple[int, Any]], future: Any, result: Any, n_workers: int) -> int:
    """Note the results or losses of a chunk, and say how large the next one should be."""
    if future.status != "finished":
        for _ in chunk:
            job.lose(f"{future.status}: {result!r}")
        return 1
    results, seconds = result
    for position, returned in results:
        job.finish(position, value_of(returned))
    return next_size(len(chunk), seconds, job.case.simulations - job.done, n_workers)


def that_fit(case: Case, layout: Layout) -> int:
    """As many processes as fit into a pod, if one knows what the largest simulation needs."""
    if layout.pod_bytes is None or not case.need_bytes:
        return layout.slots
    each_bytes = int(1.05 * case.need_bytes) + OWN_BYTES
    return max(1, min(layout.slots, int(0.93 * layout.pod_bytes) // each_bytes))


def twice_as_large(case: Case) -> Layout:
    """Pods of twice the memory, as many as before: twice the hardware."""
    layout = case.layout
    return layout if layout.pod_bytes is None else replace(layout, pod_bytes=2 * layout.pod_bytes)


INCIDENT = DaskPods()
SATURATION = DaskPods(config={"DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0"})
TWO_BY_TWO = DaskPods(processes=lambda _, layout: max(1, layout.slots // 2), threads=2)
# Workers that hold one simulation each need no watch on outputs, and pausing at 80 % would stop them between two.
TUNED = DaskPods(
    processes=that_fit,
    config={
        "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
        "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
        "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "0.94",
        "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.98",
    },
)


def is_worker(command: str) -> bool:
    """Tell a worker process from the nanny that looks after it."""
    return "spawn_main" in command


def _engine(name: str, what: str, run: Run, pods: DaskPods = INCIDENT, **options: Any) -> Engine:
    def work(job: Job) -> None:
        client(job, run, pods)

    return Engine(name, what, pods, work, is_worker=is_worker, **options)


ENGINES = (
    _engine("dask-incident", "Dask as in the incident: everything submitted, 4 processes a pod", submit_all),
    _engine(
        "dask-saturation",
        "worker-saturation 1.0; mended: in the scheduler's configuration, for a client passes none on",
        submit_all,
        SATURATION,
    ),
    _engine("dask-batches", "100 at a time, with as_completed; from 1 on need_sweep is a single batch", batches),
    _engine(
        "dask-semaphore",
        "a semaphore from the workers' memory; mended: held while a simulation runs, for around `submit` it is given "
        "back before anything does, and told the true need in place of 100 MB",
        semaphore,
    ),
    _engine(
        "dask-8gi",
        "pods twice as large; mended: so are the limits of their processes, which the Deployment keeps at 1 GiB",
        submit_all,
        layout=twice_as_large,
    ),
    _engine(
        "dask-2x2",
        "2 processes of 2 threads a pod; mended: each with half of the pod as its limit, not 1 GiB",
        submit_all,
        TWO_BY_TWO,
    ),
    _engine(
        "dask-abort",
        "stop when the kernel has killed in a pod; mended: looks every second, for in a minute these runs are over",
        abort,
    ),
    _engine(
        "dask-progressive",
        "batches from 10 to 1000, halved at a failure; mended: a failure is any error, for Dask raises KilledWorker "
        "and not MemoryError, and what failed is submitted again: `errors='skip'` would have dropped it unseen",
        progressive,
    ),
    _engine(
        "dask-tuned",
        "told the largest need: as many processes as fit, a window, chunks of short simulations",
        window,
        TUNED,
    ),
)
