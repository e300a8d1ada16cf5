"""What an engine is given to run, and how it tells how far it is.

Owns the files through which the client process, which may have to be killed, talks to the one that measures: `ready`
and, in answer, `go`; `progress.jsonl` (seconds, done, committed, lost) and `outcome.json`. Runs nothing.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.models import Params, answer_of
from benchmarks.scenarios import Case, Layout
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

SAY_EVERY_S = 0.1
LOOK_EVERY_S = 0.01
READY, GO = "ready", "go"


class Task(NamedTuple):
    """One simulation."""

    params: Params
    seed: int


@dataclass
class Job:
    """One run of one case by one engine, in its client process; `layout` are the pods that this engine got.

    `read` fetches results that an engine keeps elsewhere than in this process: after the clock and the scales.
    """

    case: Case
    layout: Layout
    folder: Path
    address: str | None
    began_s: float = 0.0
    done: int = 0
    committed: int = 0
    lost: int = 0
    values: dict[int, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    own_bytes: int = 0
    is_over: bool = False
    read: Callable[[], None] | None = None
    _said_s: float = 0.0
    _said_done: int = 0
    _said_committed: int = 0

    @cached_property
    def study(self) -> Study:
        """The study, as ours takes it."""
        axes = dict(self.case.axes)
        if "ledger" in axes:
            axes["ledger"] = [str(self.folder / "ledger")]
        return Study.grid(axes, replicates=self.case.replicates)

    @cached_property
    def tasks(self) -> list[Task]:
        """The same simulations with the same seeds, for the other engines."""
        return [Task(dict(one.params), one.seed) for one in Simulations(self.study)]

    def ready(self) -> None:
        """Workers are there: once the one that measures says so, the clock runs."""
        measuring = os.getppid()
        (self.folder / READY).touch()
        while not (self.folder / GO).exists():
            if os.getppid() != measuring:
                raise SystemExit("the measuring process has gone")
            time.sleep(LOOK_EVERY_S)
        self.began_s = time.monotonic()
        self._write(0.0, force=True)

    def finish(self, position: int, value: float) -> None:
        """Take one result; nothing but this process has it, so it counts as committed as well."""
        self.values[position] = value
        self.at(len(self.values), len(self.values))

    def lose(self, why: str) -> None:
        """Take note of a simulation that the engine has given up."""
        self.lost += 1
        self.facts["why_lost"] = why[:300]
        self.at(self.done, self.committed)

    def at(self, done: int, committed: int) -> None:
        """Tell how far it is."""
        self.done, self.committed = done, committed
        now_s = time.monotonic()
        is_first = self._said_done == 0 < done or self._said_committed == 0 < committed
        if is_first or now_s - self._said_s >= SAY_EVERY_S or done == self.case.simulations:
            self._said_s, self._said_done, self._said_committed = now_s, done, committed
            self._write(now_s - self.began_s)

    def say(self) -> None:
        """Tell how far it is, though it was told a moment ago: nothing more may come."""
        if self.began_s:
            self._write(time.monotonic() - self.began_s, force=True)

    def end(self) -> None:
        """Everything that will be done is done."""
        if self.is_over:
            return
        self.is_over = True
        self.facts.setdefault("driver_peak_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        self.say()
        (self.folder / "ended").touch()
        if self.read is not None:
            self.read()
        self.check()
        outcome = {"lost": self.lost, "driver_own_bytes": self.own_bytes, **self.facts}
        (self.folder / "outcome").write_text(json.dumps(outcome))
        (self.folder / "outcome").rename(self.folder / "outcome.json")

    def check(self) -> None:
        """Count results, and compare them with the answer, after the clock has stopped."""
        answer = answer_of(self.case.model)
        tasks = self.tasks
        checked = [position for position in self.values if position % self.case.check_every == 0]
        wrong = sum(self.values[position] != answer(*tasks[position]) for position in checked)
        self.facts |= {"missing": max(0, self.done - len(self.values)), "checked": len(checked), "wrong": wrong}

    def _write(self, seconds: float, *, force: bool = False) -> None:
        self.own_bytes = max(self.own_bytes, own_bytes())
        row = [round(seconds, 3), self.done, self.committed, self.lost]
        with (self.folder / "progress.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
            if force:
                file.flush()
                os.fsync(file.fileno())


def own_bytes() -> int:
    """Resident memory of this process that it does not share with an object store."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile"))


Work = Callable[[Job], None]
