"""The one contract of all engines. Owns no engine.

An engine is a value: how many worker processes it wants in which pods, how to start them, and a function that runs a
case in a client process of its own. Everything an engine starts is in the pods or a process group, so whoever measures
can end it whatever it is doing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job import Work
from benchmarks.pods import Pod
from benchmarks.scenarios import Case, Layout

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Site:
    """Where an engine starts its head and its workers: a folder, the pods, and the cgroup that counts CPU time."""

    case: Case
    layout: Layout
    folder: Path
    pods: Sequence[Pod]
    counting: Path | None

    @property
    def environment(self) -> dict[str, str]:
        """The environment of everything that is started."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {
            **os.environ,
            # Ray asks for a token where the user's home has one, which not everybody finds, and else leaves one there.
            "RAY_AUTH_MODE": "disabled",
            # Under `uv run` Ray would start every worker by another `uv run`, which takes longer than some scenarios.
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "PYTHONPATH": path,
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "STARSIM_INSTALL_FONTS": "0",
        }


class NotStartedError(Exception):
    """An engine's head did not come up."""


Start = Callable[[Site], AbstractContextManager[str | None]]


@dataclass(frozen=True)
class Engine:
    """One way to run a study.

    Attributes:
        what: One sentence for the report.
        start: Starts head and workers; gives the address the client connects to.
        work: Runs the case in the client process.
        layout: The pods it wants in place of the case's.
        is_worker: Tells from its command line whether a process is one that runs simulations.
    """

    name: str
    what: str
    start: Start
    work: Work
    layout: Callable[[Case], Layout] = lambda case: case.layout
    is_worker: Callable[[str], bool] = lambda _: False


@contextmanager
def process(
    command: Sequence[str], environment: Mapping[str, str], log: Path, entering: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process group outside of the pods, and kill it at the end."""
    with log.open("ab") as file:
        started = subprocess.Popen(
            [*entering, *command],
            env=dict(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        end_group(started)


def end_group(started: subprocess.Popen[bytes]) -> None:
    """Kill a process group, its leader with it."""
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def python(*arguments: str) -> list[str]:
    """Make a command line of this interpreter."""
    return [sys.executable, *arguments]


def free_port() -> int:
    """Find a TCP port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
