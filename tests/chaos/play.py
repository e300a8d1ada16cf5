"""Plays a schedule on a real Ray: starts the run, does the faults, goes on until the study is complete, checks.

Owns when a fault is over and what must hold; how faults are done is `harm`'s, what the answers are is `answers`'.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.studies import Command, Place

from modelops_ray.store.commits import read_log
from modelops_ray.store.storage.places import open_folder
from tests.chaos import answers, harm
from tests.chaos.schedule import Fault, Kind, Schedule

EVERY_S = 0.15
RECOVERS_WITHIN_S = 120.0
GONE_WITHIN_S = 15.0
ENDS_DRIVER = {Kind.KILL_RAYLET, Kind.KILL_GCS, Kind.STOP_RAYLET, Kind.STOP_GCS}
"""Faults after which a driver may end with 1, with one line."""


@dataclass(slots=True)
class Wound:
    """A fault that was done; it is over once a simulation is committed that was not when it was taken back."""

    fault: Fault
    lift: Callable[[], None]
    lift_at_s: float
    lifted_at_s: float | None = None
    n_then: int = 0
    took_s: float | None = None


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
    shared = _shared_files()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        place = Place(Path(folder), Path(tempfile.mkdtemp(prefix="mr", dir="/tmp")))
        try:
            _Run(story, place).to_the_end(schedule.faults[:most_faults])
        except ViolationError as violation:
            story.violations.append(str(violation))
        try:
            _all_gone(story, place, shared)
        finally:
            place.kill_what_is_left()
            shutil.rmtree(place.tmp, ignore_errors=True)
    return story


def _shared_files() -> set[Path]:
    """The files in shared memory; folders there are made by no part of this program, and not by Ray."""
    return {path for path in Path("/dev/shm").iterdir() if path.is_file()}


def _all_gone(story: Story, place: Place, shared: set[Path]) -> None:
    """Nothing that runs or lies about is left soon after the end, but the folder that fork servers are started in."""
    began_s = time.monotonic()
    left: list[str] = []
    while time.monotonic() < began_s + GONE_WITHIN_S:
        files = [path for path in place.tmp.rglob("*") if path.is_file() and path.name != "lock"]
        new = _shared_files() - shared
        left = [*place.processes().values(), *map(str, files), *map(str, new)]
        if not left:
            break
        time.sleep(EVERY_S)
    story.gone_in_s = time.monotonic() - began_s
    if left:
        story.violations.append(f"left {GONE_WITHIN_S:g} s after the end: {left}")


class _Run:
    """One study, one run directory, and as many drivers as it takes."""

    def __init__(self, story: Story, place: Place) -> None:
        schedule = story.schedule
        (place.folder / "model.py").write_text(answers.MODEL)
        sets = answers.parameter_sets(schedule.n_sets, has_failures=schedule.has_failures)
        self._story = story
        self._place = place
        self._study = place.study(sets, schedule.n_replicates)
        self._out = place.folder / "run"
        self._code = 3 if schedule.has_failures else 0
        self._began_s = time.monotonic()
        self._seen: dict[str, bytes] = {}
        self._done: set[int] = set()
        self._start()

    def to_the_end(self, faults: tuple[Fault, ...]) -> None:
        """Do the faults as long as there is work left, and have the study completed and compared."""
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
        self._story.violations += answers.wrong_with(self._out, self._study)
        ending = json.loads((self._out / "progress.json").read_text())["ending"]
        if ending != "complete":
            self._story.violations.append(f"progress.json says that it ended as {ending}")

    def _do(self, fault: Fault) -> None:
        lift = harm.do(fault, self._place, self._command)
        if lift is None:
            self._tell(f"no process for: {fault.kind}")
            return
        self._tell(f"{fault.kind} at {len(self._done)} committed")
        until_s = time.monotonic() + (0.0 if fault.kind.startswith("kill") else fault.lasts_s)
        self._story.wounds.append(Wound(fault, lift, until_s))

    def _until(self, condition: Callable[[], bool]) -> float:
        """Look again and again, and start the driver again where it ended, until something holds; gives the moment."""
        last_s = time.monotonic() + RECOVERS_WITHIN_S
        while not condition() and not self._is_complete:
            self._look()
            if time.monotonic() > last_s:
                said = self._command.stderr.read_text()[-2000:]
                raise ViolationError(f"nothing for {RECOVERS_WITHIN_S:g} s:\n{said}")
            time.sleep(EVERY_S)
        return time.monotonic()

    def _look(self) -> None:
        ended = not self._command.is_running
        self._read_commits()
        self._tend()
        if ended:
            self._ended()

    def _tend(self) -> None:
        """Take back the faults that have lasted long enough, and see from which the run has recovered."""
        for wound in self._story.wounds:
            if wound.lifted_at_s is None and time.monotonic() >= wound.lift_at_s:
                wound.lift()
                wound.lifted_at_s, wound.n_then = time.monotonic(), len(self._done)
            if wound.took_s is None and wound.lifted_at_s is not None and len(self._done) > wound.n_then:
                wound.took_s = time.monotonic() - wound.lifted_at_s

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
        if "Traceback" in ended.stderr:
            self._story.violations.append(f"a traceback:\n{ended.stderr}")
        if ended.code == 1 and not _last_line(ended.stderr).startswith("modelops-ray: "):
            self._story.violations.append(f"it ended with 1 without a line of its own:\n{ended.stderr[-1000:]}")
        allowed = {self._code}
        allowed |= {-9} if Kind.KILL_DRIVER in faults else set()
        allowed |= {130} if Kind.INTERRUPT in faults else set()
        allowed |= {1} if faults & ENDS_DRIVER else set()
        if ended.code not in allowed:
            raise ViolationError(f"ended with {ended.code} after {sorted(faults)}:\n{ended.stderr}")
        if ended.code == self._code:
            self._is_complete = True
        else:
            self._start()

    def _since_start(self) -> list[Wound]:
        return self._story.wounds[self._n_before :]

    def _start(self) -> None:
        self._is_complete = False
        self._n_before = len(self._story.wounds)
        self._command: Command = self._place.start(self._study, self._out)

    def _tell(self, what: str) -> None:
        self._story.told.append(f"{time.monotonic() - self._began_s:7.1f} s  {what}")


def _last_line(text: str) -> str:
    with suppress(IndexError):
        return text.rstrip().splitlines()[-1]
    return ""
