"""Plays a schedule on a real Ray: starts the run, does the faults, goes on until the study is complete, checks.

Owns when a fault is over and what must hold; how faults are done is `harm`'s, what the answers are is `answers`'.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.shared_memory import left_behind, shared_files
from support.studies import Command, Ended, Place, wait_until

from modelops_ray.store.commits import read_log
from modelops_ray.store.storage.places import open_folder
from tests.chaos import answers, disks, harm
from tests.chaos.clusters import MendedCluster
from tests.chaos.schedule import Fault, Kind, Schedule

EVERY_S = 0.15
RECOVERS_WITHIN_S = 180.0
GONE_WITHIN_S = 15.0
ENDS_DRIVER = {
    Kind.KILL_RAYLET, Kind.KILL_GCS, Kind.STOP_RAYLET, Kind.STOP_GCS, Kind.FULL_RUN_DISK, Kind.FULL_TMP_DISK,
    Kind.FULL_STORE,
}  # fmt: skip
"""Faults after which a driver may end with 1, with one line."""
INTERRUPTS = {Kind.INTERRUPT, *harm.ENVIRONS}
"""Faults that last until the driver has ended by itself."""
CODES = {Kind.KILL_DRIVER: -9, Kind.CLOCK_AHEAD: -9} | dict.fromkeys(INTERRUPTS, 130)
TOO_BUSY = "The current node timed out during startup"
"""Ray's word where it takes longer than 30 s to start: the machine is busy, and it is to be tried again."""
STAYS_STOPPED_S = 170.0
RUN_MIB, TMP_MIB = 64, 1500
"""Sizes of the disks that are filled up: of the run directory, and of temporary files with what Ray spills."""


@dataclass(slots=True)
class Wound:
    """A fault that was done; it is over once a simulation is committed that was not when it was taken back."""

    fault: Fault
    lift: harm.Lift
    lift_at_s: float
    lifted_at_s: float | None = None
    n_then: int = 0
    took_s: float | None = None

    def __str__(self) -> str:
        """Say what it was and how long it took; "to the end" where its study was complete before that was known."""
        return f"{self.fault.kind} ({'to the end' if self.took_s is None else f'{self.took_s:.1f} s'})"


@dataclass(slots=True)
class Story:
    """What came of a schedule: the faults that were done, and what should not have been."""

    schedule: Schedule
    wounds: list[Wound] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    gone_in_s: float = 0.0


class ViolationError(AssertionError):
    """What must hold does not, and going on makes no sense."""


def play(schedule: Schedule, most_faults: int) -> Story:
    """Play at most that many of its faults."""
    story = Story(schedule)
    shared = shared_files()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        place = Place(folder, Path(tempfile.mkdtemp(prefix="mr", dir="/tmp")))
        stack.callback(shutil.rmtree, place.tmp, ignore_errors=True)
        (folder / "disk").mkdir()
        for kind, disk, mib in (
            (Kind.FULL_RUN_DISK, folder / "disk", RUN_MIB),
            (Kind.FULL_TMP_DISK, place.tmp, TMP_MIB),
        ):
            if kind in schedule.kinds:
                stack.enter_context(disks.small_disk(disk, mib))
        stack.callback(
            lambda: wait_until(lambda: not place.kill_what_is_left(), "the killed to be gone", GONE_WITHIN_S)
        )
        run = _Run(story, place)
        try:
            run.to_the_end(schedule.faults[:most_faults])
        except ViolationError as violation:
            story.violations.append(str(violation))
        finally:
            run.close()
        if not story.violations:
            _all_gone(story, place, shared)
    return story


def _all_gone(story: Story, place: Place, shared: set[Path]) -> None:
    """Nothing that runs or lies about is left soon after the end, but the folder that fork servers are started in."""
    began_s = time.monotonic()
    left: list[str] = []
    while time.monotonic() < began_s + GONE_WITHIN_S:
        files = [path for path in place.tmp.rglob("*") if path.is_file() and path.name != "lock"]
        left = [*place.processes().values(), *map(str, files), *map(str, left_behind(shared))]
        if not left:
            break
        time.sleep(EVERY_S)
    story.gone_in_s = time.monotonic() - began_s
    if left:
        story.violations.append(f"left {GONE_WITHIN_S:g} s after the end: {left}")


@dataclass(frozen=True, slots=True)
class _Replaced:
    """A stopped driver whose run another one goes on with; it is woken once that one has committed, or at `last_s`."""

    command: Command
    n_then: int
    last_s: float


class _Run:
    """One study, one run directory, and as many drivers as it takes."""

    def __init__(self, story: Story, place: Place) -> None:
        schedule = story.schedule
        (place.folder / "model.py").write_text(answers.MODEL)
        sets = answers.parameter_sets(
            schedule.n_sets, has_failures=schedule.has_failures, blob_bytes=schedule.blob_bytes
        )
        self._story = story
        self._place = place
        self._study = place.study(sets, schedule.n_replicates)
        self._out = place.folder / "disk" / "run"
        self._code = 3 if schedule.has_failures else 0
        self._began_s = time.monotonic()
        self._seen: dict[str, bytes] = {}
        self._done: set[int] = set()
        self._replaced: list[_Replaced] = []
        self._cluster = MendedCluster(place.tmp) if schedule.on_cluster else None
        self._always = disks.slow_environ(place.folder / "site") if Kind.SLOW_DISK in schedule.kinds else {}

    def to_the_end(self, faults: tuple[Fault, ...]) -> None:
        """Do the faults as long as there is work left, and have the study completed and compared."""
        self._start()
        since_s = time.monotonic()
        for fault in faults:
            if not fault.at_once:
                since_s = self._until(self._is_recovered)
            self._until(lambda s=since_s + fault.after_s: time.monotonic() >= s)
            since_s = time.monotonic()
            if self._is_complete:
                break
            self._do(fault)
        self._until(lambda: self._is_complete)
        self._make_whole()
        self._story.violations += answers.wrong_with(self._out, self._study)
        ending = json.loads((self._out / "progress.json").read_text())["ending"]
        if ending != "complete":
            self._story.violations.append(f"progress.json says that it ended as {ending}")

    def _do(self, fault: Fault) -> None:
        if self._cluster is not None:
            self._cluster.mend()
        if fault.kind is Kind.CLOCK_BACK:
            self._lift_all()  # what is taken back later would wake the driver that this one stops
        lift = harm.do(fault, self._place, self._command, self._out)
        if lift is None:
            self._tell(f"cannot be done now: {fault.kind}")
            return
        self._tell(f"{fault.kind} at {len(self._done)} committed")
        now_s = time.monotonic()
        lasts_s = math.inf if fault.kind in INTERRUPTS else 0.0 if lift is harm.nothing else fault.lasts_s
        wound = Wound(fault, lift, now_s + lasts_s)
        self._story.wounds.append(wound)
        if fault.kind is Kind.CLOCK_BACK:
            # Its run seems to have been left alone for an hour: the next driver goes on with it, and this one must end.
            self._read_commits()
            wound.lifted_at_s, wound.n_then = now_s, len(self._done)
            self._replaced.append(_Replaced(self._command, len(self._done), now_s + STAYS_STOPPED_S))
            self._start()

    def _until(self, condition: Callable[[], bool]) -> float:
        """Look again and again, and start the driver again where it ended, until something holds; gives the moment."""
        n_done, last_s = -1, 0.0
        while not condition() and not self._is_complete:
            self._look()
            if len(self._done) > n_done:
                n_done, last_s = len(self._done), time.monotonic() + RECOVERS_WITHIN_S
            if time.monotonic() > last_s:
                said = self._command.stderr.read_text()[-2000:]
                raise ViolationError(f"nothing for {RECOVERS_WITHIN_S:g} s:\n{said}")
            time.sleep(EVERY_S)
        return time.monotonic()

    def _look(self) -> None:
        ended = not self._command.is_running
        self._read_commits()
        self._tend()
        if self._cluster is not None and not self._cluster.has_nodes:
            self._cluster.mend()
        for replaced in self._replaced:
            if len(self._done) > replaced.n_then or time.monotonic() > replaced.last_s:
                harm.wake(replaced.command.process.pid)
        if ended:
            self._ended()

    def _make_whole(self) -> None:
        """Take back every fault, and have drivers that were replaced end as they should."""
        self._lift_all()
        for replaced in self._replaced:
            harm.wake(replaced.command.process.pid)
            ended = replaced.command.wait(STAYS_STOPPED_S)
            self._tell(f"the driver that was replaced ended with {ended.code}: {_last_line(ended.stderr)}")
            if ended.code not in {1, 130}:  # 130: it was interrupted before
                self._story.violations.append(f"a driver that was replaced ended with {ended.code}:\n{ended.stderr}")
            self._judge_words(ended)

    def _tend(self) -> None:
        """Take back the faults that have lasted long enough, and see from which the run has recovered."""
        for wound in self._story.wounds:
            if time.monotonic() >= wound.lift_at_s:
                self._lift(wound)
            if wound.took_s is None and wound.lifted_at_s is not None and len(self._done) > wound.n_then:
                wound.took_s = time.monotonic() - wound.lifted_at_s

    def _lift_all(self) -> None:
        for wound in self._story.wounds:
            self._lift(wound)

    def _lift(self, wound: Wound) -> None:
        if wound.lifted_at_s is None:
            wound.lift()
            wound.lifted_at_s, wound.n_then = time.monotonic(), len(self._done)

    def _is_recovered(self) -> bool:
        return bool(self._done) and all(wound.took_s is not None for wound in self._story.wounds)

    def _read_commits(self) -> None:
        """What was once committed stays: the simulations, and every commit file byte for byte."""
        if not (self._out / "run.json").exists():
            return
        before = {path.name: path.read_bytes() for path in self._out.glob("_commits/[0-9]*.json")}
        if any(before.get(name) != data for name, data in self._seen.items()):
            raise ViolationError("a commit file changed or is gone")
        done = set(read_log(open_folder(self._out)).done())
        if not self._done <= done:
            raise ViolationError(f"{len(self._done - done)} committed simulations are gone")
        self._seen, self._done = before, done

    def _ended(self) -> None:
        """Judge how a driver ended, and start the next one unless everything is done."""
        ended, faults = self._command.wait(), {wound.fault.kind for wound in self._since_start()}
        self._tell(f"the driver ended with {ended.code}: {_last_line(ended.stderr)}")
        self._judge_words(ended)
        if ended.code not in {self._code, *self._codes(faults, ended.stderr)}:
            raise ViolationError(f"ended with {ended.code} after {sorted(faults)}:\n{ended.stderr}")
        if ended.code == self._code:
            self._is_complete = True
        else:
            # The next one finds room on the disk, as the message asks for.
            self._lift_all()
            self._start({name: value for kind in faults for name, value in harm.ENVIRONS.get(kind, {}).items()})

    def _codes(self, faults: set[Kind], stderr: str) -> Iterator[int]:
        """What a driver may end with besides the code of a complete study."""
        yield from (CODES[kind] for kind in faults & set(CODES))
        if faults & ENDS_DRIVER or self._environ or TOO_BUSY in stderr:
            yield 1
        if faults & INTERRUPTS and not stderr:
            yield -signal.SIGTERM  # Python had not yet begun with the program
        if faults & INTERRUPTS:
            yield -signal.SIGINT  # Python's own way to exit with 130 where it was interrupted in an import

    def _judge_words(self, ended: Ended) -> None:
        if "Traceback" in ended.stderr:
            self._story.violations.append(f"a traceback:\n{ended.stderr}")
        if ended.code == 1 and not _last_line(ended.stderr).startswith("modelops-ray: "):
            self._story.violations.append(f"it ended with 1 without a line of its own:\n{ended.stderr[-1000:]}")

    def _since_start(self) -> list[Wound]:
        """Those that this driver had to do with."""
        return [w for w in self._story.wounds if w.lifted_at_s is None or w.lifted_at_s >= self._started_s]

    def _start(self, environ: dict[str, str] | None = None) -> None:
        self._environ = environ or {}
        self._is_complete = False
        self._started_s = time.monotonic()
        self._place.environ = self._always | self._environ
        if self._cluster is None:
            self._command: Command = self._place.start(self._study, self._out)
            return
        self._cluster.mend()
        run = [sys.executable, "-m", "modelops_ray", "run", str(self._study), "--out", str(self._out), "--json"]
        self._command = self._place.spawn([*run, "--address", self._cluster.address])

    def close(self) -> None:
        """End the cluster, if it ran on one."""
        if self._cluster is not None:
            self._cluster.close()

    def _tell(self, what: str) -> None:
        self._story.told.append(f"{time.monotonic() - self._began_s:7.1f} s  {what}")


def _last_line(text: str) -> str:
    with suppress(IndexError):
        return text.rstrip().splitlines()[-1]
    return ""
