"""`modelops-ray`: the program as a user calls it, on pods it joins or on a Ray of its own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.engines.base import Engine
from benchmarks.engines.raylets import is_ray_worker, join, raylets
from benchmarks.job import Job
from benchmarks.models import MIB

if TYPE_CHECKING:
    from modelops_ray.session.ports import Snapshot


class Watch:
    """Passes on what a session tells."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a sentence."""
        self.notes.append(text)

    def planned(self, expected: object) -> None:
        """Ignore the forecast."""

    def update(self, snapshot: Snapshot) -> None:
        """Take note of how far it is."""
        self.job.at(snapshot.view.completed, snapshot.view.committed)


def work(job: Job) -> None:
    """Run a study."""
    from modelops_ray.api import ask_to_run, run_session
    from modelops_ray.session.run_config import RunConfig

    options: dict[str, Any] = {} if job.address else {"limit_cpus": job.layout.slots}
    if job.address:
        join(job.address, job.layout)
    out = job.folder / "run"
    watch = Watch(job)
    job.ready()
    outcome = run_session(ask_to_run(job.study, job.case.model, RunConfig(out=out, **options)), watch)
    summary = outcome.summary
    job.at(summary.completed, summary.completed)
    job.lost = summary.failed
    job.facts |= {
        "retries": summary.oom_retries + summary.infrastructure_retries,
        "killed_by_us": summary.oom_retries,
        "spilled_bytes": summary.spilled_bytes,
        "driver_peak_bytes": summary.driver_peak_rss_bytes,
        "first_commit_s": summary.seconds_to_first_commit,
        "request_bytes": summary.request_bytes_max,
        "ending": f"{outcome.finish.ending}: {outcome.why}"[:300],
        "notes": [note for note in watch.notes if not note.startswith("Ray ")],
    }
    job.read = lambda: _read(job)


def _read(job: Job) -> None:
    import pyarrow.compute as pc

    import modelops_ray as mr

    run = mr.open_run(job.folder / "run")
    table = run.simulations()
    job.facts["request_mib"] = _counted(table["request_bytes"].to_pylist())
    failed = table.filter(pc.equal(table["status"], "failed")).slice(0, 1).to_pylist()
    if failed:
        one = failed[0]
        job.facts["why_lost"] = f"{one['cause']}: {one['error_type']}: {one['error_message']}"[:300]
    completed = [i for i, status in enumerate(table["status"].to_pylist()) if status == "completed"]
    if completed:
        job.values.update(zip(completed, run.output("result")["value"].to_pylist(), strict=True))


def _counted(sizes: list[int]) -> dict[str, int]:
    """How many simulations were declared with which size, in MiB."""
    found = Counter(size // MIB for size in sizes)
    return {str(mib): n for mib, n in sorted(found.items())}


def is_worker(command: str) -> bool:
    """Tell a Ray worker, or a simulation's own process."""
    return is_ray_worker(command) or "modelops_ray" in command


ENGINES = (Engine("modelops-ray", "this program", raylets, work, is_worker=is_worker),)
