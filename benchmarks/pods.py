"""Worker pods: a memory cgroup, a mount namespace that shows it as a container would see it, and a main process.

Owns what a kubelet does: starts the main process, restarts it with the kubelet's back-off, and takes the whole pod when
the kernel kills in it (`memory.oom.group`, what Kubernetes does on cgroup v2). Knows nothing about engines. Where no
cgroup can be made a pod is a process group without a limit, and `Pod.group` is None.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.cgroups import MemoryCgroup, entering, memory_cgroup, why_not

LOOK_EVERY_S = 0.05
SAMPLE_EVERY_S = 0.1
BACK_OFF_S = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Pauses of a kubelet before it starts a container again, the last one for ever."""
AS_A_CONTAINER = 'mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"'


@dataclass
class Pod:
    """One pod and what happened to it; `samples` are (seconds, bytes without the page cache)."""

    name: str
    limit_bytes: int
    folder: Path
    group: MemoryCgroup | None = None
    counting: Path | None = None
    restarts: int = 0
    kernel_kills: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)
    _command: Sequence[str] = ()
    _environment: Mapping[str, str] = field(default_factory=dict)
    _main: subprocess.Popen[bytes] | None = None
    _again_s: float = 0.0
    _private: Path = Path()

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.folder / "log"

    def start(self, command: Sequence[str], environment: Mapping[str, str], private: Path | None = None) -> None:
        """Have its main process started, and again whenever it ends; `private` is another folder in every pod.

        Only the thread that looks after it starts it: two of one pod would be twice what fits.
        """
        self._private, self._environment = private or self.folder, {**environment, "TMPDIR": str(self.folder)}
        self._command = command

    def look(self, now_s: float) -> None:
        """Do what a kubelet does when something happened."""
        if self._main is None:
            if self._command and now_s >= self._again_s:
                self._spawn()
            return
        killed = self._new_kernel_kills()
        if killed or self._main.poll() is not None:
            self._end_processes()
            # While the rest was being killed, the kernel may have been faster: the next life has no part in that.
            self._new_kernel_kills()
            self._again_s = now_s + BACK_OFF_S[min(self.restarts, len(BACK_OFF_S) - 1)]
            self.restarts += 1

    def sample(self, now_s: float) -> None:
        """Note what it uses."""
        if self.group is not None:
            self.samples.append((now_s, self.group.working_set_bytes))

    def stop(self) -> None:
        """End it, for good."""
        self._command = ()
        self._end_processes()
        self._new_kernel_kills()

    def processes(self) -> list[int]:
        """The processes in it now; where it has no cgroup, its main process only."""
        if self.group is not None:
            return self.group.processes()
        return [self._main.pid] if self._main is not None else []

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._main = subprocess.Popen(
                [*self._entering(), *self._command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _entering(self) -> tuple[str, ...]:
        groups = [path for path in (self.counting, self.group.path if self.group else None) if path is not None]
        if self.group is None:
            return entering(*groups) if groups else ()
        here = self.folder if self._private == self.folder else self.folder / self._private.name
        here.mkdir(exist_ok=True)
        mounts = map(str, (self.group.path, self.group.mount, here, self._private))
        return (*entering(*groups), "unshare", "--mount", "sh", "-c", AS_A_CONTAINER, "pod", *mounts)

    def _new_kernel_kills(self) -> int:
        before = self.kernel_kills
        if self.group is not None:
            self.kernel_kills = self.group.kernel_kills
        if self.kernel_kills > before:
            (self.folder / "oom_killed").touch()
        return self.kernel_kills - before

    def _end_processes(self) -> None:
        if self._main is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._main.pid, signal.SIGKILL)
        if self.group is not None:
            self.group.kill()
        if self._main is not None:
            self._main.wait()
            self._main = None


class Kubelet:
    """Looks after pods in a thread of its own; what goes wrong in it is raised at the end."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self._pods = pods
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kubelet")

    def __enter__(self) -> Self:
        self._looking = self._threads.submit(self._look_after)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        with ExitStack() as stack:
            # Each of them, even if the stop of another raises: a second Ctrl-C must not leave pods behind.
            stack.callback(self._looking.result)
            for pod in self._pods:
                stack.callback(pod.stop)
            self._threads.shutdown()

    def _look_after(self) -> None:
        sampled_s = 0.0
        while not self._is_over.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            for pod in self._pods:
                pod.look(now_s)
            if now_s - sampled_s >= SAMPLE_EVERY_S:
                sampled_s = now_s
                for pod in self._pods:
                    pod.sample(now_s)


@contextmanager
def make_pods(n: int, limit_bytes: int | None, folder: Path, counting: Path | None) -> Iterator[list[Pod]]:
    """Make pods that are looked after; what is left of them is killed at the end."""
    with ExitStack() as stack:
        pods = []
        for i in range(n):
            home = folder / f"p{i}"
            home.mkdir()
            group = None if why_not() else stack.enter_context(memory_cgroup(limit_bytes))
            pods.append(Pod(f"pod-{i}", limit_bytes or 0, home, group, counting))
        stack.enter_context(Kubelet(pods))
        yield pods
