"""Studies that eat, sleep and return as told, run by the real command line in processes of their own.

Owns starting, waiting and comparing; what is done to a run while it lives is the business of each test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelops_ray.store.commits import read_log
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.places import open_folder

MB = 10**6
EVERY_S = 0.05
PATIENCE_S = 240.0
SPOKEN_FOR_WITHIN_S = 2.0
OUTCOME = ["status", "cause"]
IDENTITY = ["task_id", "param_id", "replicate", "seed", "scenario"]

MODEL = '''
"""Does what its parameters say; the result is a function of parameters and seed alone."""

import os
import time

import numpy as np


def simulate(params, seed):
    held = np.ones(int(params.get("touch_mb", 0) * 1e6 / 8))
    time.sleep(params.get("sleep_s", 0))
    n_rows = int(params.get("out_mb", 0) * 1e6 / 8) or 3
    x = np.random.default_rng(seed).random(n_rows)
    # Not every NaN has the same bits, and all of them have to arrive.
    x[0] = np.array(0x7FF8000000000000 + seed % 1000, dtype=np.uint64).view(np.float64)
    return {"result": {"x": x}, "sum": {"weighted": float(x[1:].sum() * params.get("weight", 1)), "held": held.nbytes}}
'''


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; `stderr` without the lines that say how far it is."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The object that `--json` prints as the last line."""
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found


@dataclass(slots=True)
class Command:
    """A command that runs, as the leader of a process group of its own."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    def kill_alone(self) -> None:
        """Take away the driver and nothing else, as the kernel or a cluster would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def signal_group(self, number: int) -> None:
        """Do as a terminal does on Ctrl-C: everything in the foreground hears of it."""
        os.killpg(self.process.pid, number)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def wait(self, patience_s: float = PATIENCE_S) -> Ended:
        """Wait for the end."""
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"still running after {patience_s:g} s:\n{self.stderr.read_text()}") from None
        last_s = time.monotonic() + SPOKEN_FOR_WITHIN_S
        # What Ray ends as it stands is spoken for by a shell, a moment later.
        while code == 1 and "\nmodelops-ray: " not in f"\n{self.stderr.read_text()}" and time.monotonic() < last_s:
            time.sleep(0.05)
        return Ended(code, self.stdout.read_text(), self.stderr.read_text())


@dataclass(slots=True)
class Place:
    """A folder with a model in it, a cache of its own, and a short TMPDIR by which every process of it is known."""

    folder: Path
    tmp: Path
    environ: dict[str, str] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        """Write the model."""
        (self.folder / "model.py").write_text(MODEL)

    def study(self, sets: Sequence[Mapping[str, Any]], replicates: int = 1, name: str = "study") -> Path:
        """Write a study of these parameter sets."""
        path = self.folder / f"{name}.json"
        document = {
            "model": "model.py:simulate",
            "scenario": "baseline",
            "parameter_sets": [{"params": dict(params)} for params in sets],
            "sampling_method": "grid",
            "n_replicates": replicates,
            "outputs": None,
            "targets": None,
            "metadata": {},
        }
        path.write_text(json.dumps(document))
        return path

    def start(self, study: Path, out: Path | str, *options: str, within: Iterable[str] = (), **limits: str) -> Command:
        """Start `modelops-ray run`; `within` is a command that runs it, `limits` are options with a value."""
        given = {"limit_memory": "2Gi", "limit_cpus": "2"} | limits
        valued = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
        command = [*within, sys.executable, "-m", "modelops_ray", "run", str(study), "--out", str(out), "--json"]
        return self.spawn([*command, *valued, *options])

    def run(self, study: Path, out: Path | str, *options: str, within: Iterable[str] = (), **limits: str) -> Ended:
        """Run it to its end."""
        return self.start(study, out, *options, within=within, **limits).wait()

    def spawn(self, command: Sequence[str], cwd: Path | None = None) -> Command:
        """Start any command here; its outputs go to files, because Ray's processes would hold a pipe open."""
        self._started += 1
        stdout, stderr = (self.folder / f"{name}-{self._started}.txt" for name in ("stdout", "stderr"))
        unset = {"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "PYTHONPATH"}
        environ = {name: value for name, value in os.environ.items() if name not in unset}
        environ |= {"XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.tmp)} | self.environ
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environ,
                cwd=cwd or self.folder, start_new_session=True,
            )  # fmt: skip
        return Command(process, stdout, stderr)

    def processes(self, containing: str = "") -> dict[int, str]:
        """Find the living processes of this place, by command line; zombies are not alive."""
        mark = f"TMPDIR={self.tmp}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != os.getpid():
                title = _title_if(folder, mark)
                if title and containing in title:
                    found[int(folder.name)] = title
        return found

    def kill_what_is_left(self) -> dict[int, str]:
        """End every process of this place, and say which there were."""
        left = self.processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return left


def _title_if(folder: Path, mark: bytes) -> str:
    """Return the command line of a process that was started with this in its environment, else ""."""
    try:
        if not any(entry.startswith(mark) for entry in (folder / "environ").read_bytes().split(b"\0")):
            return ""
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # it has gone meanwhile, or is another user's


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition and return what it returned."""
    deadline_s = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"waited {patience_s:g} s for {what}"
        time.sleep(EVERY_S)
    return found


def n_committed(out: Path | str) -> int:
    """How many simulations have a committed row; 0 where there is no directory yet."""
    folder = open_folder(out)
    return len(read_log(folder).done()) if folder.size("run.json") is not None else 0


def wait_for_commits(command: Command, out: Path | str, at_least: int) -> int:
    """Wait until at least `at_least` simulations are committed while the command runs."""

    def reached() -> int:
        n = n_committed(out)
        assert n >= at_least or command.is_running, command.stderr.read_text()
        return n if n >= at_least else 0

    return int(wait_until(reached, f"{at_least} committed simulations"))


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a run, one per simulation, in study order."""
    found: list[dict[str, Any]] = RunReader(out).simulations().to_pylist()
    return found


def assert_equal_datasets(expected: Path | str, actual: Path | str) -> None:
    """Outputs are equal bit for bit in study order; of simulations their identity, status and cause."""
    one, other = RunReader(expected), RunReader(actual)
    assert one.output_names() == other.output_names()
    columns = [name for name in one.simulations().column_names if name.startswith("param_") and name != "param_id"]
    columns += IDENTITY + OUTCOME
    assert_equal_bits(one.simulations().select(columns), other.simulations().select(columns))
    for name in one.output_names():
        assert_equal_bits(one.output(name), other.output(name))


def assert_equal_bits(expected: pa.Table, actual: pa.Table) -> None:
    """Two tables have the same columns, and the same bits in them."""
    assert expected.schema.equals(actual.schema)
    assert expected.num_rows == actual.num_rows
    for name in expected.column_names:
        one, other = expected[name].combine_chunks(), actual[name].combine_chunks()
        assert one.is_null().equals(other.is_null()), name
        if pa.types.is_floating(one.type):
            np.testing.assert_array_equal(_bits(one), _bits(other), err_msg=name)
        else:
            assert one.equals(other), name


def _bits(values: pa.Array) -> npt.NDArray[np.uint64]:
    return values.fill_null(0.0).cast(pa.float64()).to_numpy(zero_copy_only=False).view(np.uint64)
