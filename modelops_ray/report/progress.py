"""The live display of a run: a bar and two lines on a terminal, a line now and then in a pipe; always on stderr.

Owns what is shown while a run goes on. Reads snapshots only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from modelops_ray.core.forecast import Forecast
from modelops_ray.report.screen import Screen, to_stderr
from modelops_ray.report.text import count, duration, format_size, rate
from modelops_ray.session.ports import Snapshot, Watcher

LINE_EVERY_S = 10.0
_REDRAW_EVERY_S = 0.25


@contextmanager
def display(*, quiet: bool) -> Iterator[Watcher]:
    """Choose the display that fits stderr, for as long as the context lasts."""
    console = to_stderr()
    if quiet:
        yield Silence()
    elif console.is_terminal:
        with _progress(console) as progress:
            yield Bar(progress)
    else:
        yield Lines(console)


class Silence:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def planned(self, expected: Forecast) -> None:
        """Show nothing."""


@dataclass(slots=True)
class Lines:
    """A line every ten seconds, for logs and pipes."""

    console: Screen
    clock: Callable[[], float] = time.monotonic
    _last_s: float | None = None

    def note(self, text: str) -> None:
        """Print a sentence."""
        self.console.say(text)

    def planned(self, expected: Forecast) -> None:
        """Print the forecast."""
        for line in outlook(expected):
            self.console.say(line)

    def update(self, snapshot: Snapshot) -> None:
        """Print a line, not too often."""
        now_s = self.clock()
        if self._last_s is None:
            self._last_s = now_s
        if now_s - self._last_s >= LINE_EVERY_S:
            self._last_s = now_s
            done = snapshot.simulations - snapshot.left
            parts = (headline(snapshot), speed(snapshot), memory_line(snapshot))
            self.console.say(f"{done:,} of {snapshot.simulations:,} done; {'; '.join(parts)}")


class _Progress(Progress):
    """The bar, and below it two lines that a terminal of any width shows without wrapping."""

    @property
    def screen(self) -> Screen:
        """What it is shown on."""
        return cast("Screen", self.console)

    def show(self, done: int, total: int, headline: str, speed: str, memory: str) -> None:
        """Move the bar, and write the lines anew."""
        if not self.tasks:
            self.add_task("", total=total, headline="", speed="", memory="")
        self.update(self.task_ids[0], completed=done, total=total, headline=headline, speed=speed, memory=memory)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            for name in ("headline", "memory"):
                yield Text(task.fields[name], style="dim", no_wrap=True, overflow="ellipsis")


def _progress(console: Screen) -> _Progress:
    return _Progress(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        console=console,
        transient=True,
    )


@dataclass(slots=True)
class Bar:
    """A bar that moves, for terminals."""

    progress: _Progress
    clock: Callable[[], float] = time.monotonic
    _last_s: float = float("-inf")

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self.progress.console.print(text, style="dim")

    def planned(self, expected: Forecast) -> None:
        """Print the forecast above the bar."""
        for line in outlook(expected):
            self.note(line)

    def update(self, snapshot: Snapshot) -> None:
        """Move the bar."""
        now_s = self.clock()
        if now_s - self._last_s < _REDRAW_EVERY_S and snapshot.left:
            return
        self._last_s = now_s
        done = snapshot.simulations - snapshot.left
        self.progress.show(done, snapshot.simulations, headline(snapshot), speed(snapshot), memory_line(snapshot))


_LINE = re.compile(r"([0-9][0-9,]{0,20}) of ([0-9][0-9,]{0,20}) done; ([^;]*); ([^;]*); ([^;]*)")
"""What `Lines` prints, to be read by a program that follows a run elsewhere."""


@contextmanager
def following(console: Screen) -> Iterator[Callable[[str], None]]:
    """Give what shows the text a run elsewhere prints, in pieces as they come: on a terminal with its bar.

    In a pipe the text passes as it is.
    """
    if not console.is_terminal:
        yield console.verbatim
        return
    with _progress(console) as progress:
        followed = Followed(progress)
        yield followed.show
        followed.flush()


@dataclass(slots=True)
class Followed:
    """Moves a bar by the lines of progress among others, which are printed above it."""

    progress: _Progress
    _begun: str = ""

    def show(self, text: str) -> None:
        """Take the next piece; a line counts once it has ended."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._show_line(line)

    def flush(self) -> None:
        """Take what is left as the last line."""
        if self._begun:
            self._show_line(self._begun)
        self._begun = ""

    def _show_line(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            self.progress.screen.say(line)
            return
        done, total = (int(match[group].replace(",", "")) for group in (1, 2))
        self.progress.show(done, total, *map(self.progress.screen.plain, match.group(3, 4, 5)))


def headline(snapshot: Snapshot) -> str:
    """Failures, work in flight, and what was repeated."""
    state = "measuring memory" if snapshot.view.is_probing else f"{snapshot.view.outstanding:,} in flight"
    line = f"{snapshot.view.failed:,} failed, {state}"
    if snapshot.view.oom_retries:
        line += f", {snapshot.view.oom_retries:,} repeated with more memory"
    if snapshot.view.infrastructure_retries:
        line += f", {snapshot.view.infrastructure_retries:,} repeated after a loss"
    return line


def speed(snapshot: Snapshot) -> str:
    """Simulations per second, and the time left; nothing before the first has finished."""
    per_second = snapshot.per_second
    if not per_second:
        return "starting"
    return f"{rate(per_second)}, about {duration(snapshot.left / per_second)} left"


def memory_line(snapshot: Snapshot) -> str:
    """Memory asked for against what there is."""
    capacity_bytes = sum(node.memory_bytes for node in snapshot.view.capacity.nodes)
    # Chunks that wait ask for memory too; what runs cannot ask for more than there is.
    requested_bytes = min(snapshot.view.requested_bytes, capacity_bytes)
    nodes = count(len(snapshot.view.capacity.nodes), "node")
    return f"memory {format_size(requested_bytes)} of {format_size(capacity_bytes)} requested on {nodes}"


def outlook(expected: Forecast) -> Iterator[str]:
    """Say what a study will take, and what could be done instead."""
    parts = [count(expected.simulations, "simulation")]
    if expected.concurrency:
        parts.append(f"{expected.concurrency:,} at a time")
    if expected.wall_seconds is not None:
        parts.append(f"about {duration(expected.wall_seconds)}")
    if expected.request_bytes:
        parts.append(f"{format_size(expected.request_bytes)} each")
    if expected.output_bytes:
        parts.append(f"{format_size(expected.output_bytes)} of outputs")
    yield "plan: " + ", ".join(parts)
    yield "      instead: fewer replicates, or an adaptive calibration in place of a grid"
