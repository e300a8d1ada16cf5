"""Runs one case with one engine, from nothing to nothing, and says what came of it as a record.

Owns the order: pods, head, workers, client, and the end of all of them; the decision that an engine is stuck; and who
is killed where a scenario asks for losses. Prints nothing.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cgroups import CpuGroup, cpu_cgroup, entering
from benchmarks.engines.base import Engine, NotStartedError, Site, process, python
from benchmarks.job import GO, READY
from benchmarks.ledger import Tally, tally
from benchmarks.pods import SAMPLE_EVERY_S, Pod, make_pods
from benchmarks.records import Outcome, PodRecord, Record, commit, now, place, versions
from benchmarks.scenarios import Case, Layout
from benchmarks.stats import Progress, per_second, thinned

READY_S = 300.0
"""How long an engine may take until its workers are there."""
LOOK_EVERY_S = 0.05
TOUCH = "import numpy as np; np.empty(int(__import__('sys').argv[1]), dtype=np.uint8)[::4096] = 1"
CHECK_S = 180.0
"""How long a client may take after its last result, to read what was kept and to compare it with the answer."""
SEED = 1
WEIGH_EVERY_S = 0.5
PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
MOST_SAMPLES = 300
NANNY_KILLS = re.compile(r"exceeded \d+% memory budget")
MONITOR_KILLS = re.compile(r"Killing (\d+) worker\(s\), kill details")


@dataclass(frozen=True)
class Ended:
    """How a client ended; in seconds since it was let go, and when its workers were there, on the monotonic clock.

    `cpu_s` is the CPU time of all processes by then, before results are checked; None where it is not counted.
    """

    ready_at_s: float
    wall_s: float
    is_stuck: bool
    code: int | None
    losses: int
    held_bytes: int | None
    cpu_s: float | None = None


@dataclass(frozen=True)
class Ran:
    """Everything that is left of a run once nothing of it is running."""

    began_at_s: float
    ended: Ended
    progress: Progress
    facts: dict[str, Any]
    attempts: Tally | None
    pods: Sequence[Pod]
    engine_kills: int
    last_words: str


def measure(engine: Engine, case: Case, run_id: str, repeat: int) -> Record:
    """Run a case with an engine."""
    layout = engine.layout(case)
    return _record(engine, case, layout, _run(engine, case, layout), run_id, repeat)


def _run(engine: Engine, case: Case, layout: Layout) -> Ran:
    with _folder() as folder:
        (folder / "ledger").mkdir()
        (folder / "case").write_bytes(pickle.dumps((case, layout)))
        began_s = time.monotonic()
        with ExitStack() as stack:
            counting = stack.enter_context(cpu_cgroup())
            counted = counting.path if counting else None
            pods = stack.enter_context(make_pods(layout.pods, layout.pod_bytes, folder, counted))
            site = Site(case, layout, folder, pods, counted)
            try:
                address = stack.enter_context(engine.start(site))
            except NotStartedError as error:
                ended = Ended(time.monotonic(), 0.0, is_stuck=False, code=1, losses=0, held_bytes=None)
                (folder / "client.log").write_text(f"{error}\n")
            else:
                ended = _client(engine, site, address)
        # Once nothing of it is running: what a killed worker still does is no part of what came of it.
        return Ran(
            began_s,
            ended,
            _progress(folder),
            _facts(folder),
            tally(folder / "ledger") if case.keeps_ledger else None,
            pods,
            _engine_kills(folder, pods),
            _last_words(folder),
        )


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="mb-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _client(engine: Engine, site: Site, address: str | None) -> Ended:
    """Run the engine's client until it ends or counts as stuck."""
    groups = [site.counting] if site.counting else []
    if site.layout.pod_bytes is None and site.pods[0].group is not None:
        groups.append(site.pods[0].group.path)
    command = python("-m", "benchmarks.client", engine.name, str(site.folder), *([address] if address else []))
    with process(command, site.environment, site.folder / "client.log", entering(*groups)) as client:
        ready_s, is_ready = _ready(client, site)
        began_s = _let_go(site) if is_ready else ready_s
        losses, scales = _Losses(engine, site), _Scales(site)
        ended_file, deadline_s = site.folder / "ended", began_s + site.case.stuck_s * is_ready
        while client.poll() is None and not ended_file.exists() and time.monotonic() < deadline_s:
            losses.look(time.monotonic())
            scales.look(time.monotonic())
            time.sleep(LOOK_EVERY_S)
        wall_s = time.monotonic() - began_s
        cpu_s = CpuGroup(site.counting).cpu_s if site.counting else None
        if ended_file.exists():
            with suppress(subprocess.TimeoutExpired):
                client.wait(CHECK_S)
        is_stuck = client.poll() is None and not ended_file.exists()
        return Ended(ready_s, wall_s, is_stuck, client.poll(), losses.n, scales.held_bytes, cpu_s)


def _ready(client: subprocess.Popen[bytes], site: Site) -> tuple[float, bool]:
    """Wait until the workers are there, or the client has ended or takes too long to find them."""
    ready, deadline_s = site.folder / READY, time.monotonic() + READY_S
    while not ready.exists() and client.poll() is None and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)
    return time.monotonic(), ready.exists()


def _let_go(site: Site) -> float:
    """Touch as much memory as all pods may have, and have the client begin.

    A virtual machine hands memory that was free for some seconds back to its host, and gets it again at a tenth of
    the speed: without this an engine would pay for the time that its workers take to start.
    """
    if site.layout.pod_bytes is not None:
        subprocess.run([sys.executable, "-c", TOUCH, str(site.layout.pods * site.layout.pod_bytes)], check=True)
    (site.folder / GO).touch()
    return time.monotonic()


class _Losses:
    """Kills a worker process every `losing_every_s` seconds, where the scenario asks for it."""

    def __init__(self, engine: Engine, site: Site) -> None:
        self.n = 0
        self._is_worker = engine.is_worker
        self._pods = site.pods
        self._every_s = site.case.losing_every_s
        self._next_s = time.monotonic() + self._every_s
        self._rng = random.Random(SEED)

    def look(self, now_s: float) -> None:
        """Kill one if it is time."""
        if not self._every_s or now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        found = [pid for pod in self._pods for pid in pod.processes() if self._is_worker(_command_line(pid))]
        if found:
            with suppress(ProcessLookupError):
                os.kill(self._rng.choice(found), signal.SIGKILL)
                self.n += 1


class _Scales:
    """Weighs everything in the pods whenever all simulations that wait for each other are there."""

    def __init__(self, site: Site) -> None:
        self._holding, self._together = site.folder / "ledger", site.case.holds
        self._pods = site.pods
        self._next_s = 0.0
        self._looks: list[int] = []

    @property
    def held_bytes(self) -> int | None:
        """The median of the later half: the first simulations are the ones that are measured."""
        last = self._looks[len(self._looks) // 2 :]
        return int(median(last)) if last else None

    def look(self, now_s: float) -> None:
        """Weigh, if they are there."""
        if not self._together or now_s < self._next_s or len(list(self._holding.iterdir())) < self._together:
            return
        self._looks.append(sum(_pss_bytes(pid) for pod in self._pods for pid in pod.processes()))
        self._next_s = now_s + WEIGH_EVERY_S


def _pss_bytes(pid: int) -> int:
    """Read what a process has, its share of what it shares."""
    with suppress(OSError):
        found = PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
        return int(found[1]) * 1024 if found else 0
    return 0


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def _progress(folder: Path) -> Progress:
    path = folder / "progress.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for line in lines:
        with suppress(json.JSONDecodeError):  # the client may have been killed while it wrote
            rows.append(tuple(json.loads(line)))
    return rows


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "outcome.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _engine_kills(folder: Path, pods: Sequence[Pod]) -> int:
    """Count the workers that the engine's own watch killed, in what nannies and raylets wrote."""
    nannies = sum(len(NANNY_KILLS.findall(pod.log.read_text(errors="replace"))) for pod in pods if pod.log.exists())
    raylets = folder.glob("p*/r/session_2*/logs/raylet*.out")
    return nannies + sum(sum(map(int, MONITOR_KILLS.findall(one.read_text(errors="replace")))) for one in set(raylets))


def _last_words(folder: Path) -> str:
    lines = (folder / "client.log").read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def outcome_of(case: Case, ran: Ran) -> tuple[Outcome, str]:
    """Say in one word what came of it, and in a sentence why."""
    done = ran.progress[-1][1] if ran.progress else 0
    if ran.ended.is_stuck and not ran.progress:
        return "failed", f"its workers were not there after {READY_S:.0f} s"
    if ran.ended.is_stuck:
        still_s = ran.ended.wall_s - next((row[0] for row in ran.progress if row[1] == done), 0.0)
        return "stuck", f"{done} of {case.simulations} after {ran.ended.wall_s:.0f} s, none in the last {still_s:.0f} s"
    if ran.ended.code != 0:
        return "failed", ran.last_words or f"the client ended with {ran.ended.code}"
    if "failed" in ran.facts:
        return "failed", f"{ran.facts['failed']} ({ran.facts.get('why_lost', '')})"[:300]
    wrong, missing = ran.facts.get("wrong", 0), ran.facts.get("missing", 0)
    if wrong or missing:
        return "failed", f"of what it said was done, {missing} results are missing and {wrong} wrong"
    if done < case.simulations:
        return "incomplete", str(ran.facts.get("why_lost", ran.facts.get("ending", "")))
    return "complete", ""


def _record(engine: Engine, case: Case, layout: Layout, ran: Ran, run_id: str, repeat: int) -> Record:
    outcome, why = outcome_of(case, ran)
    progress, facts, ended = ran.progress, ran.facts, ran.ended
    attempts = ran.attempts
    return Record(
        run_id=run_id,
        scenario=case.scenario,
        size=case.size,
        point=case.point,
        engine=engine.name,
        repeat=repeat,
        outcome=outcome,
        why=why,
        time=now(),
        commit=commit(),
        versions=versions(),
        place=place(),
        pods=layout.pods,
        pod_bytes=layout.pod_bytes,
        slots=layout.slots,
        seed=SEED,
        simulations=case.simulations,
        done=progress[-1][1] if progress else 0,
        lost=facts.get("lost", progress[-1][3] if progress else 0),
        wrong=facts.get("wrong", 0),
        checked=facts.get("checked", 0),
        limit_s=case.limit_s,
        startup_s=round(ended.ready_at_s - ran.began_at_s, 2),
        wall_s=round(progress[-1][0] if progress and not ended.is_stuck else ended.wall_s, 3),
        cpu_s=None if ended.cpu_s is None else round(ended.cpu_s, 2),
        per_second=per_second(progress),
        efficiency=None,
        first_result_s=next((row[0] for row in progress if row[1]), None),
        first_commit_s=next((row[0] for row in progress if row[2]), None),
        spilled_bytes=facts.pop("spilled_bytes", None),
        driver_peak_bytes=facts.pop("driver_peak_bytes", None),
        driver_own_bytes=facts.pop("driver_own_bytes", None),
        kernel_kills=sum(pod.kernel_kills for pod in ran.pods),
        pod_restarts=sum(pod.restarts for pod in ran.pods),
        engine_kills=ran.engine_kills + facts.pop("killed_by_us", 0),
        losses=ended.losses,
        attempts=attempts.attempts if attempts else None,
        retries=attempts.repeats if attempts else facts.get("retries"),
        wasted_s=attempts.wasted_s if attempts else None,
        pod_records=[_pod(pod) for pod in ran.pods],
        sampled_every_s=_spacing(ran.pods),
        progress=thinned(progress, MOST_SAMPLES),
        facts={key: value for key, value in facts.items() if key not in {"lost", "wrong", "missing", "checked"}},
        held_bytes=ended.held_bytes,
    )


def _pod(pod: Pod) -> PodRecord:
    sizes = [n_bytes for _, n_bytes in pod.samples]
    return PodRecord(
        limit_bytes=pod.limit_bytes,
        peak_bytes=max(sizes, default=0),
        kernel_kills=pod.kernel_kills,
        restarts=pod.restarts,
        memory_mib=[n_bytes // 2**20 for n_bytes in _largest_of_each(sizes)],
    )


def _largest_of_each(sizes: Sequence[int]) -> list[int]:
    """Keep at most `MOST_SAMPLES`, each the largest of those it stands for."""
    step = max(1, -(-len(sizes) // MOST_SAMPLES))
    return [max(sizes[i : i + step]) for i in range(0, len(sizes), step)]


def _spacing(pods: Sequence[Pod]) -> float:
    samples = pods[0].samples
    if len(samples) <= 1:
        return SAMPLE_EVERY_S
    step = max(1, -(-len(samples) // MOST_SAMPLES))
    return round(step * (samples[-1][0] - samples[0][0]) / (len(samples) - 1), 4)
